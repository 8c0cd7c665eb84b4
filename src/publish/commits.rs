//! Publishing by commits to the branch itself. It keeps track of what the branch is known to have, so that most wakeups
//! need no request to the remote.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;

use super::error::PublishError;
use super::{At, Attempted, Place, Publish, Rendered, message};
use crate::api::{CommitId, Owner};
use crate::git::GitError;
use crate::git::commit::{Author, Change, Outcome};
use crate::settings::RepoSettings;

/// The default author.
const AUTHOR: (&str, &str) = ("Opsy", "opsy@users.noreply.local");

/// Files by their path from the root of the repository.
pub(super) type Files = Arc<BTreeMap<String, Rendered>>;

impl Publish {
    /// Commits what differs to the branch.
    pub(super) async fn commit(
        &mut self,
        settings: &RepoSettings,
        branch: String,
    ) -> Result<Attempted, PublishError> {
        let place = self.find(branch, settings).await?;
        let setters = self.setters.edits(&self.git, &*self.content, settings).await?;
        let batch = self.content.render();
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

    /// Returns the status files and those with setters by their path from the root of the repository.
    pub(super) fn by_path(folder: &str, status: Vec<Rendered>, setters: Vec<Rendered>) -> Files {
        let status = status.into_iter().map(|file| (format!("{folder}/{}", file.path), file));
        Arc::new(status.chain(setters.into_iter().map(|file| (file.path.clone(), file))).collect())
    }

    /// Returns the change that commits a batch. Commits of a pull request name the `owner`.
    pub(super) fn change(
        &self,
        settings: &RepoSettings,
        branch: &str,
        files: &Files,
        owner: Option<&Owner>,
    ) -> Change {
        let edits = files.iter().map(|(path, file)| (path.clone(), file.edit.clone())).collect();
        let versions =
            files.iter().filter_map(|(path, file)| Some((path.clone(), file.version.clone()?))).collect();
        let suffix = settings.publish.as_ref().and_then(|publish| publish.commit_suffix.clone());
        let author = settings.author.clone().unwrap_or_default();
        let (files, owner) = (Arc::clone(files), owner.cloned());
        Change {
            branch: branch.to_owned(),
            edits,
            versions,
            settled: self.settled.clone(),
            message: Arc::new(move |paths| {
                let changed: Vec<&Rendered> = paths.iter().filter_map(|path| files.get(path)).collect();
                message::compose(&changed, suffix.as_deref(), owner.as_ref())
            }),
            author: Author {
                name: author.name.unwrap_or_else(|| AUTHOR.0.to_owned()),
                email: author.email.unwrap_or_else(|| AUTHOR.1.to_owned()),
            },
            time: (self.now)(),
        }
    }
}
