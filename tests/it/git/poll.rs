//! Polls: a remote without a change is asked for the refs in use alone, and every change is noticed.

use opsy::git::address::Address;
use opsy::git::commit::{Edit, Outcome};
use opsy::git::{GitError, Handle};

use super::bed::{Bed, Remote, token};
use super::push::change;

/// The request for the refs in use.
const ASK: &str = "ls-refs /repo.git/git-upload-pack?";
/// The request for all refs.
const ALL_REFS: &str = "GET /repo.git/info/refs?service=git-upload-pack";
/// More refs than the repositories of most organizations have; their list takes more than a megabyte.
const MANY: usize = 20_000;
/// The limit for a poll without a change.
const SMALL: u64 = 2048;

fn first(remote: &Remote) -> String {
    remote.commit("main", &[("a.yaml", Some("1"))])
}

async fn fetched(git: &Handle) -> (String, String, bool) {
    let tip = git.fetch().await.expect("a tip");
    (tip.branch, tip.commit.to_string(), tip.fetched)
}

fn tip(branch: &str, commit: &str, fetched: bool) -> (String, String, bool) {
    (branch.to_owned(), commit.to_owned(), fetched)
}

#[tokio::test]
async fn a_poll_does_not_list_the_refs_of_pull_requests() {
    let bed = Bed::start();
    let remote = bed.remote();
    let one = first(&remote);
    remote.add_pull_requests(MANY, &one);
    for branch in [None, Some("main".to_owned())] {
        let git = bed.handle_with(|options| {
            options.folder = options.folder.with_file_name(format!("clone-{branch:?}"));
            options.branch = branch;
        });
        git.fetch().await.expect("a tip");
        let (_, all) = bed.traffic();
        assert!(all > 1_000_000, "libgit2 receives them all: {all} bytes");
        assert_eq!(fetched(&git).await, tip("main", &one, false));
        let (requests, bytes) = bed.traffic();
        assert!(requests == 1 && bytes <= SMALL, "{requests} requests, {bytes} bytes");
    }
}

#[tokio::test]
async fn branches_below_a_prefix_are_found_without_a_list_of_all_refs() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.add_pull_requests(MANY, &first(&remote));
    for branch in ["opsy/a/main", "opsy/ab/main", "opsy-a"] {
        remote.commit(branch, &[("a.yaml", Some("1"))]);
    }
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    bed.traffic();
    for is_old in [false, true] {
        bed.speak_old(is_old);
        assert_eq!(git.branches_below("opsy/a/").await.expect("branches"), ["opsy/a/main"]);
        let (requests, bytes) = bed.traffic();
        assert_eq!(requests == 1 && bytes <= SMALL, !is_old, "{requests} requests, {bytes} bytes");
    }
    let path = bed.handle_with(|options| {
        options.folder = options.folder.with_file_name("clone-by-path");
        options.address = Address::parse(&bed.remote().path().to_string_lossy()).expect("a path");
    });
    assert_eq!(path.branches_below("opsy/a/").await.expect("branches"), ["opsy/a/main"]);
}

#[tokio::test]
async fn every_change_of_the_branch_is_noticed() {
    let bed = Bed::start();
    let remote = bed.remote();
    let one = first(&remote);
    let git = bed.handle();
    assert_eq!(fetched(&git).await, tip("main", &one, true));
    let two = remote.commit("main", &[("a.yaml", Some("2"))]);
    assert_eq!(fetched(&git).await, tip("main", &two, true), "a push");
    remote.reset("main", &one);
    assert_eq!(fetched(&git).await, tip("main", &one, true), "back to an older commit");
    remote.commit("main-2", &[("b.yaml", Some("1"))]);
    bed.journal();
    assert_eq!(fetched(&git).await, tip("main", &one, false));
    assert_eq!(bed.journal(), [ASK], "a branch with a longer name is another one");
    let next = remote.commit("next", &[("b.yaml", Some("1"))]);
    remote.repo().set_head("refs/heads/next").expect("a head");
    assert_eq!(fetched(&git).await, tip("next", &next, true), "another default branch");
    remote.reset("next", &one);
    assert_eq!(fetched(&git).await, tip("next", &one, true));
    remote.repo().set_head("refs/heads/main").expect("a head");
    assert_eq!(fetched(&git).await, tip("main", &one, false), "another default branch at the same commit");
    remote.repo().set_head_detached(git2::Oid::from_str(&one).expect("an ID")).expect("a head");
    let detached = git.fetch().await.expect_err("no default branch");
    assert!(matches!(detached, GitError::NoDefaultBranch { .. }), "{detached}");
    let named = bed.handle_with(|options| options.branch = Some("next".to_owned()));
    assert_eq!(fetched(&named).await, tip("next", &one, false));
    remote.delete("next");
    let gone = named.fetch().await.expect_err("deleted");
    assert!(matches!(gone, GitError::NoBranch { .. }), "{gone}");
    for branch in ["main", "main-2"] {
        remote.delete(branch);
    }
    remote.repo().set_head("refs/heads/main").expect("a head");
    let empty = named.fetch().await.expect_err("empty");
    assert!(matches!(empty, GitError::Empty { .. }), "{empty}");
}

#[tokio::test]
async fn a_server_with_an_old_protocol_is_asked_once() {
    let bed = Bed::start();
    bed.speak_old(true);
    let one = first(&bed.remote());
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    bed.journal();
    assert_eq!(fetched(&git).await, tip("main", &one, false));
    assert_eq!(bed.journal(), [ASK, ALL_REFS]);
    assert_eq!(fetched(&git).await, tip("main", &one, false));
    assert_eq!(bed.journal(), [ALL_REFS], "the answer is remembered");
    let two = bed.remote().commit("main", &[("a.yaml", Some("2"))]);
    assert_eq!(fetched(&git).await, tip("main", &two, true));
}

#[tokio::test]
async fn credentials_are_sent_only_to_a_server_that_asks() {
    let open = Bed::start();
    let one = first(&open.remote());
    let git = open.handle_with(|options| options.credentials = Some(token("hunter2")));
    for is_new in [true, false, false] {
        assert_eq!(fetched(&git).await, tip("main", &one, is_new));
    }
    assert_eq!(open.users(), Vec::<String>::new());

    let guarded = Bed::guarded("*:hunter2\n");
    let one = first(&guarded.remote());
    let git = guarded.handle_with(|options| options.credentials = Some(token("hunter2")));
    git.fetch().await.expect("a tip");
    guarded.journal();
    assert_eq!(fetched(&git).await, tip("main", &one, false));
    assert_eq!(guarded.journal(), [ASK, ASK], "the first request shows that the server asks");
    assert_eq!(fetched(&git).await, tip("main", &one, false));
    assert_eq!(guarded.journal(), [ASK]);
    guarded.allow("*:other\n");
    let refused = git.fetch().await.expect_err("another token");
    assert!(matches!(refused, GitError::Rejected { .. }), "{refused}");
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
    guarded.allow("*:hunter2\n");
    assert_eq!(fetched(&git).await, tip("main", &one, false));
}

#[tokio::test]
async fn a_redirect_is_left_to_the_connection_that_checks_it() {
    let bed = Bed::start();
    let one = first(&bed.remote());
    let url = bed.moved("repo", false);
    let git = bed.handle_with(|options| options.address = Address::parse(&url).expect("an address"));
    git.fetch().await.expect("a tip");
    bed.journal();
    assert_eq!(fetched(&git).await, tip("main", &one, false));
    let (moved, all) = ("ls-refs /repo/git-upload-pack?", "GET /repo/info/refs?service=git-upload-pack");
    assert_eq!(bed.journal(), [moved, all, ALL_REFS], "the first request was not redirected");
    let two = bed.remote().commit("main", &[("a.yaml", Some("2"))]);
    assert_eq!(fetched(&git).await, tip("main", &two, true));
}

#[tokio::test]
async fn a_remote_that_was_away_is_asked_again() {
    let bed = Bed::start();
    let one = first(&bed.remote());
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    for mode in ["503", "refuse"] {
        bed.away(Some(mode));
        let away = git.fetch().await.expect_err("away");
        assert!(matches!(away, GitError::Unreachable { .. }), "{mode}: {away}");
    }
    bed.away(None);
    assert_eq!(fetched(&git).await, tip("main", &one, false));
    let two = bed.remote().commit("main", &[("a.yaml", Some("2"))]);
    assert_eq!(fetched(&git).await, tip("main", &two, true));
}

#[tokio::test]
async fn several_branches_are_asked_for_in_one_request() {
    let bed = Bed::start();
    let remote = bed.remote();
    let one = first(&remote);
    remote.add_pull_requests(MANY, &one);
    let (next, other) =
        (remote.commit("next", &[("b", Some("1"))]), remote.commit("x/other", &[("c", Some("1"))]));
    let git = bed.handle_with(|options| options.history = opsy::git::History::Tips);
    let wanted = || vec![None, Some("next".to_owned()), Some("x/other".to_owned())];
    let fetch = async || {
        let tips = git.fetch_branches(wanted(), None, None).await.expect("a connection");
        let tips = tips.into_iter().map(|tip| tip.expect("a tip"));
        tips.map(|tip| (tip.branch, tip.commit.to_string(), tip.fetched)).collect::<Vec<_>>()
    };
    fetch().await;
    bed.traffic();
    assert_eq!(
        fetch().await,
        [tip("main", &one, false), tip("next", &next, false), tip("x/other", &other, false)]
    );
    let (requests, bytes) = bed.traffic();
    assert!(requests == 1 && bytes <= SMALL, "{requests} requests, {bytes} bytes");
    let new = remote.commit("next", &[("b", Some("2"))]);
    assert_eq!(
        fetch().await,
        [tip("main", &one, false), tip("next", &new, true), tip("x/other", &other, false)]
    );
}

#[tokio::test]
async fn a_publish_onto_an_unchanged_branch_does_not_list_all_refs_to_read() {
    let bed = Bed::start();
    first(&bed.remote());
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    bed.journal();
    let edits = [("status/a.yaml", Edit::Put(b"1".to_vec()))];
    let pushed = git.commit(&change("main", &edits)).await.expect("pushed");
    let Outcome::Pushed { commit, .. } = pushed else { panic!("{pushed:?}") };
    let journal = bed.journal();
    assert!(journal[0] == ASK && !journal.contains(&ALL_REFS.to_owned()), "{journal:?}");
    assert_eq!(fetched(&git).await, tip("main", commit.as_str(), false));
    assert_eq!(bed.journal(), [ASK], "the pushed commit is known");
}

#[tokio::test]
async fn a_change_of_a_local_repository_is_noticed() {
    let folder = tempfile::tempdir().expect("a directory");
    let remote = Remote::init(&folder.path().join("repo.git"));
    let one = first(&remote);
    remote.add_pull_requests(MANY, &one);
    let bed = Bed::start();
    let address = Address::parse(remote.path().to_str().expect("UTF-8")).expect("a path");
    let git = bed.handle_with(|options| options.address = address);
    for is_new in [true, false] {
        assert_eq!(fetched(&git).await, tip("main", &one, is_new));
    }
    let two = remote.commit("main", &[("a.yaml", Some("2"))]);
    for is_new in [true, false] {
        assert_eq!(fetched(&git).await, tip("main", &two, is_new));
    }
    let next = remote.commit("next", &[("b", Some("1"))]);
    remote.repo().set_head("refs/heads/next").expect("a head");
    assert_eq!(fetched(&git).await, tip("next", &next, true), "another default branch");
    remote.delete("next");
    remote.repo().set_head("refs/heads/main").expect("a head");
    assert_eq!(fetched(&git).await, tip("main", &two, false));
    std::fs::rename(remote.path(), folder.path().join("elsewhere")).expect("moved");
    let gone = git.fetch().await.expect_err("no repository");
    assert!(matches!(gone, GitError::NoRepository { .. }), "{gone}");
}
