//! The tree of a commit as a flat list of files. It is limited, because a few small objects can name more paths than
//! fit into memory.

use std::collections::{BTreeMap, HashMap};

use git2::{FileMode, ObjectType, Odb, Oid, Repository, Tree};

use super::Listing;
use crate::api::paths::{join, short, shown_name};
use crate::git::entry::{Entry, EntryKind};

/// The maximum depth of directories: deeper than any repository, and not too deep for the stack.
pub(super) const DEPTH_LIMIT: usize = 100;
/// The maximum number of files and directories of a commit, and of bytes in their paths and in the targets of links. A
/// few objects can name one directory or link so often that the list fills the memory. The largest repositories of
/// templates have some thousand files.
const ENTRY_LIMIT: usize = 250_000;
const BYTES_LIMIT: usize = 32 * 1024 * 1024;
/// The maximum number of bytes of a path, and of the target of a symbolic link; the same as in Linux.
const PATH_LIMIT: usize = 4096;

/// Returns the files of a tree.
pub(in crate::git) fn list(repo: &Repository, tree: &Tree<'_>) -> Result<Listing, git2::Error> {
    let mut lister = Lister {
        repo,
        odb: repo.odb()?,
        entries: BTreeMap::new(),
        targets: HashMap::new(),
        budget: Budget::default(),
    };
    lister.folder(tree, ("", false), 0)?;
    Ok(lister.entries.into_iter().collect())
}

/// The number of entries and bytes that a list has so far.
#[derive(Default)]
pub(in crate::git) struct Budget {
    count: usize,
    bytes: usize,
}

impl Budget {
    /// Counts a path. Returns why the list is too large, if it is.
    pub fn spend(&mut self, path: &str) -> Result<(), String> {
        self.count += 1;
        if path.len() > PATH_LIMIT {
            return Err(format!("has a path of more than {PATH_LIMIT} bytes, {:?}: remove it", short(path)));
        }
        self.charge(path)
    }

    /// Counts the target of a symbolic link.
    pub fn spend_target(&mut self, target: &str) -> Result<(), String> {
        self.charge(target)
    }

    fn charge(&mut self, text: &str) -> Result<(), String> {
        self.bytes += text.len();
        if self.count <= ENTRY_LIMIT && self.bytes <= BYTES_LIMIT {
            return Ok(());
        }
        Err(format!(
            "has more than {ENTRY_LIMIT} files and directories, or {BYTES_LIMIT} bytes of paths and link targets: keep \
             manifests and templates in a smaller repository"
        ))
    }
}

/// The state of listing a tree.
struct Lister<'a> {
    repo: &'a Repository,
    odb: Odb<'a>,
    entries: BTreeMap<String, Entry>,
    /// Targets of links by their blobs. A blob can have many names, and is read once.
    targets: HashMap<Oid, String>,
    budget: Budget,
}

impl Lister<'_> {
    fn folder(
        &mut self,
        tree: &Tree<'_>,
        (folder, misnamed): (&str, bool),
        depth: usize,
    ) -> Result<(), git2::Error> {
        let refused = |why: String| Err::<(), _>(git2::Error::from_str(&why));
        if depth > DEPTH_LIMIT {
            return refused(format!("{} is more than {DEPTH_LIMIT} directories deep", short(folder)));
        }
        for entry in tree {
            let name = entry.name_bytes();
            if !is_name(name) {
                return refused(format!(
                    "{:?} has an entry named {:?}: remove it",
                    short(folder),
                    short(&shown_name(name))
                ));
            }
            let path = join(folder, &shown_name(name));
            self.budget.spend(&path).or_else(refused)?;
            let misnamed = misnamed || str::from_utf8(name).is_err();
            let kind = match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) => {
                    self.folder(&self.repo.find_tree(entry.id())?, (&path, misnamed), depth + 1)?;
                    continue;
                }
                _ if misnamed => EntryKind::Misnamed,
                (Some(ObjectType::Commit), _) => EntryKind::Submodule,
                (_, mode) if mode == i32::from(FileMode::Link) => {
                    EntryKind::Link(self.link_target(&path, entry.id())?)
                }
                (_, mode) => EntryKind::File { executable: mode == i32::from(FileMode::BlobExecutable) },
            };
            self.entries.insert(path, Entry { id: entry.id().to_string(), kind });
        }
        Ok(())
    }

    fn link_target(&mut self, path: &str, id: Oid) -> Result<String, git2::Error> {
        let refused = |why: String| git2::Error::from_str(&why);
        let target = match self.targets.get(&id) {
            Some(target) => target.clone(),
            None => {
                // Only the header is read: a blob of a gigabyte, or a tree, can have the mode of a link.
                let (size, kind) = self.odb.read_header(id)?;
                if kind != ObjectType::Blob {
                    return Err(refused(format!("{:?} is not a symbolic link: remove it", short(path))));
                }
                if size > PATH_LIMIT {
                    return Err(refused(format!(
                        "{:?} is a symbolic link whose target has more than {PATH_LIMIT} bytes: remove it",
                        short(path)
                    )));
                }
                let target = String::from_utf8_lossy(self.repo.find_blob(id)?.content()).into_owned();
                self.targets.insert(id, target.clone());
                target
            }
        };
        self.budget.spend_target(&target).map_err(refused)?;
        Ok(target)
    }
}

/// Returns true if an entry may have this name. Git refuses other names, but a server can store them, and libgit2 reads
/// them. Such a path would lead out of the directory that it is written to.
pub(super) fn is_name(name: &[u8]) -> bool {
    let is_reserved = matches!(name, b"" | b"." | b"..") || name.eq_ignore_ascii_case(b".git");
    !is_reserved && !name.contains(&b'/') && !name.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a tree as a hostile server could send it: Git does not create trees with such names.
    fn raw_tree(repo: &Repository, entries: &[(&str, &str, Oid)]) -> Oid {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend([mode.as_bytes(), b" ", name.as_bytes(), b"\0", id.as_bytes()].concat());
        }
        repo.odb().and_then(|odb| odb.write(ObjectType::Tree, &content)).expect("written")
    }

    fn refusal(repo: &Repository, tree: Oid) -> String {
        list(repo, &repo.find_tree(tree).expect("the tree")).expect_err("refused").message().to_owned()
    }

    #[test]
    fn a_few_objects_that_name_billions_of_paths_are_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
        for leaf in
            [raw_tree(&repo, &[]), raw_tree(&repo, &[("100644", "f", repo.blob(b"x").expect("a blob"))])]
        {
            let bomb = (0..10).fold(leaf, |tree, _| {
                let entries: Vec<_> = names.iter().map(|name| ("40000", name.as_str(), tree)).collect();
                raw_tree(&repo, &entries)
            });
            let why = refusal(&repo, bomb);
            assert!(why.contains("has more than 250000 files and directories"), "{why}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let blob = repo.blob(b"x").expect("a blob");
        for name in ["..", ".", ".GIT", "a/../../b"] {
            let tree = raw_tree(&repo, &[("100644", name, blob)]);
            let tree = raw_tree(&repo, &[("40000", "packer", tree)]);
            assert_eq!(refusal(&repo, tree), format!("\"packer\" has an entry named {name:?}: remove it"));
        }
    }

    #[test]
    fn targets_of_links_count_and_one_that_is_too_long_is_not_loaded() {
        let home = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let tree = |target: &[u8], links: usize| {
            let blob = repo.blob(target).expect("a blob");
            let names: Vec<String> = (0..links).map(|n| format!("{n:06}")).collect();
            let entries: Vec<_> = names.iter().map(|name| ("120000", name.as_str(), blob)).collect();
            raw_tree(&repo, &entries)
        };
        let listed = |tree| list(&repo, &repo.find_tree(tree).expect("the tree"));
        let longest = listed(tree(&[b'x'; PATH_LIMIT], 1000)).expect("links");
        assert_eq!(longest.iter().count(), 1000);
        // Each byte that is not UTF-8 becomes three.
        for (target, links) in [(&[b'x'; PATH_LIMIT], 10_000), (&[0xff; PATH_LIMIT], 3000)] {
            let why = refusal(&repo, tree(target, links));
            assert!(why.contains("bytes of paths and link targets"), "{why}");
        }
        let why = refusal(&repo, tree(&[b'x'; PATH_LIMIT + 1], 1));
        assert_eq!(why, "\"000000\" is a symbolic link whose target has more than 4096 bytes: remove it");
        let name = "n".repeat(PATH_LIMIT + 1);
        let blob = repo.blob(b"x").expect("a blob");
        let why = refusal(&repo, raw_tree(&repo, &[("100644", &name, blob)]));
        assert!(why.starts_with("has a path of more than 4096 bytes") && why.len() < 400, "{why}");
        let folder = raw_tree(&repo, &[]);
        let why = refusal(&repo, raw_tree(&repo, &[("120000", "l", folder)]));
        assert_eq!(why, "\"l\" is not a symbolic link: remove it");
    }
}
