//! The change of the repository that publishes a batch, whether by a commit or by a pull request.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Publish, Rendered, message};
use crate::api::Owner;
use crate::git::commit::{Author, Change};
use crate::git::proposal_branch::Maker;
use crate::settings::RepoSettings;

/// The default author.
const AUTHOR: (&str, &str) = ("Opsy", "opsy@users.noreply.local");

/// Files by their path from the root of the repository.
pub(super) type Files = Arc<BTreeMap<String, Rendered>>;

impl Publish {
    /// Returns the status files and those with setters by their path from the root of the repository.
    pub(super) fn by_path(folder: &str, status: Vec<Rendered>, setters: Vec<Rendered>) -> Files {
        let status = status.into_iter().map(|file| (format!("{folder}/{}", file.path), file));
        Arc::new(status.chain(setters.into_iter().map(|file| (file.path.clone(), file))).collect())
    }

    /// Returns this agent as the maker of commits.
    pub(super) fn maker(&self, settings: &RepoSettings, owner: &Owner) -> Maker {
        Maker { author: author(settings), owner: owner.clone(), source: self.git.source() }
    }

    /// Returns the change that commits a batch. Commits of a pull request name the `maker`.
    pub(super) fn change(
        &self,
        settings: &RepoSettings,
        branch: &str,
        files: &Files,
        maker: Option<&Maker>,
    ) -> Change {
        let edits = files.iter().map(|(path, file)| (path.clone(), file.edit.clone())).collect();
        let versions =
            files.iter().filter_map(|(path, file)| Some((path.clone(), file.version.clone()?))).collect();
        let suffix = settings.publish.as_ref().and_then(|publish| publish.commit_suffix.clone());
        let (files, maker) = (Arc::clone(files), maker.cloned());
        Change {
            branch: branch.to_owned(),
            edits,
            versions,
            settled: self.settled.clone(),
            message: Arc::new(move |paths| {
                let changed: Vec<&Rendered> = paths.iter().filter_map(|path| files.get(path)).collect();
                message::compose(&changed, suffix.as_deref(), maker.as_ref())
            }),
            author: author(settings),
            time: (self.now)(),
        }
    }
}

fn author(settings: &RepoSettings) -> Author {
    let author = settings.author.clone().unwrap_or_default();
    Author {
        name: author.name.unwrap_or_else(|| AUTHOR.0.to_owned()),
        email: author.email.unwrap_or_else(|| AUTHOR.1.to_owned()),
    }
}
