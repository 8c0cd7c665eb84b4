//! The files of a commit as one flat, sorted list, and the tree of a commit with some files changed.
//! What `.opsyignore` leaves out is kept apart: whoever reads the list does not see it.
//! Everything Opsy reads is chosen from the list by pure functions; nothing is ever checked out, so
//! no link and no path leads outside of the repository.

mod list;

use std::borrow::Cow;
use std::collections::BTreeMap;

use git2::{FileMode, ObjectType, Oid, Repository, Tree};

use super::ignore::{self, Ignore};
use crate::api::ids::digest;

pub(super) use list::{Budget, list};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File {
        executable: bool,
    },
    /// A symbolic link and where it points to, as written.
    Link(String),
    Submodule,
    /// Its name is not UTF-8; the path shows the bytes that are not as `\xff`.
    Misnamed,
    /// A Git LFS pointer in place of the file, where the lister knows: the agent sees it in the content.
    Pointer,
}

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Object id, in hex.
    pub id: String,
    pub kind: EntryKind,
}

/// All files of a commit by their path from the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    files: BTreeMap<String, Entry>,
    /// What `.opsyignore` leaves out.
    ignored: BTreeMap<String, Entry>,
    /// Lines of ignore files that are not valid: file, line, what is wrong.
    pub broken_ignores: Vec<(String, usize, String)>,
    /// An ignore file that cannot be read, and why: which files there are is not known.
    pub unreadable_ignore: Option<(String, String)>,
}

impl Listing {
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.files.get(path)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.files.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The list without what these patterns ignore.
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

    /// The list, of which an ignore file cannot be read.
    pub(super) fn with_unreadable_ignore(mut self, path: String, why: String) -> Self {
        self.unreadable_ignore = Some((path, why));
        self
    }

    /// Does `.opsyignore` leave out a file, or anything below a folder?
    pub fn is_ignored(&self, path: &str) -> bool {
        self.ignored.contains_key(path) || below(&self.ignored, path).next().is_some()
    }

    /// Is there anything below this folder? The root is `""`.
    pub fn has_folder(&self, folder: &str) -> bool {
        self.under(folder).next().is_some()
    }

    /// The files below a folder, with their paths from the root. The root is `""`.
    pub fn under<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a Entry)> + use<'a> {
        below(&self.files, folder)
    }

    /// The same, with what `.opsyignore` leaves out.
    pub fn all_under<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, &'a Entry)> + use<'a> {
        below(&self.files, folder).chain(below(&self.ignored, folder))
    }

    /// One value that changes exactly when a file outside of `without` does.
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

impl Entry {
    /// Git's mode, in octal.
    pub fn mode(&self) -> &'static str {
        match self.kind {
            EntryKind::File { executable: false } | EntryKind::Misnamed | EntryKind::Pointer => "100644",
            EntryKind::File { executable: true } => "100755",
            EntryKind::Link(_) => "120000",
            EntryKind::Submodule => "160000",
        }
    }
}

/// Is `path` the folder itself, or below it? Nothing is within the root by this name: `""` excludes nothing.
pub fn is_within(path: &str, folder: &str) -> bool {
    !folder.is_empty()
        && path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path and every folder above it: `a/b/c` gives `a`, `a/b`, `a/b/c`.
pub fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain(std::iter::once(path))
}

/// A name, with the bytes that are not UTF-8 as `\xff`, so that two names never become one.
pub fn shown_name(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |shown, chunk| {
        let odd = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        shown + chunk.valid() + &odd.collect::<String>()
    })
}

/// A path or the target of a link for a message: its start, where it is longer than people read.
pub fn short(path: &str) -> Cow<'_, str> {
    const SHOWN: usize = 200;
    match path.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &path[..end]).into(),
        None => path.into(),
    }
}

/// Two relative paths in one; either may be empty.
pub fn join(folder: &str, path: &str) -> String {
    match (folder, path) {
        ("", path) => path.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, path) => format!("{folder}/{path}"),
    }
}

/// A path in plain form: no `.`, no doubled or trailing slash. `None` where it is absolute or leaves the root.
pub fn plain(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    if path.starts_with('/') {
        return None;
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Do two trees differ in nothing but what lies at this path?
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

/// A change to one folder's content: files to put (their blob) or remove, and changed folders.
#[derive(Debug, Default)]
pub(super) struct Folder {
    files: BTreeMap<String, Option<Oid>>,
    folders: BTreeMap<String, Folder>,
}

impl Folder {
    /// Puts a blob at a path in plain form, or removes what is there.
    pub fn set(&mut self, path: &str, blob: Option<Oid>) {
        match path.split_once('/') {
            Some((folder, rest)) => self.folders.entry(folder.to_owned()).or_default().set(rest, blob),
            None => drop(self.files.insert(path.to_owned(), blob)),
        }
    }

    /// The tree that results from `base`; `None` when nothing is left in it. Whatever the change does
    /// not name stays as it is; a folder that would have to replace a file or link is an error.
    pub fn apply(&self, repo: &Repository, base: Option<&Tree<'_>>) -> Result<Option<Oid>, git2::Error> {
        let mut builder = repo.treebuilder(base)?;
        for (name, blob) in &self.files {
            match blob {
                Some(blob) => drop(builder.insert(name, *blob, FileMode::Blob.into())?),
                None if builder.get(name)?.is_some() => builder.remove(name)?,
                None => {}
            }
        }
        for (name, folder) in &self.folders {
            let below = match builder.get(name)? {
                Some(entry) if entry.kind() == Some(ObjectType::Tree) => Some(repo.find_tree(entry.id())?),
                Some(_) => {
                    return Err(git2::Error::from_str(&format!("{name} is a file or link, not a folder")));
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

    fn file(id: &str) -> Entry {
        Entry { id: id.to_owned(), kind: EntryKind::File { executable: false } }
    }

    fn listing(files: &[(&str, &str)]) -> Listing {
        files.iter().map(|(path, id)| ((*path).to_owned(), file(id))).collect()
    }

    #[test]
    fn plain_paths() {
        assert_eq!(plain("./a//b/../c/"), Some("a/c".to_owned()));
        assert_eq!(plain("."), Some(String::new()));
        assert_eq!(plain("../a"), None);
        assert_eq!(plain("a/../../b"), None);
        assert_eq!(plain("/etc/passwd"), None);
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
        let home = tempfile::tempdir().expect("a folder");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let blob = |text: &str| repo.blob(text.as_bytes()).expect("a blob");
        let mut first = Folder::default();
        for path in ["a", "keep/b", "status/x", "status/deep/y"] {
            first.set(path, Some(blob(path)));
        }
        let base = first.apply(&repo, None).expect("a tree").expect("files");
        let base = repo.find_tree(base).expect("the tree");
        let mut second = Folder::default();
        second.set("status/x", Some(blob("new")));
        second.set("status/deep/y", None);
        second.set("status/never/was", None);
        let tree = second.apply(&repo, Some(&base)).expect("a tree").expect("files");
        let list = list(&repo, &repo.find_tree(tree).expect("the tree")).expect("a list");
        assert_eq!(list.iter().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "keep/b", "status/x"]);
        let mut third = Folder::default();
        third.set("a/b", Some(blob("b")));
        assert!(third.apply(&repo, Some(&base)).is_err());
    }
}
