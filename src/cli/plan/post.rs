//! `opsy plan --post`: the plan as the one comment on a pull request, with a commit status beside it.

use anyhow::{Context as _, bail};

use crate::agent::{self, now};
use crate::api::network::Network;
use crate::forge::{self, Client, Detected, Marker, Post, PullRequest, State, Status};
use crate::preview::render;
use crate::preview::report::Report;
use crate::settings::ForgeFlags;
use crate::telemetry::out;

/// Flags of the pull request. In GitHub Actions, GitLab CI and Gitea or Forgejo Actions, none of them is needed.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct PostFlags {
    /// Post the plan as a comment on the pull request, replace that of an earlier run, and set a commit status
    #[arg(long)]
    pub post: bool,
    #[command(flatten)]
    pub forge: ForgeFlags,
    /// Post to this pull request; default: that of the CI job
    #[arg(long, value_name = "NUMBER")]
    pub pull_request: Option<u64>,
}

/// The pull request that the plan is for.
pub struct Target {
    client: Client,
    pull_request: PullRequest,
    /// The commit of the pull request that the CI job was started for.
    head: Option<String>,
    /// The page of the job.
    job: Option<String>,
}

impl Target {
    /// Connects to the Git host and reads the pull request.
    ///
    /// # Errors
    /// What is not known, and how to set it. A plan that reads AWS is refused for a pull request from a fork: its author
    /// could read what the plan shows of the account.
    pub async fn connect(
        flags: &PostFlags,
        (is_offline, insecure_http): (bool, bool),
        network: &Network,
    ) -> anyhow::Result<Self> {
        let variables = agent::forge::variables(&flags.forge);
        let number = flags.pull_request;
        let flags = forge::Flags { number, ..agent::forge::flags(&flags.forge, insecure_http) };
        let (Detected { number, head, job, .. }, client) = forge::connect(&flags, &variables, network, now)?;
        let number = number.context("cannot detect the pull request: set --pull-request NUMBER")?;
        let pull_request = client.pull_request(number).await?;
        if pull_request.from_fork && !is_offline {
            bail!(
                "pull request {number} comes from a fork, or from a repository that the Git host does not name: use \
                 --offline, and give the job no AWS credentials"
            );
        }
        Ok(Self { client, pull_request, head, job })
    }

    /// The page of the CI job.
    pub fn job(&self) -> Option<&str> {
        self.job.as_deref()
    }

    /// Writes the comment and sets the status.
    ///
    /// # Errors
    /// The Git host refuses it.
    pub async fn post(&self, report: &Report, link: Option<&str>) -> anyhow::Result<()> {
        // A CI job may plan a merge commit, which is not the head of the pull request.
        let head = self.head.clone().or_else(|| report.head.commit.clone());
        let head = head.context("a work tree has no commit to post a plan of: name one with --head REF")?;
        let base = report.base.commit.clone().unwrap_or_default();
        let marker = Marker { target: report.target.clone(), head: head.clone(), base };
        let markdown = render::markdown(report, link);
        let posted =
            forge::post(&self.client, &Post { number: self.pull_request.number, marker, markdown }).await?;
        for line in posted.to_string().lines() {
            out::error(line);
        }
        let state = if report.has_errors() { State::Failure } else { State::Success };
        self.set_status((&report.target, &head), state, &render::headline(report)).await
    }

    /// Sets the status of a commit that cannot be planned. An older comment stays as it is.
    ///
    /// # Errors
    /// The Git host refuses it.
    pub async fn refuse(&self, target: &str, why: &str) -> anyhow::Result<()> {
        let head = self.head.as_ref().unwrap_or(&self.pull_request.head);
        self.set_status((target, head), State::Failure, &format!("cannot be planned: {why}")).await
    }

    async fn set_status(
        &self,
        (target, head): (&str, &str),
        state: State,
        description: &str,
    ) -> anyhow::Result<()> {
        let status = Status::new(target, state, description, self.job.clone());
        self.client.set_status(&self.pull_request, head, &status).await?;
        Ok(())
    }
}
