//! Publishing by a pull request: the files are committed to a branch of this agent's own, and one pull request is opened
//! for it, updated, and closed when nothing differs from its target any more. The branch is rebuilt from all files
//! whenever something has changed, so it always contains the whole difference. What a person declined is not pushed.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use tracing::{info, warn};

use super::change::Files;
use super::error::PublishError;
use super::{At, Attempted, Place, Publish, pull_request_text};
use crate::api::{CommitId, Owner};
use crate::forge::pull_request::{self, Known, Proposal, Why, Wish};
use crate::forge::{self, Client, ForgeError, PullRequest};
use crate::git::GitError;
use crate::git::commit::Outcome;
use crate::git::proposal_branch::{ProposalBranch, Proposed};
use crate::git::push;
use crate::settings::RepoSettings;

/// Connects to the forge. It is called for each use, because tokens are replaced.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<Client, ForgeError>> + Send + Sync>;

/// Every branch of a pull request starts with this.
const PREFIX: &str = "opsy/";
/// Why a pull request is closed.
const OBSOLETE: &str = "Nothing differs from the target branch, so there is nothing to merge.";

/// The result of a push.
struct Pushed {
    proposed: Proposed,
    /// The pull requests from the branch, if the forge was asked for them before and none was open. A person can have
    /// merged or closed an open one since then, so such a list is read again.
    listed: Option<Vec<PullRequest>>,
    /// One may be open.
    is_any_open: bool,
    known: Known,
    /// Why the forge did not list them.
    error: Option<ForgeError>,
}

impl Publish {
    /// Proposes what differs from the target.
    pub(super) async fn propose(
        &mut self,
        settings: &RepoSettings,
        target: String,
    ) -> Result<Attempted, PublishError> {
        let owner = self.content.owner().ok_or(GitError::NotSynced)?;
        let branch = branch(&owner, &target);
        let folder = self.git.status_folder(settings.status_path());
        // First, because it takes note of the images that setters must not name.
        let mut batch = self.content.render();
        let setters = self.setters.edits(&self.git, &*self.content, settings).await?;
        let (version, failure) = (setters.version(), setters.failure());
        let place = self.place_of(&target, &branch, &folder, version.clone()).await?;
        let is_known = self.place.as_ref() == Some(&place);
        if is_known && batch.files.is_empty() {
            let is_incomplete = batch.is_incomplete;
            return Ok(Attempted { outcome: Outcome::Unchanged, is_incomplete, setters: failure });
        }
        self.content.forget();
        batch = self.content.render();
        // Until everything is as it must be, the next attempt starts from the beginning.
        self.place = None;
        let files = Self::by_path(&folder, batch.files, setters.files);
        let maker = self.maker(settings, &owner);
        let proposal = ProposalBranch {
            name: branch.clone(),
            change: self.change(settings, &target, &files, Some(&maker)),
            owner,
            declined: BTreeSet::new(),
            status: folder.clone(),
            is_incomplete: batch.is_incomplete,
        };
        let Pushed { proposed, listed, is_any_open, mut known, error } = self.push(proposal).await?;
        let outcome = match (proposed, error) {
            (Proposed::Rejected { message }, _) => return Ok(rejected(message, failure)),
            (_, Some(error)) => return Err(error.into()),
            (Proposed::Declined, None) => Outcome::Unchanged,
            (Proposed::Obsolete { tip }, None) => {
                if is_any_open || tip.is_some() {
                    self.close(&branch, tip, listed).await?;
                }
                known.is_open = false;
                Outcome::Unchanged
            }
            (Proposed::Current { pushed, paths, content }, None) => {
                // If the request fails, it may have taken effect.
                self.pulls = Some((branch.clone(), Known { is_open: true, ..known.clone() }));
                let open = self.open(&branch, &target, (&paths, &files), content.clone(), listed);
                known.is_open = open.await?;
                if !known.is_open {
                    known.declined.insert(content);
                }
                pushed.map_or(Outcome::Unchanged, |commit| Outcome::Pushed { commit, paths })
            }
        };
        self.content.published();
        self.place = Some(self.place_of(&target, &branch, &folder, version).await?);
        self.pulls = Some((branch, known));
        // All of it was compared with the remote, whatever follows.
        Ok(Attempted { outcome, is_incomplete: false, setters: failure })
    }

    /// Pushes a change, unless a person declined it. As long as no pull request was open, the forge need not be asked
    /// before: only this agent opens one. If one was open, an error of the forge does not stop the push.
    async fn push(&mut self, mut proposal: ProposalBranch) -> Result<Pushed, PublishError> {
        let before = self.pulls.as_ref().filter(|(branch, _)| *branch == proposal.name);
        let before = before.map(|(_, known)| known.clone());
        if let Some(known) = before.clone().filter(|known| !known.is_open) {
            proposal.declined.clone_from(&known.declined);
            let proposed = self.git.propose(&proposal).await?;
            // A person can have reopened what was declined.
            if proposed != Proposed::Declined {
                return Ok(Pushed { proposed, listed: None, is_any_open: false, known, error: None });
            }
        }
        let (listed, known, error) = match (self.list(&proposal.name).await, before) {
            (Ok(listed), _) => {
                let known = Known::of(&listed, &proposal.change.branch);
                self.pulls = Some((proposal.name.clone(), known.clone()));
                (Some(listed), known, None)
            }
            (Err(error), Some(known)) if known.is_open => (None, known, Some(error)),
            (Err(error), _) => return Err(error.into()),
        };
        let is_any_open = listed.as_ref().is_none_or(|listed| listed.iter().any(|pull| pull.is_open));
        proposal.declined = if known.is_open { BTreeSet::new() } else { known.declined.clone() };
        let proposed = self.git.propose(&proposal).await?;
        Ok(Pushed { proposed, listed: listed.filter(|_| !is_any_open), is_any_open, known, error })
    }

    pub(super) async fn list(&self, branch: &str) -> Result<Vec<PullRequest>, ForgeError> {
        self.client().await?.pull_requests_from(branch).await
    }

    async fn place_of(
        &self,
        target: &str,
        branch: &str,
        folder: &str,
        setters: String,
    ) -> Result<Place, GitError> {
        let mut tips = [None, None];
        for (tip, branch) in tips.iter_mut().zip([target, branch]) {
            *tip = self.git.last_fetched_branch(branch).await?.map(|tip| tip.commit);
        }
        Ok(Place { branch: target.to_owned(), folder: folder.to_owned(), at: At::Proposal { tips, setters } })
    }

    /// Opens the pull request, or updates it. Returns whether it is open now.
    async fn open(
        &self,
        branch: &str,
        target: &str,
        (paths, files): (&[String], &Files),
        content: String,
        listed: Option<Vec<PullRequest>>,
    ) -> Result<bool, PublishError> {
        let wish = Wish::Open(Proposal {
            target: target.to_owned(),
            base: target.to_owned(),
            title: pull_request_text::title(paths, files),
            text: pull_request_text::text(paths, files, target),
            content,
        });
        let proposed = forge::propose_after(&self.client().await?, branch, &wish, listed).await?;
        info!(branch, result = ?proposed, "the pull request is up to date");
        Ok(!matches!(proposed, forge::Proposed::Left(Why::Declined(_))))
    }

    /// Closes the pull request, and then deletes its branch, if there is one. A forge can keep it open without its branch.
    async fn close(
        &self,
        branch: &str,
        tip: Option<CommitId>,
        listed: Option<Vec<PullRequest>>,
    ) -> Result<(), PublishError> {
        let wish = Wish::Obsolete { why: OBSOLETE.to_owned() };
        let proposed = forge::propose_after(&self.client().await?, branch, &wish, listed).await?;
        info!(branch, result = ?proposed, "there is nothing to propose");
        match tip {
            Some(tip) => self.delete(branch, &tip).await,
            None => Ok(()),
        }
    }

    /// Deletes the branch of a pull request, if it is at this commit.
    pub(super) async fn delete(&self, branch: &str, tip: &CommitId) -> Result<(), PublishError> {
        match self.git.delete_branch(branch, tip).await? {
            push::Pushed::Done => info!(branch, "the branch of the pull request was deleted"),
            push::Pushed::Lost => {
                info!(branch, "the branch of the pull request was changed by others and stays")
            }
            push::Pushed::Rejected { message } => {
                warn!(branch, error = message, "the server rejects the deletion of the branch, which stays");
            }
        }
        Ok(())
    }

    pub(super) async fn client(&self) -> Result<Client, ForgeError> {
        let missing = || ForgeError::Config("this agent has no access to a Git host".to_owned());
        self.connect.as_ref().ok_or_else(missing)?().await
    }
}

fn rejected(message: String, setters: Option<String>) -> Attempted {
    Attempted { outcome: Outcome::Rejected { message }, is_incomplete: false, setters }
}

/// Returns the branch of the pull request for a target. Agents with different owners never share one.
pub fn branch(owner: &Owner, target: &str) -> String {
    pull_request::branch(&below(owner), target)
}

/// Returns what the branches of an owner start with.
pub(super) fn below(owner: &Owner) -> String {
    format!("{}/", pull_request::branch(PREFIX, owner.as_str()))
}

/// Whether this can be the branch of the pull request of any agent for a target.
pub fn is_branch(name: &str, target: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(&pull_request::branch("/", target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_names_owner_and_target() {
        let name = |owner: &str, target: &str| branch(&Owner::parse(owner).expect("an owner"), target);
        assert_eq!(name("team-a", "main"), "opsy/team-a/main");
        assert_ne!(name("team.a", "main"), name("team_a", "main"));
        assert!(is_branch(&name("team.a", "release/1"), "release/1"));
        assert!(!is_branch(&name("team-a", "main"), "release/1") && !is_branch("feature/main", "main"));
        assert_ne!(name("team", "release/1"), name("team", "release-1"));
        let below = below(&Owner::parse("team").expect("an owner"));
        assert!(name("team", "main").starts_with(&below) && !name("team-a", "main").starts_with(&below));
    }
}
