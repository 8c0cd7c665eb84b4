//! Tests of the commits that the agent makes.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn only_plain_paths_are_committed() {
    for good in ["status/a.yaml", "a"] {
        assert!(check_path(good).is_ok(), "{good}");
    }
    for bad in ["", "/a", "../a", "a/../b", "a//b", "a/", ".git/hooks/post-commit", "x/.GIT/config"] {
        assert!(check_path(bad).is_err(), "{bad}");
    }
}

struct Bare {
    _folder: tempfile::TempDir,
    repo: Repository,
}

impl Bare {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(folder.path()).expect("a repository");
        Self { _folder: folder, repo }
    }

    /// Returns the result of an edit of `x` in a tree with one entry `x`.
    fn edited(&self, id: Oid, mode: i32, edit: Edit) -> Result<Vec<(String, Option<Oid>)>, String> {
        let mut builder = self.repo.treebuilder(None).expect("a builder");
        builder.insert("x", id, mode).expect("an entry");
        let tree = self.repo.find_tree(builder.write().expect("a tree")).expect("the tree");
        self.all_edited(&tree, [("x".to_owned(), edit)].into(), usize::MAX)
    }

    fn all_edited(
        &self,
        tree: &Tree<'_>,
        edits: BTreeMap<String, Edit>,
        most: usize,
    ) -> Result<Vec<(String, Option<Oid>)>, String> {
        let change = Change {
            branch: "main".to_owned(),
            edits,
            versions: BTreeMap::new(),
            settled: Arc::default(),
            message: Arc::new(|_| String::new()),
            author: Author { name: "a".to_owned(), email: "a".to_owned() },
            time: Timestamp::UNIX_EPOCH,
        };
        let local = |error: git2::Error| GitError::local(self.repo.path(), &error);
        super::edits(&self.repo, Some(tree), (&change, most), |bytes| self.repo.blob(bytes), &local)
            .map_err(|error| format!("{:?} {error}", error.class()))
    }
}

fn merges() -> [Edit; 2] {
    let merge: Merge = Arc::new(|now| Ok(now.unwrap_or(b"absent").to_vec()));
    [Edit::Merge(merge.clone()), Edit::Renew(merge)]
}

#[test]
fn what_is_not_a_file_is_named_and_left_alone() {
    let bare = Bare::new();
    let empty = bare.repo.treebuilder(None).and_then(|builder| builder.write()).expect("a tree");
    let blob = bare.repo.blob(b"y").expect("a blob");
    let put = || Edit::Put(b"y".to_vec());
    for (id, mode, what) in [
        (empty, 0o040_000, "a directory"),
        (blob, 0o160_000, "a submodule"),
        (blob, 0o120_000, "a symbolic link"),
    ] {
        let due = format!("Invalid x: is {what}, but Opsy writes a file there: remove it");
        for edit in merges().into_iter().chain([put()]) {
            assert_eq!(bare.edited(id, mode, edit), Err(due.clone()));
        }
        assert_eq!(bare.edited(id, mode, Edit::Remove), Ok(Vec::new()), "{what} is not Opsy's");
    }
    assert_eq!(bare.edited(blob, 0o100_644, Edit::Remove), Ok(vec![("x".to_owned(), None)]));
}

#[test]
fn a_large_file_is_not_loaded() {
    let bare = Bare::new();
    let absent = Oid::hash_object(ObjectType::Blob, b"absent").expect("an id");
    let [merge, renew] = merges();
    let small = bare.repo.blob(&[b'x'; RENEW_LIMIT]).expect("a blob");
    assert_eq!(bare.edited(small, 0o100_644, merge.clone()), Ok(Vec::new()), "it is merged");
    assert_eq!(bare.edited(small, 0o100_644, renew.clone()), Ok(Vec::new()));
    let large = bare.repo.blob(&vec![b'x'; MERGE_LIMIT + 1]).expect("a blob");
    let why = bare.edited(large, 0o100_644, merge).expect_err("too large");
    assert!(why.starts_with("Invalid x: has more than 4194304 bytes"), "{why}");
    assert_eq!(bare.edited(large, 0o100_644, renew), Ok(vec![("x".to_owned(), Some(absent))]));
}

#[test]
fn a_look_for_differences_ends_with_the_first_one() {
    let bare = Bare::new();
    let empty = bare.repo.treebuilder(None).and_then(|builder| builder.write()).expect("a tree");
    let empty = bare.repo.find_tree(empty).expect("the tree");
    let merges = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&merges);
    let merge: Merge = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(b"new".to_vec())
    });
    let edits: BTreeMap<_, _> =
        (0..9).map(|number| (number.to_string(), Edit::Renew(Arc::clone(&merge)))).collect();
    for (most, made) in [(1, 1), (usize::MAX, 9)] {
        merges.store(0, Ordering::Relaxed);
        assert_eq!(bare.all_edited(&empty, edits.clone(), most).map(|edits| edits.len()), Ok(made));
        assert_eq!(merges.load(Ordering::Relaxed), made);
    }
}

#[test]
fn a_directory_is_read_once_for_all_of_its_files() {
    let bare = Bare::new();
    // Enough files for a directory that libgit2 does not cache: it caches trees of at most four kilobytes.
    let paths: Vec<String> = (0..500).map(|number| format!("status/{number:03}.yaml")).collect();
    let mut files = TreeChange::default();
    for path in &paths {
        files.set(path, Some(bare.repo.blob(b"same").expect("a blob")));
    }
    let tree = files.apply(&bare.repo, None).expect("a tree").expect("files");
    let tree = bare.repo.find_tree(tree).expect("the tree");
    let folder = tree.get_name("status").expect("the directory").id().to_string();
    let object = bare.repo.path().join("objects").join(&folder[..2]).join(&folder[2..]);
    // The first merge makes it impossible to read the directory again.
    let merge: Merge = Arc::new(move |now| {
        std::fs::remove_file(&object).ok();
        Ok(now.unwrap_or(b"absent").to_vec())
    });
    let edits: BTreeMap<_, _> =
        paths.into_iter().map(|path| (path, Edit::Renew(Arc::clone(&merge)))).collect();
    assert_eq!(bare.all_edited(&tree, edits.clone(), usize::MAX), Ok(Vec::new()));
    let error =
        bare.all_edited(&tree, edits, usize::MAX).expect_err("a damaged clone is not an empty directory");
    assert!(error.contains("is damaged"), "{error}");
}
