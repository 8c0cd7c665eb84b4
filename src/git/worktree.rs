//! A local directory, listed as a commit of it would be, for checks before a commit: files that Git ignores are
//! excluded, and submodules and Git LFS files have the kind that they have in a commit. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use git2::{AttrCheckFlags, AttrValue, ErrorCode, FileMode, Repository};

use super::address::normalized;
use super::entry::{Entry, EntryKind};
use super::error::foreign_owner;
use super::ignore::{self, Ignore};
use super::tree::{Budget, Listing};
use crate::api::files::{POINTER_LIMIT, is_pointer};
use crate::api::paths::{join, shown_name};

/// The maximum depth of directories: no repository is deeper, and a loop of mounts ends here.
const DEPTH_LIMIT: usize = 100;

/// The files of a directory.
#[derive(Debug)]
pub struct WorkTree {
    pub listing: Listing,
    /// The path of the content, by ID.
    locations: BTreeMap<String, PathBuf>,
    /// What identifies the repositories that the work tree is a clone of: the addresses of its remotes, normalized.
    remotes: BTreeSet<String>,
}

impl WorkTree {
    /// Lists a directory: the root of a work tree, or any other directory.
    ///
    /// # Errors
    /// If a directory or an ignore file cannot be read, or the repository belongs to another user: files that Git
    /// ignores would then not be excluded.
    pub fn list(root: &Path) -> io::Result<Self> {
        let repo = open(root)?.filter(|repo| !repo.is_bare());
        let (tracked, submodules) = repo.as_ref().map(index).unwrap_or_default();
        let remotes = repo.as_ref().map(remotes).unwrap_or_default();
        let mut walk = Walk {
            repo: repo.as_ref(),
            tracked,
            submodules,
            entries: BTreeMap::new(),
            locations: BTreeMap::new(),
            budget: Budget::default(),
        };
        walk.directory(root, "", "", 0)?;
        let Walk { entries, locations, .. } = walk;
        let (mut ignores, mut left) = (Vec::new(), ignore::SIZE_LIMIT);
        let is_file = |entry: &Entry| matches!(entry.kind, EntryKind::File { .. });
        let is_ignore_file = |path: &str| path.rsplit('/').next() == Some(ignore::FILE);
        for (path, _) in entries.iter().filter(|(path, entry)| is_ignore_file(path) && is_file(entry)) {
            if let Some(location) = locations.get(path) {
                let size = usize::try_from(fs::metadata(location)?.len()).unwrap_or(usize::MAX);
                let Some(rest) = left.checked_sub(size) else {
                    let path = path.clone();
                    let listing: Listing = entries.into_iter().collect();
                    return Ok(Self {
                        listing: listing.with_unreadable_ignore(path, ignore::too_large()),
                        locations,
                        remotes,
                    });
                };
                left = rest;
                ignores.push((path.clone(), fs::read(location)?));
            }
        }
        let ignore = Ignore::read(ignores.iter().map(|(path, content)| (path.as_str(), content.as_slice())));
        let listing: Listing = entries.into_iter().collect();
        Ok(Self { listing: listing.without(&ignore), locations, remotes })
    }

    /// Returns whether the work tree is a clone of the repository with this address.
    pub fn is_clone_of(&self, url: &str) -> bool {
        self.remotes.contains(&normalized(url))
    }

    /// Returns the size of a file, by its ID in the listing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn size(&self, id: &str) -> io::Result<u64> {
        let location = self.locations.get(id).ok_or(io::ErrorKind::NotFound)?;
        Ok(fs::metadata(location)?.len())
    }

    /// Returns the content of a file, by its ID in the listing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, id: &str) -> io::Result<Vec<u8>> {
        self.locations.get(id).map_or_else(|| Err(io::Error::from(io::ErrorKind::NotFound)), fs::read)
    }
}

/// Returns the repository whose root is this directory, if there is one.
fn open(root: &Path) -> io::Result<Option<Repository>> {
    match Repository::open(root) {
        Err(error) if error.code() == ErrorCode::Owner => {
            Err(io::Error::other(foreign_owner(&root.display().to_string())))
        }
        opened => Ok(opened.ok()),
    }
}

/// Returns the paths that Git tracks, and those of them that are submodules.
fn index(repo: &Repository) -> (BTreeSet<Vec<u8>>, BTreeSet<String>) {
    let Ok(index) = repo.index() else { return Default::default() };
    let is_submodule = |entry: &git2::IndexEntry| entry.mode == u32::from(FileMode::Commit);
    let submodules = index.iter().filter(is_submodule).map(|entry| shown_name(&entry.path)).collect();
    (index.iter().map(|entry| entry.path).collect(), submodules)
}

/// Returns the addresses of all remotes, normalized: without the credentials that an address may contain.
fn remotes(repo: &Repository) -> BTreeSet<String> {
    let Ok(names) = repo.remotes() else { return BTreeSet::new() };
    let remotes = names.iter().filter_map(|name| repo.find_remote(name.ok()??).ok());
    remotes.filter_map(|remote| remote.url().ok().map(normalized)).collect()
}

struct Walk<'a> {
    repo: Option<&'a Repository>,
    tracked: BTreeSet<Vec<u8>>,
    submodules: BTreeSet<String>,
    entries: BTreeMap<String, Entry>,
    locations: BTreeMap<String, PathBuf>,
    budget: Budget,
}

impl Walk<'_> {
    /// Lists a directory. `shown` is its path from the root, `real` the same path as bytes of the file system.
    fn directory(
        &mut self,
        folder: &Path,
        shown: &str,
        real: impl AsRef<OsStr>,
        depth: usize,
    ) -> io::Result<()> {
        let about = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        if depth > DEPTH_LIMIT {
            return Err(io::Error::other(format!("{shown} is more than {DEPTH_LIMIT} directories deep")));
        }
        let mut children: Vec<_> = fs::read_dir(folder).map_err(about)?.collect::<io::Result<_>>()?;
        children.sort_by_key(fs::DirEntry::file_name);
        for child in children.into_iter().filter(|child| child.file_name() != ".git") {
            let name = child.file_name();
            let shown = join(shown, &shown_name(name.as_bytes()));
            self.budget.spend(&shown).map_err(io::Error::other)?;
            let real = Path::new(real.as_ref()).join(&name);
            let kind = child.file_type()?;
            let is_submodule =
                kind.is_dir() && (self.submodules.contains(&shown) || child.path().join(".git").exists());
            if is_submodule {
                self.add(shown, EntryKind::Submodule, &child.path());
            } else if self.is_ignored(&real, kind.is_dir()) {
            } else if kind.is_dir() {
                self.directory(&child.path(), &shown, &real, depth + 1)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(child.path())?.to_string_lossy().into_owned();
                self.budget.spend_target(&target).map_err(io::Error::other)?;
                self.add(shown, EntryKind::Link(target), &child.path());
            } else if kind.is_file() {
                let kind = self.kind(&real, &child)?;
                self.add(shown, kind, &child.path());
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, kind: EntryKind, location: &Path) {
        self.locations.insert(path.clone(), location.to_owned());
        self.entries.insert(path.clone(), Entry { id: path, kind });
    }

    fn kind(&self, real: &Path, file: &fs::DirEntry) -> io::Result<EntryKind> {
        if real.to_str().is_none() {
            return Ok(EntryKind::Misnamed);
        }
        let metadata = file.metadata()?;
        let is_small = usize::try_from(metadata.len()).is_ok_and(|size| size <= POINTER_LIMIT);
        if self.is_in_lfs(real) || (is_small && is_pointer(&fs::read(file.path())?)) {
            return Ok(EntryKind::Pointer);
        }
        Ok(EntryKind::File { executable: metadata.permissions().mode() & 0o111 != 0 })
    }

    /// Returns true if Git would not commit the path: it is ignored, and neither it nor anything in it is tracked.
    fn is_ignored(&self, real: &Path, is_folder: bool) -> bool {
        let Some(repo) = self.repo else { return false };
        let mut bytes = real.as_os_str().as_bytes().to_vec();
        if is_folder {
            bytes.push(b'/');
        }
        let tracked = self.tracked.range(bytes.clone()..).next();
        let is_tracked =
            tracked.is_some_and(|first| if is_folder { first.starts_with(&bytes) } else { *first == bytes });
        !is_tracked && repo.is_path_ignored(Path::new(OsStr::from_bytes(&bytes))).unwrap_or(false)
    }

    fn is_in_lfs(&self, real: &Path) -> bool {
        let attribute = |repo: &Repository| {
            let value = repo.get_attr(real, "filter", AttrCheckFlags::default()).ok().flatten();
            AttrValue::from_string(value) == AttrValue::String("lfs")
        };
        self.repo.is_some_and(attribute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn put(root: &Path, path: impl AsRef<Path>, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    fn kinds(root: &Path) -> Vec<(String, String)> {
        let tree = WorkTree::list(root).expect("a list");
        let kind = |entry: &Entry| match &entry.kind {
            EntryKind::File { executable } => (if *executable { "x" } else { "-" }).to_owned(),
            EntryKind::Link(target) => format!("-> {target}"),
            other => format!("{other:?}"),
        };
        tree.listing.iter().map(|(path, entry)| (path.to_owned(), kind(entry))).collect()
    }

    #[test]
    fn a_work_tree_is_listed_as_its_commit_would_be() {
        let folder = tempfile::tempdir().expect("a directory");
        let root = folder.path();
        let repo = Repository::init(root).expect("a repository");
        put(root, ".gitignore", "target/\n*.log\n");
        put(root, ".gitattributes", "*.rpm filter=lfs\n");
        put(root, ".opsyignore", "docs/\n");
        put(root, "a.log", "");
        put(root, "tracked.log", "");
        put(root, "b.rpm", "the file itself");
        put(root, "c.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n");
        put(root, "docs/d.md", "");
        put(root, "target/e", "");
        put(root, "plugins/x/.git", "gitdir: ../../.git/modules/x");
        put(root, "plugins/x/f.yaml", "");
        put(root, Path::new(OsStr::from_bytes(b"odd\xff")), "");
        put(root, Path::new(OsStr::from_bytes(b"odd\xfe")), "");
        put(root, "run.sh", "");
        fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("a mode");
        symlink("run.sh", root.join("link")).expect("a link");
        let mut index = repo.index().expect("an index");
        index.add_path(Path::new("tracked.log")).expect("tracked");
        index.write().expect("written");
        let kinds = kinds(root);
        let shown: Vec<String> = kinds.iter().map(|(path, kind)| format!("{path} {kind}")).collect();
        assert_eq!(
            shown,
            [
                ".gitattributes -",
                ".gitignore -",
                ".opsyignore -",
                "b.rpm Pointer",
                "c.bin Pointer",
                "link -> run.sh",
                "odd\\xfe Misnamed",
                "odd\\xff Misnamed",
                "plugins/x Submodule",
                "run.sh x",
                "tracked.log -",
            ]
        );
        let tree = WorkTree::list(root).expect("a list");
        assert_eq!(tree.read("b.rpm").expect("content"), b"the file itself");
        assert!(tree.listing.is_ignored("docs/d.md"));
    }

    #[test]
    fn a_work_tree_foreign_owner_is_refused_with_what_to_do() {
        // Only root can change the owner of a directory.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a directory");
        Repository::init(folder.path()).expect("a repository");
        put(folder.path(), ".gitignore", "*.yaml\n");
        put(folder.path(), "a.yaml", "");
        for path in [folder.path().to_owned(), folder.path().join(".git")] {
            std::os::unix::fs::chown(path, Some(12345), None).expect("another owner");
        }
        let error = WorkTree::list(folder.path()).expect_err("refused").to_string();
        let advice = format!("git config --global --add safe.directory {}", folder.path().display());
        assert!(error.contains("belongs to another user") && error.contains(&advice), "{error}");
    }

    #[test]
    fn a_folder_without_git_is_listed_too() {
        let folder = tempfile::tempdir().expect("a directory");
        put(folder.path(), "a/b.yaml", "");
        put(folder.path(), ".git/config", "not a repository");
        assert_eq!(kinds(folder.path()), [("a/b.yaml".to_owned(), "-".to_owned())]);
        assert!(WorkTree::list(&folder.path().join("none")).is_err());
    }
}
