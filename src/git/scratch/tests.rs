//! Commits of a work tree and of a merge: what they contain, and that the person's repository stays as it is.

use std::collections::BTreeMap;

use super::*;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, text).expect("a file");
}

/// Commits every file of the work tree onto the current branch.
fn commit(repo: &Repository, message: &str) -> Oid {
    let mut index = repo.index().expect("an index");
    index.add_all(["*"], IndexAddOption::DEFAULT, None).expect("added");
    index.update_all(["*"], None).expect("updated");
    index.write().expect("written");
    let tree = repo.find_tree(index.write_tree().expect("a tree")).expect("a tree");
    let by = Signature::now("a", "a@example.com").expect("a signature");
    let parent = repo.head().ok().and_then(|head| head.peel_to_commit().ok());
    let parents: Vec<_> = parent.iter().collect();
    repo.commit(Some("HEAD"), &by, &by, message, &tree, &parents).expect("a commit")
}

fn repository() -> (tempfile::TempDir, Repository) {
    let folder = tempfile::tempdir().expect("a directory");
    let repo = Repository::init(folder.path()).expect("a repository");
    put(folder.path(), "a.yaml", "a: 1\n");
    put(folder.path(), "b.yaml", "b: 1\n");
    put(folder.path(), ".gitignore", "*.log\n");
    commit(&repo, "first");
    (folder, repo)
}

fn files(scratch: &Scratch, commit: &CommitId) -> BTreeMap<String, String> {
    let oid = Oid::from_str(commit.as_str()).expect("an ID");
    let tree = scratch.repo.find_commit(oid).expect("a commit").tree().expect("a tree");
    let mut found = BTreeMap::new();
    for entry in &tree {
        let blob = scratch.repo.find_blob(entry.id()).expect("a blob");
        let text = String::from_utf8_lossy(blob.content()).into_owned();
        found.insert(entry.name().expect("a name").to_owned(), text);
    }
    found
}

/// Every file below the directory of the repository, with its size: what a write would change.
fn stored(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.join(".git")];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).expect("a directory") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("metadata");
            if metadata.is_dir() {
                left.push(entry.path());
            } else {
                found.insert(entry.path(), metadata.len());
            }
        }
    }
    found
}

#[test]
fn a_work_tree_becomes_a_commit_and_the_repository_stays_as_it_is() {
    let (folder, _) = repository();
    put(folder.path(), "a.yaml", "a: 2\n");
    put(folder.path(), "new.yaml", "new: 1\n");
    put(folder.path(), "x.log", "ignored");
    put(folder.path(), ".git/info/exclude", "own.yaml\n");
    put(folder.path(), "own.yaml", "excluded");
    fs::remove_file(folder.path().join("b.yaml")).expect("removed");
    let before = stored(folder.path());
    let scratch = Scratch::of(folder.path()).expect("a scratch repository");
    let commit = scratch.work_tree().expect("a commit").commit;
    let found = files(&scratch, &commit);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, [".gitignore", "a.yaml", "new.yaml"]);
    assert_eq!(found["a.yaml"], "a: 2\n");
    assert_eq!(stored(folder.path()), before);
    assert_eq!(scratch.work_tree().expect("again").commit, commit, "the same tree is the same commit");
}

#[test]
fn a_branch_is_merged_as_the_forge_would_merge_it() {
    let (folder, repo) = repository();
    let main = repo.head().expect("a head").shorthand().expect("a name").to_owned();
    let first = repo.head().expect("a head").peel_to_commit().expect("a commit");
    repo.branch("topic", &first, false).expect("a branch");
    put(folder.path(), "a.yaml", "a: main\n");
    commit(&repo, "main moves");
    repo.set_head("refs/heads/topic").expect("switched");
    repo.checkout_head(Some(git2::build::CheckoutBuilder::new().force())).expect("checked out");
    put(folder.path(), "b.yaml", "b: topic\n");
    commit(&repo, "topic moves");
    let scratch = Scratch::of(folder.path()).expect("a scratch repository");
    let (base, head) = (scratch.resolve(&main).expect("main"), scratch.resolve("topic").expect("topic"));
    let merged = files(&scratch, &scratch.merged(&base, &head).expect("merged"));
    assert_eq!((merged["a.yaml"].as_str(), merged["b.yaml"].as_str()), ("a: main\n", "b: topic\n"));
    put(folder.path(), "a.yaml", "a: topic\n");
    commit(&repo, "topic changes the same line");
    let head = scratch.resolve("topic").expect("topic");
    let error = scratch.merged(&base, &head).expect_err("a conflict").to_string();
    assert!(error.contains("a.yaml") && error.contains(&format!("merge {main} first")), "{error}");
}

#[test]
fn what_is_already_merged_is_itself() {
    let (folder, repo) = repository();
    let scratch = Scratch::of(folder.path()).expect("a scratch repository");
    let base = scratch.resolve("HEAD").expect("a commit");
    put(folder.path(), "a.yaml", "a: 2\n");
    commit(&repo, "second");
    let head = scratch.resolve("HEAD").expect("a commit");
    assert_eq!(scratch.merged(&base, &head).expect("merged"), head.commit);
    assert_eq!(scratch.merged(&head, &head).expect("merged"), head.commit);
}

#[test]
fn the_login_of_a_remote_is_removed() {
    for (url, shown) in [
        ("https://token:secret@git.example.com/a/b.git", "https://git.example.com/a/b.git"),
        ("http://user@localhost:8080/a", "http://localhost:8080/a"),
        ("ssh://git@git.example.com/a", "ssh://git@git.example.com/a"),
        ("git@git.example.com:a/b", "git@git.example.com:a/b"),
        ("/srv/a@b", "/srv/a@b"),
    ] {
        assert_eq!(without_login(url), shown);
    }
}

#[test]
fn an_unknown_name_and_a_folder_without_git_are_refused_with_what_to_do() {
    let (folder, _) = repository();
    let scratch = Scratch::of(folder.path()).expect("a scratch repository");
    let error = scratch.resolve("none").expect_err("unknown").to_string();
    assert!(error.contains("none is not a commit") && error.contains("fetch it first"), "{error}");
    let plain = tempfile::tempdir().expect("a directory");
    let error = Scratch::of(plain.path()).err().expect("no repository").to_string();
    assert!(error.contains("is not in a Git work tree"), "{error}");
}

#[test]
fn the_default_branch_is_that_of_the_remote_and_never_the_one_that_is_checked_out() {
    let (folder, repo) = repository();
    let current = repo.head().expect("a head").shorthand().expect("a name").to_owned();
    let branch = || Scratch::of(folder.path()).expect("a scratch repository").default_branch();
    assert_eq!(branch(), Some(current), "without a remote");
    repo.remote("origin", "https://git.example.com/a/b.git").expect("a remote");
    assert_eq!(branch(), None, "as in a CI job");
    let tip = repo.head().expect("a head").target().expect("a commit");
    repo.reference("refs/remotes/origin/main", tip, false, "fetched").expect("a branch");
    repo.reference_symbolic("refs/remotes/origin/HEAD", "refs/remotes/origin/main", false, "set")
        .expect("a branch");
    assert_eq!(branch().as_deref(), Some("main"));
}

#[test]
fn the_branch_of_a_name_and_its_tip() {
    let (folder, repo) = repository();
    let tip = repo.head().expect("a head").peel_to_commit().expect("a commit");
    repo.branch("topic", &tip, false).expect("a branch");
    repo.remote("origin", "https://git.example.com/a/b.git").expect("a remote");
    repo.reference("refs/remotes/origin/main", tip.id(), false, "fetched").expect("a branch");
    let scratch = Scratch::of(folder.path()).expect("a scratch repository");
    let named = |name: &str| scratch.branch_of(name);
    assert_eq!(named("origin/main").as_deref(), Some("main"));
    assert_eq!(named("refs/remotes/origin/main").as_deref(), Some("main"));
    assert_eq!(named("topic").as_deref(), Some("topic"));
    for other in ["HEAD", "origin/none", "none", &tip.id().to_string()] {
        assert_eq!(named(other), None, "{other}");
    }
    assert_eq!(scratch.tip("main").expect("a tip").commit, id(tip.id()));
    let error = scratch.tip("next").expect_err("not fetched").to_string();
    assert!(error.contains("git fetch origin +refs/heads/next:refs/remotes/origin/next"), "{error}");
    assert!(!scratch.has_branch("release") && scratch.has_branch("main"));
    scratch.set_branch("release", &id(tip.id())).expect("set");
    assert!(scratch.has_branch("release"));
}

#[test]
fn a_repository_without_a_commit_is_empty() {
    let folder = tempfile::tempdir().expect("a directory");
    Repository::init(folder.path()).expect("a repository");
    put(folder.path(), "a.yaml", "a: 1\n");
    let scratch = Scratch::of(folder.path()).expect("a scratch repository");
    let branch = scratch.default_branch().expect("the branch that is not born yet");
    let (base, head) = (scratch.tip(&branch).expect("a commit"), scratch.work_tree().expect("a commit"));
    assert!(!scratch.has_directory(&base.commit, "").expect("a tree"));
    let merged = scratch.merged(&base, &head).expect("merged");
    assert_eq!(files(&scratch, &merged).len(), 1);
    assert!(!scratch.is_same(&base.commit, &merged).expect("trees"));
}

#[test]
fn a_sparse_checkout_is_refused() {
    let (folder, repo) = repository();
    let mut index = repo.index().expect("an index");
    let mut entry = index.get_path(Path::new("b.yaml"), 0).expect("an entry");
    entry.flags_extended |= IndexEntryExtendedFlag::SKIP_WORKTREE.bits();
    index.add(&entry).expect("added");
    index.write().expect("written");
    fs::remove_file(folder.path().join("b.yaml")).expect("removed");
    let scratch = Scratch::of(folder.path()).expect("a scratch repository");
    let error = scratch.work_tree().expect_err("refused").to_string();
    assert!(error.contains("git sparse-checkout disable"), "{error}");
}
