//! The paths at which two trees differ. Subtrees with the same ID are not read, so the cost grows with what differs. It is
//! limited, because a few small objects can name more paths than anybody can read.

use std::cmp::Ordering;

use git2::{FileMode, ObjectType, Oid, Repository, Tree, TreeEntry};

use super::list::{DEPTH_LIMIT, is_name};
use crate::api::paths::{join, shown_name};

/// A path at which two trees differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedPath {
    pub path: String,
    /// The object ID of what is there now, in hexadecimal; empty if there is nothing.
    pub id: String,
    /// There was a file, link or submodule before.
    pub existed: bool,
    /// There is one now.
    pub exists: bool,
    /// What was there and what is there now are files with names that Git allows: no links, and no submodules.
    pub is_plain: bool,
}

impl ChangedPath {
    /// Whether this is a file, and was one before.
    pub fn is_edited(&self) -> bool {
        self.is_plain && self.existed && self.exists
    }
}

/// More differences are not listed: a commit with so many concerns nearly everything. Directories that differ count, too.
const CHANGES_LIMIT: usize = 10_000;
/// Maximum number of entries of the directories that are compared. All of those above one are in memory with it.
const LOADED_LIMIT: usize = 1_000_000;

/// Returns the paths at which two trees differ outside of the directory `without`; `None` if there are too many, or in
/// directories that are too deep.
pub(in crate::git) fn changes(
    repo: &Repository,
    before: &Tree<'_>,
    now: &Tree<'_>,
    without: &str,
) -> Result<Option<Vec<ChangedPath>>, git2::Error> {
    let mut walk = Walk { repo, without, found: Vec::new(), left: CHANGES_LIMIT, loadable: LOADED_LIMIT };
    let is_whole = walk.folder((Some(before), Some(now)), "", 0)?;
    Ok(is_whole.then_some(walk.found))
}

struct Walk<'a> {
    repo: &'a Repository,
    without: &'a str,
    found: Vec<ChangedPath>,
    /// The number of differences that may still be visited.
    left: usize,
    /// The number of entries that may still be loaded.
    loadable: usize,
}

impl Walk<'_> {
    /// Compares two directories. Returns false if it stopped at a limit.
    fn folder(
        &mut self,
        (before, now): (Option<&Tree<'_>>, Option<&Tree<'_>>),
        folder: &str,
        depth: usize,
    ) -> Result<bool, git2::Error> {
        let count: usize = [before, now].into_iter().flatten().map(Tree::len).sum();
        let Some(loadable) = self.loadable.checked_sub(count).filter(|_| depth <= DEPTH_LIMIT) else {
            return Ok(false);
        };
        self.loadable = loadable;
        let entries = |tree: Option<&Tree<'_>>| -> Vec<Item> {
            tree.map(|tree| tree.iter().map(|entry| Item::of(&entry)).collect()).unwrap_or_default()
        };
        let (before, now) = (entries(before), entries(now));
        let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
        loop {
            let order = match (before.peek(), now.peek()) {
                (None, None) => return Ok(true),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.order(new),
            };
            let old = if order == Ordering::Greater { None } else { before.next() };
            let new = if order == Ordering::Less { None } else { now.next() };
            if old != new && !self.entry(old, new, folder, depth)? {
                return Ok(false);
            }
        }
    }

    /// Adds an entry that differs: two of the same name and sort, or one of them alone. Returns false at a limit.
    fn entry(
        &mut self,
        old: Option<&Item>,
        new: Option<&Item>,
        folder: &str,
        depth: usize,
    ) -> Result<bool, git2::Error> {
        let Some(either) = old.or(new) else { return Ok(true) };
        let path = join(folder, &shown_name(&either.name));
        if path == self.without {
            return Ok(true);
        }
        let Some(left) = self.left.checked_sub(1) else { return Ok(false) };
        self.left = left;
        if !either.is_tree {
            let is_plain = [old, new].into_iter().flatten().all(Item::is_plain);
            let id = new.map(|new| new.id.to_string()).unwrap_or_default();
            let (existed, exists) = (old.is_some(), new.is_some());
            self.found.push(ChangedPath { path, id, existed, exists, is_plain });
            return Ok(true);
        }
        if !is_name(&either.name) {
            return Ok(false);
        }
        let tree = |item: Option<&Item>| item.map(|item| self.repo.find_tree(item.id)).transpose();
        let (old, new) = (tree(old)?, tree(new)?);
        self.folder((old.as_ref(), new.as_ref()), &path, depth + 1)
    }
}

/// An entry of a tree.
#[derive(PartialEq, Eq)]
struct Item {
    name: Vec<u8>,
    id: Oid,
    mode: i32,
    is_tree: bool,
}

impl Item {
    fn of(entry: &TreeEntry<'_>) -> Self {
        Self {
            name: entry.name_bytes().to_vec(),
            id: entry.id(),
            mode: entry.filemode(),
            is_tree: entry.kind() == Some(ObjectType::Tree),
        }
    }

    /// Whether this is a file with a name that Git allows.
    fn is_plain(&self) -> bool {
        let modes = [FileMode::Blob, FileMode::BlobExecutable, FileMode::BlobGroupWritable];
        let is_file = modes.into_iter().any(|mode| i32::from(mode) == self.mode);
        is_file && is_name(&self.name) && str::from_utf8(&self.name).is_ok()
    }

    /// The order of Git, in which the name of a directory ends with a slash.
    fn order(&self, other: &Self) -> Ordering {
        self.sorted_by().cmp(other.sorted_by())
    }

    fn sorted_by(&self) -> impl Iterator<Item = u8> {
        self.name.iter().copied().chain(self.is_tree.then_some(b'/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::tree::TreeChange;

    /// Writes a tree of files: path and content.
    fn tree(repo: &Repository, files: &[(&str, &str)]) -> Oid {
        let mut change = TreeChange::default();
        for (path, content) in files {
            change.set(path, Some(repo.blob(content.as_bytes()).expect("a blob")));
        }
        change.apply(repo, None).expect("a tree").expect("files")
    }

    fn found(before: &[(&str, &str)], now: &[(&str, &str)], without: &str) -> Vec<(String, bool, bool)> {
        let home = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let [before, now] =
            [before, now].map(|files| repo.find_tree(tree(&repo, files)).expect("the tree").id());
        let [before, now] = [before, now].map(|id| repo.find_tree(id).expect("the tree"));
        let found = changes(&repo, &before, &now, without).expect("read").expect("few");
        found.into_iter().map(|change| (change.path, change.existed, change.exists)).collect()
    }

    #[test]
    fn added_removed_and_changed_files_are_found() {
        let before = [("README", "1"), ("a/b/c", "1"), ("a/b/d", "1"), ("a/e", "1"), ("same/x", "1")];
        let now = [("README", "2"), ("a/b/c", "1"), ("a/b/f", "1"), ("a/e", "1"), ("same/x", "1")];
        let due = [("README", true, true), ("a/b/d", true, false), ("a/b/f", false, true)];
        assert_eq!(found(&before, &now, ""), due.map(|(path, was, is)| (path.to_owned(), was, is)));
        assert_eq!(found(&before, &before, ""), []);
    }

    #[test]
    fn a_file_that_becomes_a_directory_is_both() {
        let due =
            [("x", true, false), ("x/y", false, true)].map(|(path, was, is)| (path.to_owned(), was, is));
        assert_eq!(found(&[("x", "1"), ("x-", "1")], &[("x-", "1"), ("x/y", "1")], ""), due);
    }

    #[test]
    fn the_status_directory_is_left_out() {
        let (before, now) = ([("status/a", "1"), ("z", "1")], [("status/a", "2"), ("z", "2")]);
        assert_eq!(found(&before, &now, "status"), [("z".to_owned(), true, true)]);
    }

    #[test]
    fn too_many_differences_are_not_listed() {
        let home = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let names: Vec<String> = (0..=CHANGES_LIMIT).map(|n| format!("{n:06}")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let many = tree(&repo, &files);
        let none = repo.treebuilder(None).and_then(|builder| builder.write()).expect("a tree");
        let [many, none] = [many, none].map(|id| repo.find_tree(id).expect("the tree"));
        assert_eq!(changes(&repo, &none, &many, ""), Ok(None));
    }
}
