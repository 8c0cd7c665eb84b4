//! Pull requests that are not wanted any more: the mode, the target or the owner was changed, maybe while the agent was not
//! running. Their old values must not be merged, so they are closed, and their branches are deleted. The remote is asked
//! once after the start and after each change. A branch is deleted only if a pull request shows that it is one of these,
//! because a person can have copied it.

use std::collections::BTreeSet;

use tokio::time::Instant;
use tracing::{info, warn};

use super::error::PublishError;
use super::{Publish, RETRY, pull_requests};
use crate::api::{Class, Owner};
use crate::forge::{self, PullRequest, pull_request};
use crate::git::proposal_branch::Left;
use crate::settings::{PublishMode, RepoSettings};

/// Why a pull request is closed.
const FORMER: &str =
    "The settings of Opsy were changed: it does not propose changes from this branch any more.";

/// The branch that the pull request of an agent has, if it publishes by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    owner: Owner,
    branch: Option<String>,
    /// The branch that is published to, or its pull request merged into.
    target: String,
}

/// What is known of other branches.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// What was wanted when nothing was left to do.
    settled: Option<Wanted>,
    /// After a failure: when to try again.
    retry: Option<Instant>,
    /// What was done since something else is wanted.
    progress: Option<Progress>,
}

#[derive(Debug)]
struct Progress {
    wanted: Wanted,
    /// The branches that are done with.
    done: BTreeSet<String>,
    /// The branches that were this agent's, as a pull request showed before it was closed.
    own: BTreeSet<String>,
}

impl Former {
    /// When there is something left to do; `None` if there is not.
    pub fn due(&self) -> Option<Instant> {
        self.retry
    }

    /// Returns the branch of the pull request that was wanted before, and its owner.
    fn earlier(&self) -> Option<(String, Owner)> {
        let before = self.settled.clone()?;
        Some((before.branch?, before.owner))
    }
}

impl Publish {
    /// Closes the pull requests that are not wanted any more. An error does not affect what is published. One that passes
    /// by itself is retried; after others, a person must change something first.
    pub(super) async fn close_former(&mut self, settings: &RepoSettings) {
        let wanted = self.wanted(settings).filter(|wanted| self.former.settled.as_ref() != Some(wanted));
        let Some(wanted) = wanted else {
            (self.former.retry, self.former.progress) = (None, None);
            return;
        };
        if self.former.progress.as_ref().is_none_or(|progress| progress.wanted != wanted) {
            let (done, own) = Default::default();
            self.former.progress = Some(Progress { wanted: wanted.clone(), done, own });
        } else if self.former.retry.is_some_and(|retry| retry > Instant::now()) {
            return;
        }
        if self.close_others(settings, &wanted).await {
            self.former = Former { settled: Some(wanted), ..Former::default() };
        } else {
            self.former.retry = Some(Instant::now() + RETRY.1);
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
        Some(Wanted { owner, branch, target })
    }

    /// Returns whether nothing is left to do. An error of one branch does not stop the others.
    async fn close_others(&mut self, settings: &RepoSettings, wanted: &Wanted) -> bool {
        let names = match self.git.branches_below(&pull_requests::below(&wanted.owner)).await {
            Ok(names) => names,
            Err(error) => return is_final(None, &error.into()),
        };
        let of_owner = names.into_iter().map(|name| (name, wanted.owner.clone()));
        let kept = [wanted.branch.clone(), Some(wanted.target.clone()), self.git.branch()];
        let others: BTreeSet<(String, Owner)> = of_owner
            .chain(self.former.earlier())
            .filter(|(name, _)| !kept.iter().flatten().any(|kept| kept == name))
            .collect();
        let mut is_done = true;
        for (name, owner) in others {
            if self.former.progress.as_ref().is_some_and(|progress| progress.done.contains(&name)) {
                continue;
            }
            let is_final = match self.close_other(settings, &name, &owner).await {
                Ok(()) => true,
                Err(error) => is_final(Some(&name), &error),
            };
            is_done &= is_final;
            if let Some(progress) = self.former.progress.as_mut().filter(|_| is_final) {
                progress.done.insert(name);
            }
        }
        is_done
    }

    async fn close_other(
        &mut self,
        settings: &RepoSettings,
        name: &str,
        owner: &Owner,
    ) -> Result<(), PublishError> {
        let is_earlier = self.former.earlier().is_some_and(|(earlier, _)| earlier == name);
        let tip = match self.git.left(name, &self.maker(settings, owner)).await? {
            Left::Own(tip) => Some(tip),
            // A forge can keep a pull request open without its branch.
            Left::Absent if is_earlier => None,
            Left::Absent => return Ok(()),
            Left::Other(commit) => {
                info!(branch = name, %commit, "the branch has commits of others and stays");
                return Ok(());
            }
        };
        let listed = self.list(name).await?;
        let of_agent = of_agent(&listed, owner, name);
        let progress = self.former.progress.as_mut();
        let is_own = progress.is_some_and(|progress| {
            if is_earlier || !of_agent.is_empty() {
                progress.own.insert(name.to_owned());
            }
            progress.own.contains(name)
        });
        if !is_own {
            info!(branch = name, "the branch has no pull request of this agent and stays");
            return Ok(());
        }
        let open: Vec<&PullRequest> = of_agent.into_iter().filter(|pull| pull.is_open).collect();
        forge::close_former(&self.client().await?, &open, FORMER).await?;
        info!(branch = name, closed = open.len(), "nothing is proposed from this branch any more");
        match tip {
            Some(tip) => self.delete(name, &tip).await,
            None => Ok(()),
        }
    }
}

/// Returns the pull requests that an agent with this owner opened from a branch. A copy of the branch has another name than
/// the target of the pull request leads to.
fn of_agent<'a>(listed: &'a [PullRequest], owner: &Owner, branch: &str) -> Vec<&'a PullRequest> {
    let is_own = |pull: &&PullRequest| {
        pull_request::target(pull).is_some_and(|target| pull_requests::branch(owner, &target) == branch)
    };
    listed.iter().filter(is_own).collect()
}

/// Reports an error, and returns whether trying again cannot help.
fn is_final(branch: Option<&str>, error: &PublishError) -> bool {
    let is_final = !matches!(error.class(), Class::Transient { .. } | Class::Conflict);
    match is_final {
        true => warn!(
            branch, %error,
            "pull requests that are not wanted any more cannot be closed: close them by hand, or restart the agent \
             after the cause is removed"
        ),
        false => {
            warn!(branch, %error, "pull requests that are not wanted any more cannot be closed; retrying")
        }
    }
    is_final
}
