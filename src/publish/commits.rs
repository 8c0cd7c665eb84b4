//! Publishing by commits to the branch itself. It keeps track of what the branch is known to have, so that most wakeups
//! need no request to the remote.

use tracing::warn;

use super::error::PublishError;
use super::{At, Attempted, Place, Publish};
use crate::api::CommitId;
use crate::git::GitError;
use crate::git::commit::Outcome;
use crate::settings::RepoSettings;

impl Publish {
    /// Commits what differs to the branch.
    pub(super) async fn commit(
        &mut self,
        settings: &RepoSettings,
        branch: String,
    ) -> Result<Attempted, PublishError> {
        let place = self.find(branch, settings).await?;
        // First, because it takes note of the images that setters must not name.
        let batch = self.content.render();
        let setters = self.setters.edits(&self.git, &*self.content, settings).await?;
        let (is_incomplete, failure) = (batch.is_incomplete, setters.failure());
        let unchanged = Attempted { outcome: Outcome::Unchanged, is_incomplete, setters: failure.clone() };
        let files = Self::by_path(&place.folder, batch.files, setters.files);
        let change = self.change(settings, &place.branch, &files, None);
        // Most wakeups change nothing. The clone shows this without a request to the remote.
        if change.edits.is_empty() {
            return Ok(unchanged);
        }
        if !self.git.differs(&change).await? {
            // If the tip has moved meanwhile, the batch was compared with another directory.
            if self.locate(place.branch.clone(), place.folder.clone()).await? == place {
                self.content.published();
            }
            return Ok(unchanged);
        }
        let outcome = self.git.commit(&change).await?;
        if let Outcome::Pushed { commit, .. } = &outcome {
            self.note_pushed(commit, place).await;
        }
        Ok(Attempted { outcome, is_incomplete, setters: failure })
    }

    /// Finds the directory to publish to. If it is not as it was left, another hand may have changed any file there.
    async fn find(&mut self, branch: String, settings: &RepoSettings) -> Result<Place, GitError> {
        let folder = self.git.status_folder(settings.status_path());
        let place = self.locate(branch, folder).await?;
        if self.place.as_ref() != Some(&place) {
            self.content.forget();
            self.place = Some(place.clone());
        }
        Ok(place)
    }

    async fn locate(&self, branch: String, folder: String) -> Result<Place, GitError> {
        let at = At::Directory(self.git.directory(&branch, &folder).await?);
        Ok(Place { branch, folder, at })
    }

    /// Notes that a commit has the files of the last batch. If it was made on another tip than the one that was seen,
    /// the directory has changes of another hand, which the next look must find.
    async fn note_pushed(&mut self, commit: &CommitId, seen: Place) {
        match self.git.directories(commit, &seen.folder).await {
            Ok((before, now)) if At::Directory(before.clone()) == seen.at => {
                self.content.published();
                self.place = Some(Place { at: At::Directory(now), ..seen });
            }
            Ok(_) => self.place = None,
            Err(error) => {
                warn!(%error, "the pushed commit cannot be read");
                self.place = None;
            }
        }
        if self.place.is_none() {
            self.wake.notify_one();
        }
    }
}
