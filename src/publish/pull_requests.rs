//! Publishing by a pull request: the files are committed to a branch of this agent's own, and one pull request is opened
//! for it, updated, and closed when nothing differs from its target any more. The branch is rebuilt from all files
//! whenever something has changed, so it always contains the whole difference.

use std::sync::Arc;

use futures::future::BoxFuture;
use tracing::{info, warn};

use super::change::Files;
use super::error::PublishError;
use super::{At, Attempted, Place, Publish, pull_request_text};
use crate::api::{CommitId, Owner};
use crate::forge::pull_request::{self, Proposal, Wish};
use crate::forge::{self, Client, ForgeError};
use crate::git::GitError;
use crate::git::commit::Outcome;
use crate::git::proposal_branch::{ProposalBranch, Proposed};
use crate::git::push::Pushed;
use crate::settings::RepoSettings;

/// Connects to the forge. It is called for each use, because tokens are replaced.
pub type Connect = Arc<dyn Fn() -> BoxFuture<'static, Result<Client, ForgeError>> + Send + Sync>;

/// Every branch of a pull request starts with this.
const PREFIX: &str = "opsy/";
/// Why a pull request is closed.
const OBSOLETE: &str = "Nothing differs from the target branch, so there is nothing to merge.";

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
        let proposal = ProposalBranch {
            name: branch.clone(),
            change: self.change(settings, &target, &files, Some(&owner)),
            owner,
            status: folder.clone(),
            is_incomplete: batch.is_incomplete,
        };
        let outcome = match self.git.propose(&proposal).await? {
            Proposed::Rejected { message } => Outcome::Rejected { message },
            Proposed::Obsolete { tip } => {
                self.close(&branch, tip).await?;
                Outcome::Unchanged
            }
            Proposed::Current { pushed, paths, content } => {
                self.open(&branch, &target, (&paths, &files), content).await?;
                pushed.map_or(Outcome::Unchanged, |commit| Outcome::Pushed { commit, paths })
            }
        };
        if !matches!(outcome, Outcome::Rejected { .. }) {
            self.content.published();
            self.place = Some(self.place_of(&target, &branch, &folder, version).await?);
        }
        // All of it was compared with the remote, whatever follows.
        Ok(Attempted { outcome, is_incomplete: false, setters: failure })
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

    /// Opens the pull request, or updates it.
    async fn open(
        &self,
        branch: &str,
        target: &str,
        (paths, files): (&[String], &Files),
        content: String,
    ) -> Result<(), PublishError> {
        let wish = Wish::Open(Proposal {
            target: target.to_owned(),
            base: target.to_owned(),
            title: pull_request_text::title(paths, files),
            text: pull_request_text::text(paths, files, target),
            content,
        });
        let proposed = forge::propose(&self.client().await?, branch, &wish).await?;
        info!(branch, result = ?proposed, "the pull request is up to date");
        Ok(())
    }

    /// Closes the pull request and then deletes its branch, if there is one.
    async fn close(&self, branch: &str, tip: Option<CommitId>) -> Result<(), PublishError> {
        let Some(tip) = tip else { return Ok(()) };
        let wish = Wish::Obsolete { why: OBSOLETE.to_owned() };
        let proposed = forge::propose(&self.client().await?, branch, &wish).await?;
        info!(branch, result = ?proposed, "there is nothing to propose");
        match self.git.delete_branch(branch, &tip).await? {
            Pushed::Done => info!(branch, "the branch of the pull request was deleted"),
            Pushed::Lost => info!(branch, "the branch of the pull request was changed by others and stays"),
            Pushed::Rejected { message } => {
                warn!(branch, error = message, "the server rejects the deletion of the branch, which stays");
            }
        }
        Ok(())
    }

    async fn client(&self) -> Result<Client, ForgeError> {
        let missing = || ForgeError::Config("this agent has no access to a Git host".to_owned());
        self.connect.as_ref().ok_or_else(missing)?().await
    }
}

/// Returns the branch of the pull request for a target. Agents with different owners never share one.
pub fn branch(owner: &Owner, target: &str) -> String {
    pull_request::branch(&format!("{}/", pull_request::branch(PREFIX, owner.as_str())), target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_names_owner_and_target() {
        let name = |owner: &str, target: &str| branch(&Owner::parse(owner).expect("an owner"), target);
        assert_eq!(name("team-a", "main"), "opsy/team-a/main");
        assert_ne!(name("team.a", "main"), name("team_a", "main"));
        assert_ne!(name("team", "release/1"), name("team", "release-1"));
    }
}
