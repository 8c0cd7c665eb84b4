//! Looks up many paths in the tree of a commit, for changes of many files.

use git2::{ErrorClass, ObjectType, Repository, Tree, TreeEntry};

/// A tree, with the directories on the way to the last path. Reading a directory costs as much as it has entries: for
/// sorted paths, each directory is read once.
pub(in crate::git) struct Lookup<'a> {
    repo: &'a Repository,
    root: Option<&'a Tree<'a>>,
    /// By their names, the outermost first. `None` is a directory that does not exist.
    open: Vec<(String, Option<Tree<'a>>)>,
}

impl<'a> Lookup<'a> {
    pub fn new(repo: &'a Repository, root: Option<&'a Tree<'a>>) -> Self {
        Self { repo, root, open: Vec::new() }
    }

    /// Returns the entry at a path in plain form.
    ///
    /// # Errors
    /// If a directory is missing in the clone or damaged.
    pub fn get(&mut self, path: &str) -> Result<Option<TreeEntry<'_>>, git2::Error> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folders: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        let is_same = |(open, wanted): &(&(String, _), &&str)| open.0 == **wanted;
        let same = self.open.iter().zip(&folders).take_while(is_same).count();
        self.open.truncate(same);
        for name in &folders[same..] {
            let below = self.below(name)?;
            self.open.push(((*name).to_owned(), below));
        }
        Ok(self.innermost().and_then(|tree| tree.get_name(name)))
    }

    /// Returns the directory that was opened last.
    fn innermost(&self) -> Option<&Tree<'a>> {
        self.open.last().map_or(self.root, |(_, tree)| tree.as_ref())
    }

    fn below(&self, name: &str) -> Result<Option<Tree<'a>>, git2::Error> {
        let entry = self.innermost().and_then(|tree| tree.get_name(name));
        let Some(entry) = entry.filter(|entry| entry.kind() == Some(ObjectType::Tree)) else {
            return Ok(None);
        };
        match self.repo.find_tree(entry.id()) {
            Ok(tree) => Ok(Some(tree)),
            // The entry has the mode of a directory, but is not one. A new clone would have the same error.
            Err(error) if error.class() == ErrorClass::Invalid => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use git2::Oid;

    use super::*;
    use crate::git::tree::TreeChange;

    /// Enough files for a directory that libgit2 does not cache: it caches trees of at most four kilobytes.
    const FILES: usize = 500;

    fn tree_of(repo: &Repository, paths: impl IntoIterator<Item = String>) -> Tree<'_> {
        let mut change = TreeChange::default();
        for path in paths {
            let blob = repo.blob(path.as_bytes()).expect("a blob");
            change.set(&path, Some(blob));
        }
        repo.find_tree(change.apply(repo, None).expect("a tree").expect("files")).expect("the tree")
    }

    fn object_file(repo: &Repository, id: Oid) -> std::path::PathBuf {
        let id = id.to_string();
        repo.path().join("objects").join(&id[..2]).join(&id[2..])
    }

    #[test]
    fn entries_are_those_of_the_tree() {
        let home = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let paths = ["a", "b/c/d", "b/c-d/e", "b/c.x", "z/y"];
        let tree = tree_of(&repo, paths.map(str::to_owned));
        let mut lookup = Lookup::new(&repo, Some(&tree));
        for path in ["a", "b", "b/c/d", "b/c/e", "a/b", "a/b/c", "b/c-d/e", "n/o", "z/y", "b/c.x", "z", "b/c"]
        {
            let found = lookup.get(path).expect("readable").map(|entry| entry.id());
            assert_eq!(found, tree.get_path(path.as_ref()).ok().map(|entry| entry.id()), "{path}");
        }
        assert!(Lookup::new(&repo, None).get("a/b").expect("nothing to read").is_none());
    }

    #[test]
    fn a_directory_is_read_once_and_a_missing_one_is_an_error() {
        let home = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(home.path()).expect("a repository");
        let path = |number| format!("status/all/{number:04}");
        let tree = tree_of(&repo, (0..FILES).map(path));
        let mut lookup = Lookup::new(&repo, Some(&tree));
        assert!(lookup.get(&path(0)).expect("readable").is_some());
        let folder = tree.get_path("status/all".as_ref()).expect("the directory").id();
        std::fs::remove_file(object_file(&repo, folder)).expect("removed");
        for number in 1..FILES {
            assert!(lookup.get(&path(number)).expect("not read again").is_some());
        }
        assert!(Lookup::new(&repo, Some(&tree)).get(&path(0)).is_err(), "it cannot be read again");
    }
}
