//! A repository on this machine: its objects are read in place, whatever happens to its files.

use std::path::Path;

use opsy::api::CommitId;
use opsy::git::address::Address;
use opsy::git::commit::{Edit, Outcome};
use opsy::git::{GitError, Handle, Options};

use super::bed::{ANN, Remote, git_of, http, printed};
use super::push::change;

struct World {
    home: tempfile::TempDir,
    remote: Remote,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let remote = Remote::init(&home.path().join("source.git"));
        Self { home, remote }
    }

    fn clone(&self) -> std::path::PathBuf {
        self.home.path().join("clone")
    }

    fn options(&self, path: &Path) -> Options {
        Options {
            address: Address::parse(path.to_str().expect("UTF-8")).expect("a path"),
            branch: None,
            path: String::new(),
            folder: self.clone(),
            credentials: None,
            http: http(),
            history: opsy::git::History::Recent,
            signers: None,
            signing_key: None,
        }
    }

    fn handle(&self) -> Handle {
        Handle::start(self.options(self.remote.path())).expect("threads")
    }

    /// Runs Git in the source.
    fn git(&self, args: &[&str]) -> String {
        printed(git_of(self.remote.path(), ANN).args(args))
    }

    /// Returns the number of packs of the clone, and the size of all of its files.
    fn size(&self) -> (usize, u64) {
        let (mut packs, mut size, mut folders) = (0, 0, vec![self.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a directory").flatten() {
                match entry.file_type().expect("a type").is_dir() {
                    true => folders.push(entry.path()),
                    false => size += entry.metadata().expect("a file").len(),
                }
                packs += usize::from(entry.path().extension().is_some_and(|extension| extension == "pack"));
            }
        }
        (packs, size)
    }
}

/// Text that does not become smaller when it is compressed.
fn noise(number: usize) -> String {
    (0..2000).map(|part| opsy::api::ids::digest(&[&format!("{number} {part}")])).collect()
}

async fn read(git: &Handle, commit: &CommitId, path: &str) -> String {
    let listing = git.list(commit).await.expect("a listing");
    let id = listing.get(path).expect("the file").id.clone();
    let blobs = git.read(vec![(path.to_owned(), id)]).await.expect("blobs");
    String::from_utf8(blobs[0].content.clone()).expect("text")
}

#[tokio::test]
async fn nothing_is_copied_and_repacking_the_source_disturbs_nothing() {
    let world = World::new();
    for number in 0..20 {
        world.remote.commit("main", &[("large", Some(&noise(number)))]);
    }
    world.git(&["repack", "-adq"]);
    let git = world.handle();
    let first = git.fetch().await.expect("a tip");
    assert_eq!(read(&git, &first.commit, "large").await, noise(19));
    let (packs, size) = world.size();
    assert!(packs == 0 && size < 50_000, "{packs} packs, {size} bytes");
    for (number, repack) in
        [["gc", "--quiet", "--prune=now"], ["repack", "-adq", "--window=1"], ["gc", "-q", "--aggressive"]]
            .iter()
            .enumerate()
    {
        let second = world.remote.commit("main", &[("b", Some(&number.to_string()))]);
        world.git(repack);
        assert_eq!(read(&git, &first.commit, "large").await, noise(19), "{repack:?}");
        let tip = git.fetch().await.expect("a tip");
        assert_eq!(tip.commit.as_str(), second);
        assert_eq!(read(&git, &tip.commit, "b").await, number.to_string());
        assert!(git.follows(&tip.commit, &first.commit).await.expect("the history"));
    }
    assert_eq!(world.size().0, 0);
}

#[tokio::test]
async fn only_new_objects_are_pushed() {
    let world = World::new();
    for number in 0..20 {
        world.remote.commit("main", &[("a.yaml", Some(&number.to_string())), ("b/c", Some("x"))]);
    }
    world.git(&["repack", "-adq"]);
    let in_pack = || {
        let counts = world.git(&["count-objects", "-v"]);
        let line = counts.lines().find_map(|line| line.strip_prefix("in-pack: ")).map(str::parse::<usize>);
        line.expect("a count").expect("a number")
    };
    let (before, git) = (in_pack(), world.handle());
    for number in ["1", "2"] {
        let edit = Edit::Put(format!("status {number}").into_bytes());
        let outcome = git.commit(&change("main", &[("status/x", edit)])).await.expect("pushed");
        assert!(matches!(outcome, Outcome::Pushed { .. }), "{outcome:?}");
        world.git(&["gc", "--quiet", "--prune=now"]);
    }
    // A blob, its directory, the root and the commit.
    assert_eq!(in_pack(), before + 2 * 4);
    assert_eq!(world.remote.file("main", "status/x").as_deref(), Some("status 2"));
    world.git(&["fsck", "--strict"]);
    assert_eq!(world.size().0, 0);
}

#[tokio::test]
async fn objects_that_the_source_removed_are_missing_and_the_tip_is_read() {
    let world = World::new();
    world.remote.commit("main", &[("a", Some("1"))]);
    let git = world.handle();
    let before = git.fetch().await.expect("a tip");
    let listing = git.list(&before.commit).await.expect("a listing");
    let rewritten = world.remote.rewrite("main", &[("b", Some("2"))]);
    world.git(&["reflog", "expire", "--expire=now", "--all"]);
    world.git(&["gc", "--quiet", "--prune=now"]);
    let after = git.fetch().await.expect("a tip");
    assert_eq!(after.commit.as_str(), rewritten);
    assert_eq!(read(&git, &after.commit, "b").await, "2");
    let id = listing.get("a").expect("the file").id.clone();
    let error = git.read(vec![("a".to_owned(), id)]).await.expect_err("the source removed it");
    assert!(matches!(error, GitError::Corrupt { .. }), "{error}");
    assert_eq!(read(&git, &after.commit, "b").await, "2", "the tip is not affected");
    assert!(!git.fetch().await.expect("a tip").fetched, "the clone is up to date");
}

#[tokio::test]
async fn a_shallow_source_and_a_source_with_alternates() {
    let world = World::new();
    for number in 0..3 {
        world.remote.commit("main", &[("a", Some(&number.to_string()))]);
    }
    let tip = world.remote.tip("main").expect("a tip");
    let from = format!("file://{}", world.remote.path().display());
    for (name, option) in [("shallow", "--depth=1"), ("shared", "--shared")] {
        let source = world.home.path().join(name);
        let from = if name == "shared" { world.remote.path().display().to_string() } else { from.clone() };
        printed(git_of(world.home.path(), ANN).args(["clone", "-q", "--bare", option, &from]).arg(&source));
        let clone = world.home.path().join(format!("clone of {name}"));
        let options = Options { folder: clone.clone(), ..world.options(&source) };
        let git = Handle::start(options).expect("threads");
        let fetched = git.fetch().await.expect("a tip");
        assert_eq!(fetched.commit.as_str(), tip, "{name}");
        assert_eq!(read(&git, &fetched.commit, "a").await, "2");
        let next = Remote::at(&source).commit("main", &[("a", Some("3"))]);
        let next = CommitId::parse(next).expect("an id");
        assert_eq!(git.fetch().await.expect("a tip").commit, next);
        let is_shallow = git2::Repository::open(&clone).expect("a clone").is_shallow();
        assert_eq!(is_shallow, name == "shallow", "the history ends where that of the source ends");
        assert_eq!(read(&git, &next, "a").await, "3");
    }
}

#[tokio::test]
async fn a_clone_of_an_earlier_version_is_linked_and_a_work_tree_is_read() {
    let world = World::new();
    let first = world.remote.commit("main", &[("a", Some("1"))]);
    // A clone with its own copy, as earlier versions made it.
    world.handle().fetch().await.expect("a tip");
    let alternates = world.clone().join("objects/info/alternates");
    std::fs::remove_file(&alternates).expect("linked");
    printed(git_of(&world.clone(), ANN).args([
        "fetch",
        "-q",
        world.remote.path().to_str().expect("UTF-8"),
        "main",
    ]));
    let git = world.handle();
    let tip = git.fetch().await.expect("a tip");
    assert_eq!(read(&git, &tip.commit, "a").await, "1");
    assert!(alternates.exists());
    let tree = world.home.path().join("tree");
    world.git(&["worktree", "add", "-q", tree.to_str().expect("UTF-8"), "-b", "side", &first]);
    let options = Options { branch: Some("side".to_owned()), ..world.options(&tree) };
    let git = Handle::start(options).expect("threads");
    let tip = git.fetch().await.expect("a tip");
    assert_eq!((tip.commit.as_str(), tip.branch.as_str()), (first.as_str(), "side"));
    assert_eq!(read(&git, &tip.commit, "a").await, "1");
    assert_eq!(world.size().0, 0);
}
