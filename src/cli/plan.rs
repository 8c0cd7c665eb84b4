//! `opsy plan [DIR]`: what a change to the repository would build, roll out and remove, and why. Reads only.

mod post;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::ValueEnum;

use super::{format_error, network, target};
use crate::agent::planning::{self, Request};
use crate::api::Owner;
use crate::api::fence::Rule;
use crate::forge;
use crate::preview::render;
use crate::preview::report::Report;
use crate::settings::{self, AddressFlags, NetworkFlags};
use crate::telemetry::out;
use post::{PostFlags, Target};

/// Exit code of `--detailed-exitcode` if the change has an effect.
const CHANGES: u8 = 2;

/// Format of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people
    Text,
    /// JSON for machines
    Json,
    /// Markdown for a comment on a pull request
    Markdown,
}

#[derive(clap::Args)]
pub struct Args {
    /// Plan the clone of the repository that contains this directory
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Compare with this commit, branch or tag; default: the branch that the agent reads, as of the last fetch
    #[arg(long, value_name = "REF")]
    base: Option<String>,
    /// Plan this commit, branch or tag, merged into the base; default: the work tree with its uncommitted files
    #[arg(long, value_name = "REF")]
    head: Option<String>,
    /// Plan by the published status files, without access to AWS or to other repositories. Use this for pull requests
    /// from forks
    #[arg(long)]
    offline: bool,
    /// Plan as if the agent had not published any status yet
    #[arg(long)]
    no_status: bool,
    /// Assume that the agent reads the repository from this address; default: the remote `origin`
    #[arg(long, env = "OPSY_REPO", value_name = "URL|PATH")]
    repo: Option<String>,
    /// Assume that the agent reads this branch; default: the target branch of the pull request in a CI job, else the
    /// branch that --base names, else the default branch of the remote
    #[arg(long, env = "OPSY_BRANCH")]
    branch: Option<String>,
    /// Read manifests from this directory of the repository
    #[arg(long, env = "OPSY_PATH", default_value = "")]
    path: String,
    /// Assume this owner, if the agent was started with the flag
    #[arg(long, env = "OPSY_AGENT_ID", value_name = "ID")]
    agent_id: Option<String>,
    /// Assume these rules for clusters, if the agent was started with the flag
    #[arg(long, env = "OPSY_CLUSTERS", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    clusters: Vec<Rule>,
    #[command(flatten)]
    addresses: AddressFlags,
    #[command(flatten)]
    network: NetworkFlags,
    /// Read the Secrets of template repositories from `DIR/<namespace>/<secret>/<KEY>`
    #[arg(long, env = "OPSY_SECRETS", value_name = "DIR")]
    secrets: Option<PathBuf>,
    /// Output format
    #[arg(long, short, value_enum, default_value = "text")]
    output: Format,
    /// In Markdown, link to the whole output at this https address; default with --post: the CI job
    #[arg(long, value_name = "URL")]
    link: Option<String>,
    #[command(flatten)]
    post: PostFlags,
    /// Exit with code 2 if the change has an effect, and with 0 if it has none. If nothing differs from the base, what
    /// would happen anyway counts
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Prints the plan. The exit code is 1 if a manifest is invalid, if an object needs attention because of the change, or
/// if something could not be planned.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // SAFETY: the command has started no thread yet.
    let network = unsafe { network::read(&args.network)? };
    let request = request(args)?;
    target::wait(async {
        let Some(flags) = Some(&args.post).filter(|flags| flags.post) else {
            let report = planning::plan(&request, &network).await?;
            print(&report, args, args.link.as_deref())?;
            return Ok(exit_code(&report, args.detailed_exitcode));
        };
        // First: the pull request decides whether AWS may be read.
        let target = Target::connect(flags, (args.offline, args.addresses.insecure_http), &network).await?;
        let report = match planning::plan(&request, &network).await {
            Ok(report) => report,
            Err(error) => {
                let refused = target.refuse(&request.target(), &format!("{error:#}")).await;
                return Err(unplanned(error, refused.err()));
            }
        };
        let link = args.link.as_deref().or(target.job());
        print(&report, args, link)?;
        target.post(&report, link).await?;
        Ok(exit_code(&report, args.detailed_exitcode))
    })
}

/// Returns why nothing was planned, with the error of the commit status, if that could not be set either.
fn unplanned(error: anyhow::Error, of_status: Option<anyhow::Error>) -> anyhow::Error {
    match of_status {
        None => error,
        Some(other) => {
            let (error, other) = (format_error(&error), format_error(&other));
            anyhow!("{error}\nthe commit status was not set: {other}")
        }
    }
}

fn request(args: &Args) -> anyhow::Result<Request> {
    let agent_id = args.agent_id.as_deref().map(Owner::parse).transpose()?;
    Ok(Request {
        folder: args.folder.clone(),
        base: args.base.clone(),
        head: args.head.clone(),
        repository: args.repo.clone(),
        branch: args.branch.clone(),
        target_branch: forge::target_branch(&settings::environment()),
        path: args.path.clone(),
        agent_id,
        is_offline: args.offline,
        has_no_status: args.no_status,
        addresses: args.addresses.clone(),
        secrets: args.secrets.clone(),
        clusters: args.clusters.clone(),
    })
}

fn print(report: &Report, args: &Args, link: Option<&str>) -> anyhow::Result<()> {
    let text = match args.output {
        Format::Text => render::text(report),
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
        Format::Markdown => render::markdown(report, link),
    };
    out::document(text.trim_end())?;
    Ok(())
}

fn exit_code(report: &Report, is_detailed: bool) -> ExitCode {
    if report.has_errors() {
        ExitCode::FAILURE
    } else if is_detailed && report.has_changes() {
        ExitCode::from(CHANGES)
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_the_plan_is_not_lost_when_the_status_cannot_be_set() {
        let plan = || anyhow!("no such branch").context("reading main");
        assert_eq!(format_error(&unplanned(plan(), None)), "reading main: no such branch");
        let both = unplanned(plan(), Some(anyhow!("HTTP 403").context("GitHub refuses")));
        assert_eq!(
            format_error(&both),
            "reading main: no such branch\nthe commit status was not set: GitHub refuses: HTTP 403"
        );
    }
}
