//! Pull requests that are not wanted any more: the mode, the target or the owner was changed, maybe while the agent was not
//! running. Nobody may merge their old values, so they are closed, and their branches are deleted. The remote is asked
//! once after the start and after each change.

use std::collections::BTreeSet;

use tokio::time::Instant;
use tracing::{info, warn};

use super::error::PublishError;
use super::{Publish, RETRY, pull_requests};
use crate::api::Owner;
use crate::git::proposal_branch::{Left, Maker};
use crate::settings::{PublishMode, RepoSettings};

/// Why a pull request is closed.
const FORMER: &str =
    "The settings of Opsy were changed: it does not propose changes from this branch any more.";

/// The branch that the pull request of an agent has, if it publishes by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    owner: Owner,
    branch: Option<String>,
}

/// What is known of other branches.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// What was wanted when there was no other branch.
    settled: Option<Wanted>,
    /// After a failure: when to try again.
    retry: Option<Instant>,
}

impl Former {
    /// When there is something left to do; `None` if there is not.
    pub fn due(&self) -> Option<Instant> {
        self.retry
    }
}

impl Publish {
    /// Closes the pull requests that are not wanted any more. An error does not affect what is published.
    pub(super) async fn close_former(&mut self, settings: &RepoSettings) {
        let wanted = self.wanted(settings).filter(|wanted| self.former.settled.as_ref() != Some(wanted));
        let Some(wanted) = wanted else {
            self.former.retry = None;
            return;
        };
        if self.former.retry.is_some_and(|retry| retry > Instant::now()) {
            return;
        }
        match self.close_others(settings, &wanted).await {
            Ok(()) => self.former = Former { settled: Some(wanted), retry: None },
            Err(error) => {
                warn!(%error, "pull requests that are not wanted any more cannot be closed; retrying");
                self.former.retry = Some(Instant::now() + RETRY.1);
            }
        }
    }

    /// Returns nothing as long as it is not known.
    fn wanted(&self, settings: &RepoSettings) -> Option<Wanted> {
        let owner = self.content.owner()?;
        let publish = settings.publish.clone().unwrap_or_default();
        let is_wanted =
            publish.enabled != Some(false) && publish.mode.unwrap_or_default() == PublishMode::PullRequest;
        let target = publish.branch.or_else(|| self.git.branch())?;
        let branch = is_wanted.then(|| pull_requests::branch(&owner, &target));
        Some(Wanted { owner, branch })
    }

    async fn close_others(&mut self, settings: &RepoSettings, wanted: &Wanted) -> Result<(), PublishError> {
        let names = self.git.branches_below(&pull_requests::below(&wanted.owner)).await?;
        let before = self.former.settled.clone();
        let of_owner = names.into_iter().map(|name| (name, wanted.owner.clone()));
        let earlier = before.and_then(|before| Some((before.branch?, before.owner)));
        let others: BTreeSet<(String, Owner)> = of_owner
            .chain(earlier.clone())
            .filter(|(name, _)| wanted.branch.as_ref() != Some(name))
            .collect();
        for (name, owner) in others {
            let maker: Maker = self.maker(settings, &owner);
            match self.git.left(&name, &maker).await? {
                Left::Own(tip) => self.close(&name, Some(tip), (FORMER, None)).await?,
                // A forge can keep a pull request open without its branch.
                Left::Absent if earlier.as_ref().is_some_and(|(earlier, _)| *earlier == name) => {
                    self.close(&name, None, (FORMER, None)).await?;
                }
                Left::Absent => {}
                Left::Other(commit) => {
                    info!(branch = name, %commit, "the branch has commits of others and stays");
                }
            }
        }
        Ok(())
    }
}
