//! The agent's own clone has only the newest commits until more of the history is needed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use futures::FutureExt;
use jiff::Timestamp;
use opsy::api::CommitId;
use opsy::api::status::LastSynced;
use opsy::git::address::Address;
use opsy::git::commit::{Edit, Outcome};
use opsy::git::{GitError, Handle, History};
use opsy::manifest::{ObjectSet, SourceFile};
use opsy::sync::{Accepts, Hold, Outputs, Sync};

use super::bed::{ANN, Bed, Remote, git_of, printed};
use super::push::change;

/// The commits of the repository of these tests.
const COMMITS: usize = 3_000;

/// Adds commits to a branch, each with a new version of a file. `path` gets the number of a commit.
pub fn add(remote: &Remote, branch: &str, count: usize, path: impl Fn(usize) -> String) -> String {
    let tip = remote.tip(branch);
    let time = |tip: &String| {
        let id = git2::Oid::from_str(tip).expect("an ID");
        remote.repo().find_commit(id).expect("the tip").time().seconds()
    };
    let (first, parent) = (tip.as_ref().map_or(1_700_000_000, time) + 1, tip.clone().unwrap_or_default());
    let mut stream = String::new();
    for number in 0..count {
        let content = opsy::api::ids::digest(&[branch, &number.to_string(), &parent]).repeat(4);
        let time = first + i64::try_from(number).expect("small");
        writeln!(stream, "commit refs/heads/{branch}\ncommitter {} <{}> {time} +0000", ANN.0, ANN.1)
            .expect("written");
        write!(stream, "data 6\nnumber\n").expect("written");
        if let (0, Some(tip)) = (number, &tip) {
            writeln!(stream, "from {tip}").expect("written");
        }
        write!(stream, "M 100644 inline {}\ndata {}\n{content}\n", path(number), content.len())
            .expect("written");
    }
    let mut git = git_of(remote.path(), ANN);
    let mut import =
        git.args(["fast-import", "--quiet", "--force"]).stdin(Stdio::piped()).spawn().expect("git starts");
    import.stdin.take().expect("a pipe").write_all(stream.as_bytes()).expect("sent");
    assert!(import.wait().expect("git ends").success());
    remote.tip(branch).expect("a tip")
}

fn file(number: usize) -> String {
    format!("templates/{}.hcl", number % 40)
}

/// A server with a long history on `main`, and its tip.
fn long() -> (Bed, String) {
    let bed = Bed::start();
    let tip = add(&bed.remote(), "main", COMMITS, file);
    (bed, tip)
}

fn whole(bed: &Bed, clone: &str) -> Handle {
    bed.handle_with(|options| {
        options.folder = options.folder.with_file_name(clone);
        options.history = History::Whole;
    })
}

fn id(commit: &str) -> CommitId {
    CommitId::parse(commit).expect("an ID")
}

/// The number of objects in the clone.
fn objects(bed: &Bed) -> usize {
    let mut git = git_of(&bed.folder.path().join("clone"), ANN);
    printed(git.args(["cat-file", "--batch-all-objects", "--batch-check"])).lines().count()
}

/// Asserts that Git finds no object missing in the clone.
fn assert_sound(bed: &Bed) {
    printed(git_of(&bed.folder.path().join("clone"), ANN).args(["fsck", "--connectivity-only"]));
}

fn lose(bed: &Bed) {
    std::fs::remove_dir_all(bed.folder.path().join("clone")).expect("removed");
}

fn start(bed: &Bed, last: Option<&str>, accepted: Option<&str>) -> (Sync, Outputs) {
    let (mut sync, outputs) =
        Sync::new(bed.handle(), Box::new(|_: &[SourceFile]| ObjectSet::default()), Timestamp::now);
    let source = sync_source(bed);
    let last = last.map(|commit| LastSynced { commit: id(commit), source, verified: None });
    let accepted = accepted.map(id);
    let accepts = Accepts {
        pending: Box::new(move || std::future::ready(accepted.clone()).boxed()),
        remove: Box::new(|_| std::future::ready(true).boxed()),
    };
    sync.continue_from(last, accepts);
    (sync, outputs)
}

fn sync_source(bed: &Bed) -> String {
    Address::parse(&bed.url()).expect("an address").identity()
}

#[tokio::test]
async fn a_first_fetch_and_the_next_ones_receive_a_small_part_of_the_history() {
    let (bed, tip) = long();
    whole(&bed, "whole").fetch().await.expect("a tip");
    let (_, all) = bed.traffic();
    let git = bed.handle();
    assert_eq!(git.fetch().await.expect("a tip").commit, id(&tip));
    let (_, first) = bed.traffic();
    assert!(first * 10 < all, "{first} of {all} bytes");
    assert!(objects(&bed) * 10 < COMMITS * 3, "{} objects", objects(&bed));
    assert_sound(&bed);

    let next = add(&bed.remote(), "main", 1, file);
    assert_eq!(git.fetch().await.expect("a tip").commit, id(&next));
    let (_, one) = bed.traffic();
    assert!(one < 8_192, "{one} bytes for one commit");
    // A merge of a branch that began long ago.
    let (old, remote) = (format!("{tip}~2500"), bed.remote());
    let old = printed(git_of(remote.path(), ANN).args(["rev-parse", &old]));
    remote.reset("side", old.trim());
    let side = add(&remote, "side", 2, |number| format!("side/{number}"));
    let tree = printed(git_of(remote.path(), ANN).args(["rev-parse", "main^{tree}"]));
    let merge = ["commit-tree", tree.trim(), "-p", &next, "-p", &side, "-m", "merge"];
    let merge = printed(git_of(remote.path(), ANN).args(merge));
    remote.reset("main", merge.trim());
    bed.traffic();
    assert_eq!(git.fetch().await.expect("a tip").commit, id(merge.trim()));
    let (_, merged) = bed.traffic();
    assert!(merged * 5 < all, "{merged} of {all} bytes for a merge");
    assert!(git.follows(&id(merge.trim()), &id(&next)).await.expect("known"));
    assert_sound(&bed);
}

#[tokio::test]
async fn the_history_is_fetched_when_it_is_needed_and_stays() {
    let (bed, tip) = long();
    let remote = bed.remote();
    let ancestor = |back: usize| {
        let name = format!("{tip}~{back}");
        id(printed(git_of(remote.path(), ANN).args(["rev-parse", &name])).trim())
    };
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    let few = objects(&bed);
    assert!(git.follows(&id(&tip), &ancestor(40)).await.expect("known"));
    assert_eq!(objects(&bed), few, "nothing was fetched for it");
    assert!(git.follows(&id(&tip), &ancestor(300)).await.expect("known"));
    let some = objects(&bed);
    assert!(few < some && some * 3 < COMMITS * 3, "{few}, {some}");
    let other = id(&remote.rewrite("other", &[("x", Some("1"))]));
    assert!(!git.follows(&id(&tip), &other).await.expect("known"), "only the whole history shows that");
    let all = objects(&bed);
    let clone = bed.folder.path().join("clone");
    assert!(some < all && !clone.join("shallow").exists());
    assert_sound(&bed);
    let next = add(&remote, "main", 1, file);
    git.fetch().await.expect("a tip");
    assert!(!clone.join("shallow").exists() && objects(&bed) > all, "it is not cut again");
    assert!(git.follows(&id(&next), &ancestor(COMMITS - 1)).await.expect("known"));
}

#[tokio::test]
async fn a_new_clone_continues_from_a_commit_that_is_far_behind() {
    let (bed, tip) = long();
    let (mut sync, _) = start(&bed, None, None);
    assert_eq!(sync.once().await.expect("synced").commit, id(&tip));
    let next = add(&bed.remote(), "main", 100, file);
    // The same clone, whose newest commits are not connected to the older ones at first.
    assert_eq!(sync.once().await.expect("synced").commit, id(&next));
    assert_sound(&bed);
    drop(sync);
    lose(&bed);
    let (mut sync, outputs) = start(&bed, Some(&tip), None);
    assert_eq!(sync.once().await.expect("synced").commit, id(&next));
    assert_eq!(outputs.state.borrow().held, None);
    assert!(objects(&bed) * 3 < COMMITS * 3, "{} objects", objects(&bed));
    assert_sound(&bed);
}

#[tokio::test]
async fn a_rewritten_branch_is_held_back_by_a_new_clone_and_accepted() {
    let (bed, tip) = long();
    let remote = bed.remote();
    remote
        .repo()
        .config()
        .and_then(|mut config| config.set_bool("uploadpack.allowAnySHA1InWant", true))
        .expect("set");
    // The last commits were replaced by as many others.
    let base = printed(git_of(remote.path(), ANN).args(["rev-parse", &format!("{tip}~200")]));
    remote.reset("main", base.trim());
    let other = add(&remote, "main", 200, |number| format!("other/{number}"));
    let (mut sync, outputs) = start(&bed, Some(&tip), None);
    let stays = sync.once().await.expect("the last commit stays in force");
    assert_eq!((stays.commit.as_str(), outputs.state.borrow().held), (&*tip, Some(Hold::Rewritten)));
    drop(sync);
    let (mut sync, outputs) = start(&bed, Some(&tip), Some(&other));
    assert_eq!(sync.once().await.expect("accepted").commit, id(&other));
    assert_eq!(outputs.state.borrow().held, None);
    assert_sound(&bed);
}

#[tokio::test]
async fn the_author_of_a_change_is_named_behind_many_status_commits() {
    let (bed, tip) = long();
    add(&bed.remote(), "main", 120, |number| format!("status/{number}"));
    let git = bed.handle();
    let fetched = git.fetch().await.expect("a tip");
    let described = git.describe(&fetched.commit, "status").await.expect("a commit");
    assert_eq!((described.id, described.author.as_str()), (id(&tip), ANN.0));
}

#[tokio::test]
async fn a_publish_from_a_cut_clone_sends_the_new_objects_alone() {
    let (bed, tip) = long();
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    git.note_last_synced(id(&tip));
    let few = objects(&bed);
    let edits = [("status/a.yaml", Edit::Put(b"1".to_vec()))];
    for round in 1..=2 {
        let edits = edits.clone().map(|(path, _)| (path, Edit::Put(round.to_string().into_bytes())));
        let pushed = git.commit(&change("main", &edits)).await.expect("pushed");
        assert!(matches!(pushed, Outcome::Pushed { .. }), "{pushed:?}");
    }
    let remote = bed.remote();
    assert!(!remote.path().join("shallow").exists());
    assert_eq!(remote.log("main").len(), COMMITS + 2);
    printed(git_of(remote.path(), ANN).args(["fsck", "--connectivity-only"]));
    assert!(objects(&bed) <= few + 8, "nothing was fetched for it");
    // Others push, and the next publish continues from there.
    add(&remote, "main", 60, file);
    let pushed =
        git.commit(&change("main", &[("status/b.yaml", Edit::Put(b"1".to_vec()))])).await.expect("pushed");
    assert!(matches!(pushed, Outcome::Pushed { .. }), "{pushed:?}");
    assert_eq!(remote.log("main").len(), COMMITS + 63);
    assert_sound(&bed);
}

#[tokio::test]
async fn a_tip_that_does_not_descend_is_never_published_onto() {
    let (bed, tip) = long();
    let remote = bed.remote();
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    git.note_last_synced(id(&tip));
    let base = printed(git_of(remote.path(), ANN).args(["rev-parse", &format!("{tip}~100")]));
    remote.reset("main", base.trim());
    let other = add(&remote, "main", 100, |number| format!("other/{number}"));
    let refused =
        git.commit(&change("main", &[("status/a", Edit::Put(b"1".to_vec()))])).await.expect_err("rewritten");
    assert!(matches!(refused, GitError::Rewritten { .. }), "{refused}");
    assert_eq!(remote.tip("main"), Some(other));
}

#[tokio::test]
async fn a_cut_clone_gets_the_whole_history_once_signatures_are_required() {
    let (bed, tip) = long();
    bed.handle().fetch().await.expect("a tip");
    assert_eq!(whole(&bed, "clone").fetch().await.expect("a tip").commit, id(&tip));
    assert!(!bed.folder.path().join("clone/shallow").exists());
    assert!(objects(&bed) >= COMMITS * 3);
    // And the other way: what is there stays.
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    add(&bed.remote(), "main", 1, file);
    git.fetch().await.expect("a tip");
    assert!(!bed.folder.path().join("clone/shallow").exists());
}
