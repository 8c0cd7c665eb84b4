//! `opsy plan --post`: the plan as the one comment on a pull request, with a commit status beside it.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

use crate::agent::now;
use crate::api::network::Network;
use crate::forge::{self, CONTEXT, Client, Detected, Kind, Marker, Post, State, Status};
use crate::preview::render;
use crate::preview::report::Report;
use crate::settings;
use crate::telemetry::out;

/// Flags of the pull request. In GitHub Actions, GitLab CI and Gitea or Forgejo Actions, none of them is needed.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct PostFlags {
    /// Write the plan as a comment on the pull request, in place of the one of an earlier run, and set a commit status.
    /// The token is read from the variable OPSY_FORGE_TOKEN, or from the one of the CI
    #[arg(long)]
    pub post: bool,
    /// The forge; default: that of the CI
    #[arg(long, value_name = "FORGE", value_parser = kind)]
    pub forge: Option<Kind>,
    /// The address of the API of the forge; default: that of the CI
    #[arg(long, value_name = "URL")]
    pub forge_api: Option<String>,
    /// The repository on the forge, as OWNER/NAME; default: that of the CI
    #[arg(long, value_name = "OWNER/NAME")]
    pub forge_repository: Option<String>,
    /// The number of the pull request; default: that of the CI
    #[arg(long, value_name = "NUMBER")]
    pub pull_request: Option<u64>,
}

fn kind(text: &str) -> Result<Kind, String> {
    match text.to_ascii_lowercase().as_str() {
        "github" => Ok(Kind::GitHub),
        "gitlab" => Ok(Kind::GitLab),
        "gitea" | "forgejo" => Ok(Kind::Gitea),
        _ => Err("must be github, gitlab, gitea or forgejo".to_owned()),
    }
}

/// The pull request that the plan is for.
pub struct Target {
    client: Client,
    detected: Detected,
}

impl Target {
    /// Connects to the forge. Nothing is requested yet.
    ///
    /// # Errors
    /// What is not known, and how to set it. A plan of a fork with access to AWS is refused: its author could read what
    /// the plan shows of the account.
    pub fn connect(
        flags: &PostFlags,
        (is_offline, insecure_http): (bool, bool),
        network: &Network,
    ) -> anyhow::Result<Self> {
        let variables: BTreeMap<String, String> = settings::environment();
        let flags = forge::Flags {
            kind: flags.forge,
            api: flags.forge_api.clone(),
            repository: flags.forge_repository.clone(),
            number: flags.pull_request,
            insecure_http,
        };
        let (detected, client) = forge::connect(&flags, &variables, network, now)?;
        if detected.from_fork == Some(true) && !is_offline {
            bail!("the pull request comes from a fork: plan it with --offline, without credentials for AWS");
        }
        Ok(Self { client, detected })
    }

    /// The page of the CI job.
    pub fn job(&self) -> Option<&str> {
        self.detected.job.as_deref()
    }

    /// Writes the comment and sets the status.
    ///
    /// # Errors
    /// The forge refuses it.
    pub async fn post(&self, report: &Report) -> anyhow::Result<()> {
        let number = self.detected.number.context("no pull request is known: set --pull-request NUMBER")?;
        // The CI may plan a merge commit, which is not the head of the pull request.
        let head = self.detected.head.clone().or_else(|| report.head.commit.clone());
        let head = head.context("a work tree has no commit: plan one with --head REF")?;
        let base = report.base.commit.clone().unwrap_or_default();
        let marker = Marker { target: report.target.clone(), head: head.clone(), base };
        let post = Post { number, marker, markdown: render::markdown(report, self.job()) };
        let posted = forge::post(&self.client, &post).await?;
        for line in posted.to_string().lines() {
            out::error(line);
        }
        let state = if report.has_errors() { State::Failure } else { State::Success };
        let url = self.detected.job.clone();
        let status = Status::new(CONTEXT, state, &render::headline(report), url);
        self.client.set_status(&posted.pull_request, &head, &status).await?;
        Ok(())
    }
}
