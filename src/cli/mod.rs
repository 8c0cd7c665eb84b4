//! The command line: one file per subcommand. Subcommands print and make requests, and the agent decides. `place`
//! selects the state directory or the cluster that they use.

pub mod accept;
pub mod annotate;
pub mod approve;
pub mod cancel;
pub mod check;
pub mod completion;
pub mod crds;
pub mod format;
pub mod history;
pub mod live;
pub mod logs;
pub mod man;
mod network;
pub mod objects;
pub mod outline;
pub mod packer_run;
pub mod place;
pub mod plan;
pub mod progress;
pub mod ready;
pub mod reconcile;
pub mod rollback;
pub mod run;
pub mod select;
pub mod status;
pub mod suspend;
pub mod table;
pub mod target;
pub mod trace;
pub mod tree;
pub mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::settings;

/// The exit codes, as the help prints them. The README has the same table.
const EXIT_CODES: &str = "\
Exit codes:
  0  The command succeeded. run --once: every object is in sync, and nothing is in progress.
  1  The command failed: wrong flags, no repository, no access. validate: a manifest is invalid. plan: the same, or
     an object needs attention because of the change, or something could not be planned. check: a check failed or is
     undetermined. status, tree: an object that is named does not exist, or a selected one cannot be read. trace:
     neither status nor the tags of the image name its builder. reconcile: the object is not ready afterwards, or was
     not reconciled within --timeout.
  2  run --once: an object is stalled or failing, a file is invalid, or status could not be published.
     plan --detailed-exitcode: the change has an effect.
  3  run --once: an object waits on purpose: suspended, disabled, no image yet; an approval, a soak, a window or a
     freeze of a rollout.";

/// Build machine images and roll them out to EKS node groups as declared in a Git repository.
#[derive(Parser)]
#[command(name = "opsy", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent: build images, roll them out, commit status
    Run(Box<settings::RunFlags>),
    /// Check access and rights as `opsy run` needs them, without changing anything
    Check(Box<check::Args>),
    /// Check manifests without access to AWS or a cluster
    Validate(validate::Args),
    /// Show what a change to the repository would build, roll out and remove, without doing it
    Plan(Box<plan::Args>),
    /// Show the status of builders and refreshers
    #[command(after_help = place::RULE)]
    Status(status::Args),
    /// Print the last runs of a builder or the last rollouts of a refresher
    #[command(after_help = place::RULE)]
    History(history::Args),
    /// Print the repository, builders, images, refreshers and node groups as a tree
    #[command(after_help = place::RULE)]
    Tree(tree::Args),
    /// Print where an image comes from and where it runs
    #[command(after_help = place::RULE)]
    Trace(trace::Args),
    /// Print the Packer log of the last run of a builder
    #[command(after_help = place::RULE)]
    Logs(logs::Args),
    /// Trigger a reconciliation and print the result
    #[command(after_help = place::RULE)]
    Reconcile(reconcile::Args),
    /// Suspend an object without a commit: start nothing new for it
    #[command(after_help = place::RULE)]
    Suspend(annotate::Named),
    /// Resume an object after `opsy suspend` or `opsy cancel`
    #[command(after_help = place::RULE)]
    Resume(annotate::Named),
    /// Cancel the running build of a builder
    #[command(after_help = place::RULE)]
    Cancel(annotate::Named),
    /// Approve a wave of a rollout for the image that is rolled out now
    #[command(after_help = place::RULE)]
    Approve(approve::Args),
    /// Commit that a refresher returns to its previous image
    #[command(after_help = place::RULE)]
    Rollback(Box<rollback::Args>),
    /// Accept a commit of a rewritten branch, or one without a trusted signature, so that the agent applies it
    #[command(after_help = place::RULE)]
    Accept(accept::Args),
    /// Print the custom resource definitions, or write all schemas to a directory
    Crds(crds::Args),
    /// Print the script with which a shell completes commands and names of objects
    #[command(after_help = "Example: opsy completion bash > /etc/bash_completion.d/opsy")]
    Completion(completion::Args),
    /// Print the manual page, or write the pages of all subcommands
    Man(man::Args),
    /// Run Packer once in the directory of a run
    #[command(hide = true)]
    PackerRun(packer_run::Args),
}

/// Parses the command line and runs the subcommand.
pub fn main() -> anyhow::Result<ExitCode> {
    // SAFETY: the program begins here, and nothing has started a thread.
    unsafe {
        settings::forget_empty_variables();
        settings::tidy_no_proxy();
        completion::answer::<Cli>();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Not clap's exit code 2, which `run --once` uses for "stalled". Help and version are not errors.
            let _ = error.print();
            return Ok(if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
    };
    match cli.command {
        Command::Run(flags) => run::run(*flags),
        Command::Check(args) => check::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Status(args) => status::run(&args),
        Command::History(args) => history::run(&args),
        Command::Tree(args) => tree::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Suspend(args) => suspend::suspend(&args),
        Command::Resume(args) => suspend::resume(&args),
        Command::Cancel(args) => cancel::run(&args),
        Command::Approve(args) => approve::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Accept(args) => accept::run(&args),
        Command::Crds(args) => crds::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::Man(args) => man::run::<Cli>(&args),
        Command::PackerRun(args) => Ok(packer_run::run(&args)),
    }
}

/// Formats an error with its causes. Skips a cause that the text already contains, since some errors repeat their
/// cause.
pub fn format_error(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        said if said.contains(&cause) => said.to_owned(),
        said => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use clap::CommandFactory as _;

    #[test]
    fn a_cause_is_printed_once() {
        let error = anyhow!("no such file").context("reading k: no such file").context("no cluster");
        assert_eq!(super::format_error(&error), "no cluster: reading k: no such file");
    }

    #[test]
    fn the_readme_explains_the_exit_codes_with_the_same_words() {
        let table = include_str!("../../README.md").lines().filter_map(|line| line.strip_prefix("| "));
        let words = |text: &str| {
            let text = text.to_lowercase().replace([' ', '\n', '`', '.', ',', ';', ':', '|'], "");
            text.replace("statusandtree", "statustree")
        };
        let rows: Vec<String> = table
            .filter(|row| matches!(row.split_once(" |"), Some(("0" | "1" | "2" | "3", _))))
            .map(words)
            .collect();
        assert_eq!(rows.len(), 4, "{rows:?}");
        let help = words(super::EXIT_CODES.strip_prefix("Exit codes:").expect("the title"));
        assert_eq!(rows.concat(), help);
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
