//! The status files of a commit, which Opsy wrote. They are in the synced commit, or on a branch of their own, which counts
//! only if it is trusted.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::input::{FILE_LIMIT, Origin, below};
use super::verification;
use crate::git::{EntryKind, GitError, Handle, Listing, Tip};
use crate::settings::RepoSettings;

/// Maximum size of all status files in bytes. Opsy writes some kilobytes per object.
const STATUS_LIMIT: usize = 64 * 1024 * 1024;

/// A status file as found in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFile {
    /// Relative to the status folder.
    pub path: String,
    /// Object ID of the content.
    pub blob: String,
    pub content: Arc<[u8]>,
}

/// What the status files are read for: a commit and the settings in it.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub listing: &'a Listing,
    /// The status folder, from the root.
    pub folder: &'a str,
    pub settings: &'a RepoSettings,
    pub from: Origin,
    pub now: Timestamp,
}

/// Returns the status files. Only those that are not among the `known` ones are read.
pub(super) async fn read(
    git: &Handle,
    wanted: Wanted<'_>,
    known: &[StatusFile],
) -> Result<Vec<StatusFile>, GitError> {
    match tip(git, wanted.settings, wanted.from).await? {
        StatusTip::Here => of_commit(git, wanted.listing, wanted.folder, known).await,
        StatusTip::Elsewhere(Some(tip)) if verification::is_trusted(git, &tip.commit, wanted.now).await? => {
            of_commit(git, &*git.list(&tip.commit).await?, wanted.folder, known).await
        }
        StatusTip::Elsewhere(_) => Ok(Vec::new()),
    }
}

/// Returns the status files on a branch of the remote, if it exists.
pub(super) async fn on_branch(
    git: &Handle,
    branch: &str,
    folder: &str,
) -> Result<Option<Vec<StatusFile>>, GitError> {
    match git.fetch_branch(branch).await? {
        Some(tip) => of_commit(git, &*git.list(&tip.commit).await?, folder, &[]).await.map(Some),
        None => Ok(None),
    }
}

/// Where the status files are.
enum StatusTip {
    /// In the synced commit.
    Here,
    /// On the branch that they are published to, if it exists.
    Elsewhere(Option<Tip>),
}

/// Whether they are in the synced commit, and not on a branch of their own.
pub(super) fn are_here(git: &Handle, settings: &RepoSettings) -> bool {
    other_branch(git, settings).is_none()
}

fn other_branch<'a>(git: &Handle, settings: &'a RepoSettings) -> Option<&'a str> {
    let branch = settings.publish.as_ref().and_then(|publish| publish.branch.as_deref());
    branch.filter(|branch| Some(*branch) != git.branch().as_deref())
}

async fn tip(git: &Handle, settings: &RepoSettings, from: Origin) -> Result<StatusTip, GitError> {
    let Some(branch) = other_branch(git, settings) else { return Ok(StatusTip::Here) };
    let tip = match from {
        Origin::Remote => git.fetch_branch(branch).await?,
        Origin::Clone => git.last_fetched_branch(branch).await?,
    };
    Ok(StatusTip::Elsewhere(tip))
}

/// The files that Opsy can have written. Skips a file that is too large, and all files if they are too large together.
pub(super) async fn of_commit(
    git: &Handle,
    listing: &Listing,
    folder: &str,
    known: &[StatusFile],
) -> Result<Vec<StatusFile>, GitError> {
    let known: HashMap<&str, &StatusFile> = known.iter().map(|file| (file.blob.as_str(), file)).collect();
    let files = listing.all_under(folder).filter(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }));
    let (mut all, mut new) = (Vec::new(), Vec::new());
    for (path, entry) in files {
        let path = below(path, folder).to_owned();
        match known.get(entry.id.as_str()) {
            Some(file) => all.push(StatusFile { path, ..(*file).clone() }),
            None => new.push((path, entry.id.clone())),
        }
    }
    let sizes = git.sizes(new.iter().map(|(_, id)| id.clone()).collect()).await?;
    let new: Vec<_> = new.into_iter().zip(sizes).filter(|(_, size)| *size <= FILE_LIMIT).collect();
    let known_size: usize = all.iter().map(|file| file.content.len()).sum();
    if known_size + new.iter().map(|(_, size)| size).sum::<usize>() > STATUS_LIMIT {
        tracing::warn!(limit = STATUS_LIMIT, "the status files are too large in total and are not read");
        return Ok(Vec::new());
    }
    let new: Vec<_> = new.into_iter().map(|(file, _)| file).collect();
    let blobs: Vec<String> = new.iter().map(|(_, blob)| blob.clone()).collect();
    for (read, blob) in git.read(new).await?.into_iter().zip(blobs) {
        all.push(StatusFile { path: read.path, blob, content: read.content.into() });
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}
