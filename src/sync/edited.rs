//! Loads a commit in which few files differ: only those are read. Whatever may depend on other files, or may differ in
//! another way, is left to a reading of the whole commit.

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
use crate::git::tree::ChangedPath;
use crate::git::{EntryKind, GitError, Listing};
use crate::manifest::{Edited, Form, ObjectSet, Problem, SourceFile};

/// A commit with more manifests that differ is read as a whole, which does not hold all of them in memory.
const FEW: usize = 64;
/// A commit that may be larger is read as a whole, which finds out whether it has more than a list or a set may have. These
/// are somewhat less.
const MOST: Size = Size { entries: 200_000, bytes: 24 * 1024 * 1024, manifests: 24_000 };
/// A longer path is left to a reading of the whole commit, too.
const PATH_LIMIT: usize = 1024;

/// What is known of the synced commit besides its set, since it was read as a whole.
#[derive(Debug)]
pub(super) struct Reading {
    /// It has a link: the content of any file can then be what a link hides.
    has_links: bool,
    /// What it has at most, in any directory.
    size: Size,
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
        let size = Size::of(listing.iter().map(|(path, _)| path));
        Self { has_links, size, bytes, problems, status }
    }
}

/// At most as many files and directories, bytes of their paths, and files that can be manifests.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    entries: usize,
    bytes: usize,
    manifests: usize,
}

impl Size {
    /// The size of files with these paths, as if each of them had all of its directories for itself.
    fn of<P: AsRef<str>>(paths: impl Iterator<Item = P>) -> Self {
        paths.fold(Self::default(), |sum, path| {
            let path = path.as_ref();
            let depth = path.split('/').count();
            sum.with(Self {
                entries: depth,
                bytes: depth * path.len(),
                manifests: can_be_manifest(path).into(),
            })
        })
    }

    fn with(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            bytes: self.bytes + other.bytes,
            manifests: self.manifests + other.manifests,
        }
    }

    fn fits(self, most: Self) -> bool {
        self.entries <= most.entries && self.bytes <= most.bytes && self.manifests <= most.manifests
    }
}

impl Sync {
    /// Loads a commit by the files that differ. Returns `None` if it must be read as a whole.
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
        let Some(changed) = changes.plain() else { return Ok(None) };
        let changed: Vec<&ChangedPath> = changed.collect();
        let added = || changed.iter().filter(|changed| !changed.existed).map(|changed| &changed.path);
        let size = reading.size.with(Size::of(added()));
        if !size.fits(MOST) || added().any(|path| path.len() > PATH_LIMIT) {
            return Ok(None);
        }
        let Some((files, bytes)) = self.edited(&changed).await? else { return Ok(None) };
        if reading.bytes + bytes > SUM_LIMIT {
            return Ok(None);
        }
        let (status, status_files) = self.status_files_at(before, commit, changes, reading).await?;
        // Until the commit is announced, what the parser read last is not the synced commit.
        let Some(reading) = self.reading.take() else { return Ok(None) };
        let Some(mut set) = self.reread(files).await else { return Ok(None) };
        set.problems.extend(reading.problems.iter().cloned());
        set.problems.sort();
        // The path that is read may not exist any more, which is an error.
        if set.documents.is_empty() {
            return Ok(None);
        }
        info!(%commit, objects = set.documents.len(), problems = set.problems.len(), "synced");
        self.fingerprint = None;
        let at = self.at_commit(commit, before, &set, &changes.from);
        let difference = Some(changes.difference(&at));
        self.before = Some(changes.from.clone());
        self.reading = Some(Reading { size, bytes: reading.bytes + bytes, status, ..reading });
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

    /// Those of the files that differ that can be manifests, and the number of their bytes. `None` if they are too many,
    /// or not all of them can be read.
    async fn edited(&self, changed: &[&ChangedPath]) -> Result<Option<(Edited, usize)>, GitError> {
        let path = &self.git.options().path;
        let is_read = |changed: &&&ChangedPath| {
            (path.is_empty() || is_within(&changed.path, path)) && can_be_manifest(&changed.path)
        };
        let (picked, removed): (Vec<&ChangedPath>, Vec<&ChangedPath>) =
            changed.iter().filter(is_read).copied().partition(|changed| changed.exists);
        if picked.len() + removed.len() > FEW {
            return Ok(None);
        }
        let ids: Vec<String> = picked.iter().map(|changed| changed.id.clone()).collect();
        let sizes = self.git.sizes(ids.clone()).await?;
        if sizes.iter().any(|size| *size > FILE_LIMIT) {
            return Ok(None);
        }
        let small = ids.iter().zip(&sizes).filter(|(_, size)| **size <= POINTER_LIMIT);
        if !self.git.pointers(small.map(|(id, _)| id.clone()).collect()).await?.is_empty() {
            return Ok(None);
        }
        let blobs = self.git.read(ids.iter().map(|id| (id.clone(), id.clone())).collect()).await?;
        let name = |changed: &ChangedPath| below(&changed.path, path).to_owned();
        let mut edited = Edited { removed: removed.into_iter().map(name).collect(), ..Edited::default() };
        for (changed, blob) in picked.into_iter().zip(blobs) {
            let picked = Picked { path: name(changed), id: changed.id.clone(), form: Form::File };
            let source: SourceFile = input::source(picked, input::Content::of(blob.content));
            if changed.existed { &mut edited.edited } else { &mut edited.added }.push(source);
        }
        Ok(Some((edited, sizes.iter().sum())))
    }

    /// Reads the files that differ, on a thread for blocking work.
    async fn reread(&self, files: Edited) -> Option<ObjectSet> {
        let parse = Arc::clone(&self.parse);
        let work = move || {
            let mut parse = lock(&parse);
            let set = parse.reread(&files)?;
            parse.save();
            Some(set)
        };
        tokio::task::spawn_blocking(work).await.ok().flatten()
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
