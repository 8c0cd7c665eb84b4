//! The files of a commit as a flat, sorted list, and changes to the tree of a commit. Files that `.opsyignore` excludes
//! are kept separately, so that readers of the list do not see them. Pure functions select from the list what Opsy
//! reads. Nothing is ever checked out, so that no link and no path leads out of the repository.

mod changes;
mod list;
mod lookup;

use std::collections::BTreeMap;

use git2::{FileMode, ObjectType, Oid, Repository, Tree};

use super::entry::Entry;
use super::ignore::{self, Ignore};
use crate::api::ids::digest;
use crate::api::paths::is_within;

pub use changes::ChangedPath;
pub(super) use changes::changes;
pub(super) use list::{Budget, list};
pub(super) use lookup::Lookup;

/// All files of a commit, by their path from the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    files: BTreeMap<String, Entry>,
    /// Files that `.opsyignore` excludes.
    ignored: BTreeMap<String, Entry>,
    /// Invalid lines of ignore files: file, line number and error.
    pub broken_ignores: Vec<(String, usize, String)>,
    /// An ignore file that cannot be read, and why: it is then unknown which files are excluded.
    pub unreadable_ignore: Option<(String, String)>,
}

impl Listing {
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.files.get(path)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.files.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Returns the list without the files that these patterns exclude.
    pub fn without(mut self, ignore: &Ignore) -> Self {
        self.broken_ignores.clone_from(&ignore.broken);
        let other = self.files.iter().filter_map(|(path, entry)| ignore::not_a_file(path, &entry.kind));
        let mut unreadable = ignore.unreadable.iter().cloned().chain(other);
        let mut decisions = ignore.decisions();
        let folder = |file: &str| file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        self.unreadable_ignore = unreadable.find(|(file, _)| !decisions.ignores_folder(&folder(file)));
        if !ignore.is_empty() {
            let all = std::mem::take(&mut self.files).into_iter();
            (self.ignored, self.files) = all.partition(|(path, _)| decisions.ignores(path));
        }
        if decisions.are_too_many() {
            self.unreadable_ignore = Some((ignore::FILE.to_owned(), ignore::too_much_work()));
        }
        self
    }

    /// Returns the list, with an ignore file that cannot be read.
    pub(super) fn with_unreadable_ignore(mut self, path: String, why: String) -> Self {
        self.unreadable_ignore = Some((path, why));
        self
    }

    /// Returns true if `.opsyignore` excludes a file, or anything below a directory.
    pub fn is_ignored(&self, path: &str) -> bool {
        self.ignored.contains_key(path) || below(&self.ignored, path).next().is_some()
    }

    /// Returns true if there is anything below this directory. The root is `""`.
    pub fn has_folder(&self, folder: &str) -> bool {
        self.under(folder).next().is_some()
    }

    /// Returns the files below a directory, with their paths from the root. The root is `""`.
    pub fn under<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a Entry)> + use<'a> {
        below(&self.files, folder)
    }

    /// As `under`, with the files that `.opsyignore` excludes.
    pub fn all_under<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a Entry)> + use<'a> {
        below(&self.files, folder).chain(below(&self.ignored, folder))
    }

    /// Returns a hash that changes if and only if a file outside of the directory `without` changes.
    pub fn fingerprint(&self, without: &str) -> String {
        let mut parts = Vec::new();
        for (path, entry) in self.iter().filter(|(path, _)| !is_within(path, without)) {
            parts.extend([path, entry.mode(), &entry.id]);
        }
        digest(&parts)
    }
}

impl FromIterator<(String, Entry)> for Listing {
    fn from_iter<I: IntoIterator<Item = (String, Entry)>>(entries: I) -> Self {
        Self { files: entries.into_iter().collect(), ..Self::default() }
    }
}

fn below<'a>(
    files: &'a BTreeMap<String, Entry>,
    folder: &str,
) -> impl Iterator<Item = (&'a str, &'a Entry)> + use<'a> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    files
        .range(prefix.clone()..)
        .take_while(move |(path, _)| path.starts_with(&prefix))
        .map(|(path, entry)| (path.as_str(), entry))
}

/// Returns true if two trees are equal except for the content at this path.
pub(super) fn equal_without(repo: &Repository, one: &Tree<'_>, other: &Tree<'_>, path: &[&str]) -> bool {
    let Some((name, below)) = path.split_first() else { return true };
    let others = |tree: &Tree<'_>| -> Vec<(Vec<u8>, Oid, i32)> {
        let entries = tree.iter().filter(|entry| entry.name_bytes() != name.as_bytes());
        entries.map(|entry| (entry.name_bytes().to_vec(), entry.id(), entry.filemode())).collect()
    };
    let at = |tree: &Tree<'_>| tree.get_name(name).map(|entry| (entry.id(), entry.kind()));
    let same_there = || match (at(one), at(other)) {
        (one, other) if one == other => true,
        _ if below.is_empty() => true,
        (Some((one, Some(ObjectType::Tree))), Some((other, Some(ObjectType::Tree)))) => {
            match (repo.find_tree(one), repo.find_tree(other)) {
                (Ok(one), Ok(other)) => equal_without(repo, &one, &other, below),
                _ => false,
            }
        }
        _ => false,
    };
    others(one) == others(other) && same_there()
}

/// A change to the content of one directory: files to write (with their blob) or to remove, and changed subdirectories.
#[derive(Debug, Default)]
pub(super) struct TreeChange {
    files: BTreeMap<String, Option<Oid>>,
    folders: BTreeMap<String, TreeChange>,
}

impl TreeChange {
    /// Sets the blob at a path in plain form, or removes the file at the path.
    pub fn set(&mut self, path: &str, blob: Option<Oid>) {
        match path.split_once('/') {
            Some((folder, rest)) => self.folders.entry(folder.to_owned()).or_default().set(rest, blob),
            None => drop(self.files.insert(path.to_owned(), blob)),
        }
    }

    /// Returns the tree that results from `base`, or `None` if it is empty. Paths that the change does not name keep
    /// their content, and executable files stay executable. A directory in place of a file or link is an error.
    pub fn apply(&self, repo: &Repository, base: Option<&Tree<'_>>) -> Result<Option<Oid>, git2::Error> {
        let mut builder = repo.treebuilder(base)?;
        for (name, blob) in &self.files {
            match blob {
                Some(blob) => {
                    let executable = i32::from(FileMode::BlobExecutable);
                    let is_executable =
                        builder.get(name)?.is_some_and(|entry| entry.filemode() == executable);
                    let mode = if is_executable { executable } else { FileMode::Blob.into() };
                    drop(builder.insert(name, *blob, mode)?);
                }
                None if builder.get(name)?.is_some() => builder.remove(name)?,
                None => {}
            }
        }
        for (name, folder) in &self.folders {
            let below = match builder.get(name)? {
                Some(entry) if entry.kind() == Some(ObjectType::Tree) => Some(repo.find_tree(entry.id())?),
                Some(_) => {
                    return Err(git2::Error::from_str(&format!(
                        "{name} is a file or link, but must be a directory"
                    )));
                }
                None => None,
            };
            match folder.apply(repo, below.as_ref())? {
                Some(tree) => drop(builder.insert(name, tree, FileMode::Tree.into())?),
                None if below.is_some() => builder.remove(name)?,
                None => {}
            }
        }
        if builder.is_empty() { Ok(None) } else { builder.write().map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::entry::EntryKind;

    fn file(id: &str) -> Entry {
        Entry { id: id.to_owned(), kind: EntryKind::File { executable: false } }
    }

    fn listing(files: &[(&str, &str)]) -> Listing {
        files.iter().map(|(path, id)| ((*path).to_owned(), file(id))).collect()
    }

    #[test]
    fn the_fingerprint_leaves_out_one_folder() {
        let before = listing(&[("a.yaml", "1"), ("status/x", "1"), ("status.yaml", "1")]);
        let ours = listing(&[("a.yaml", "1"), ("status/x", "2"), ("status/y", "2"), ("status.yaml", "1")]);
        let theirs = listing(&[("a.yaml", "1"), ("status/x", "1"), ("status.yaml", "2")]);
        assert_eq!(before.fingerprint("status"), ours.fingerprint("status"));
        assert_ne!(before.fingerprint("status"), theirs.fingerprint("status"));
        assert_ne!(before.fingerprint(""), ours.fingerprint(""));
    }

    #[test]
    fn under_a_folder_is_not_under_its_neighbour() {
        let list = listing(&[("a/x", "1"), ("a-b/x", "1"), ("a.yaml", "1"), ("a/b/y", "1")]);
        assert_eq!(list.under("a").map(|(path, _)| path).collect::<Vec<_>>(), ["a/b/y", "a/x"]);
        assert_eq!(list.under("").count(), 4);
        assert!(!list.has_folder("a/x") && list.has_folder("a/b"));
    }

    #[test]
    fn a_tree_is_changed_only_where_named() {
        let home = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let blob = |text: &str| repo.blob(text.as_bytes()).expect("a blob");
        let mut first = TreeChange::default();
        for path in ["a", "keep/b", "status/x", "status/deep/y"] {
            first.set(path, Some(blob(path)));
        }
        let base = first.apply(&repo, None).expect("a tree").expect("files");
        let base = repo.find_tree(base).expect("the tree");
        let mut second = TreeChange::default();
        second.set("status/x", Some(blob("new")));
        second.set("status/deep/y", None);
        second.set("status/never/was", None);
        let tree = second.apply(&repo, Some(&base)).expect("a tree").expect("files");
        let list = list(&repo, &repo.find_tree(tree).expect("the tree")).expect("a list");
        assert_eq!(list.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "keep/b", "status/x"]);
        let mut third = TreeChange::default();
        third.set("a/b", Some(blob("b")));
        assert!(third.apply(&repo, Some(&base)).is_err());
    }
}
