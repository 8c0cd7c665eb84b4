//! Loads a commit that edits few files and neither adds nor removes any: only those are read. Whatever may depend on other
//! files, or may differ in another way, is left to a reading of the whole commit.

use std::sync::Arc;

use tracing::info;

use super::difference::Changes;
use super::input::{self, FILE_LIMIT, Picked, SUM_LIMIT, below, can_be_manifest};
use super::{StatusFile, Sync, Synced, status_files};
use crate::api::CommitId;
use crate::api::files::POINTER_LIMIT;
use crate::api::lock::lock;
use crate::api::paths::{is_within, join};
use crate::git::templates::At;
use crate::git::templates::choice::OpsyFiles;
use crate::git::{EntryKind, GitError, Listing};
use crate::manifest::{Form, ObjectSet, Problem, SourceFile};

/// A commit with more edited manifests is read as a whole, which does not hold all of them in memory.
const FEW: usize = 64;

/// What is known of the synced commit besides its set, since it was read as a whole.
#[derive(Debug)]
pub(super) struct Reading {
    /// It has a link: the content of any file can then be what a link hides.
    has_links: bool,
    /// At most this many bytes are in its manifests.
    bytes: usize,
    /// Problems of files that are no manifests.
    problems: Vec<Problem>,
    /// The ID of the status folder when its files were read, if it existed.
    status: Option<String>,
}

impl Reading {
    pub fn new(listing: &Listing, bytes: usize, problems: Vec<Problem>, status: Option<String>) -> Self {
        let has_links = listing.iter().any(|(_, entry)| matches!(entry.kind, EntryKind::Link(_)));
        Self { has_links, bytes, problems, status }
    }
}

impl Sync {
    /// Loads a commit by the files that it edits. Returns `None` if it must be read as a whole.
    pub(super) async fn load_edited(
        &mut self,
        before: &Synced,
        commit: &CommitId,
        changes: &Changes,
    ) -> Result<Option<Arc<Synced>>, GitError> {
        let Some(reading) = self.reading.as_ref().filter(|reading| !reading.has_links) else {
            return Ok(None);
        };
        if !status_files::are_here(&self.git, &before.set.settings) {
            return Ok(None);
        }
        let (status, status_files) = self.status_files_at(before, commit, changes, reading).await?;
        let Some((files, bytes)) = self.edited(changes).await? else { return Ok(None) };
        if reading.bytes + bytes > SUM_LIMIT {
            return Ok(None);
        }
        // Until the commit is announced, what the parser read last is not the synced commit.
        let Some(reading) = self.reading.take() else { return Ok(None) };
        let Some(mut set) = self.reread(files).await else { return Ok(None) };
        set.problems.extend(reading.problems.iter().cloned());
        set.problems.sort();
        // A new object may have a status file that was not read.
        if set.documents.differences(&before.set.documents).any(|(_, known)| known.is_none()) {
            return Ok(None);
        }
        info!(%commit, objects = set.documents.len(), problems = set.problems.len(), "synced");
        self.fingerprint = None;
        let at = self.at_commit(commit, before, &set, &changes.from);
        let difference = Some(changes.difference(&at));
        self.before = Some(changes.from.clone());
        self.reading = Some(Reading { bytes: reading.bytes + bytes, status, ..reading });
        let synced = Synced { commit: commit.clone(), set: Arc::new(set), status_files, difference };
        Ok(Some(self.announce(at, synced)))
    }

    /// The ID of the status folder and its files. Only if the ID is another one, those that differ are read: an object
    /// that is created again later gets its status from them.
    async fn status_files_at(
        &self,
        before: &Synced,
        commit: &CommitId,
        changes: &Changes,
        reading: &Reading,
    ) -> Result<(Option<String>, Arc<Vec<StatusFile>>), GitError> {
        let folder = &changes.from.opsy_files.status;
        let tree = self.git.directory_of(commit, folder).await?;
        if tree == reading.status {
            return Ok((tree, Arc::clone(&before.status_files)));
        }
        let listing = self.git.list(commit).await?;
        let files = status_files::of_commit(&self.git, &listing, folder, &before.status_files).await?;
        Ok((tree, Arc::new(files)))
    }

    /// The edited files that can be manifests, and the number of their bytes. `None` if any other kind of change is
    /// possible.
    async fn edited(&self, changes: &Changes) -> Result<Option<(Vec<SourceFile>, usize)>, GitError> {
        let path = &self.git.options().path;
        let Some(edited) = changes.edited() else { return Ok(None) };
        let edited = edited.filter(|changed| path.is_empty() || is_within(&changed.path, path));
        let picked: Vec<Picked> = edited
            .filter(|changed| can_be_manifest(&changed.path))
            .map(|changed| Picked {
                path: below(&changed.path, path).to_owned(),
                id: changed.id.clone(),
                form: Form::File,
            })
            .collect();
        if picked.len() > FEW {
            return Ok(None);
        }
        let ids: Vec<String> = picked.iter().map(|picked| picked.id.clone()).collect();
        let sizes = self.git.sizes(ids.clone()).await?;
        if sizes.iter().any(|size| *size > FILE_LIMIT) {
            return Ok(None);
        }
        let small = ids.iter().zip(&sizes).filter(|(_, size)| **size <= POINTER_LIMIT);
        if !self.git.pointers(small.map(|(id, _)| id.clone()).collect()).await?.is_empty() {
            return Ok(None);
        }
        let blobs = self.git.read(ids.iter().map(|id| (id.clone(), id.clone())).collect()).await?;
        let files = picked.into_iter().zip(blobs);
        let files = files.map(|(picked, blob)| input::source(picked, input::Content::of(blob.content)));
        Ok(Some((files.collect(), sizes.iter().sum())))
    }

    /// Reads the edited files, on a thread for blocking work.
    async fn reread(&self, files: Vec<SourceFile>) -> Option<ObjectSet> {
        let parse = Arc::clone(&self.parse);
        tokio::task::spawn_blocking(move || lock(&parse).reread(&files)).await.ok().flatten()
    }

    /// The commit for templates. The files of Opsy are mostly the same as before.
    fn at_commit(&self, commit: &CommitId, before: &Synced, set: &ObjectSet, from: &At) -> At {
        let opsy_files = match Arc::ptr_eq(&set.own_files, &before.set.own_files) {
            true => Arc::clone(&from.opsy_files),
            false => self.opsy_files(from.opsy_files.status.clone(), set),
        };
        At { commit: commit.clone(), opsy_files }
    }

    pub(super) fn opsy_files(&self, status: String, set: &ObjectSet) -> Arc<OpsyFiles> {
        let path = &self.git.options().path;
        let files = set.own_files.iter().map(|file| join(path, file)).collect();
        Arc::new(OpsyFiles { status, files })
    }
}
