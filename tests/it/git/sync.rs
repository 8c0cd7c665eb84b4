//! Syncing: when a commit is handed out, and when it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use opsy::api::{Class, Key, Kind, ObjectKey};
use opsy::git::Secret;
use opsy::git::address::Address;
use opsy::git::auth::Credentials;
use opsy::git::{GitError, Handle};
use opsy::manifest::{Document, Form, ObjectSet, Reader, SourceFile};
use opsy::sync::{Outputs, Parse, Sync, Synced};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, DEADLINE, Remote};

/// Longer than any test: every sync is caused by a wakeup.
const NEVER: Duration = Duration::from_secs(3600);

fn start(git: Handle) -> (Sync, Outputs) {
    Sync::new(git, parser().0, Timestamp::now)
}

/// Parses one document per file, named after it; `opsy.yaml` is JSON. Returns a counter of its calls, too.
fn parser() -> (Parse, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let parse = move |files: &[SourceFile]| {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut set = ObjectSet::default();
        for file in files {
            if file.path == "opsy.yaml" {
                set.settings = serde_json::from_slice(&file.content()).expect("settings");
            } else if file.form == Form::File {
                set.documents.insert(document(file));
            }
        }
        let status = set.settings.status_path().to_owned() + "/";
        let is_read = |document: &&Document| !document.file.starts_with(&status);
        set.documents = set.documents.iter().filter(is_read).cloned().collect();
        set
    };
    (Box::new(parse), calls)
}

fn document(file: &SourceFile) -> Document {
    let key = Key { namespace: "default".to_owned(), name: file.path.clone() };
    let json = serde_json::json!(String::from_utf8_lossy(&file.content()));
    Document {
        object: ObjectKey { kind: Kind::PackerBuilder, key },
        json: (&json).into(),
        file: file.path.clone(),
        line: 1,
    }
}

/// The paths and contents of the status files.
pub(super) fn status_files(synced: &Synced) -> Vec<(&str, &str)> {
    let files = synced.status_files.iter();
    files.map(|file| (file.path.as_str(), str::from_utf8(&file.content).expect("text"))).collect()
}

fn files(synced: &Synced) -> Vec<&str> {
    synced.set.documents.iter().map(|document| document.file.as_str()).collect()
}

/// Waits until the synced commit fits.
async fn until(
    receiver: &mut watch::Receiver<Option<Arc<Synced>>>,
    fits: impl Fn(&Synced) -> bool,
) -> Arc<Synced> {
    let seen = receiver.wait_for(|synced| synced.as_deref().is_some_and(&fits));
    let seen = tokio::time::timeout(DEADLINE, seen).await.expect("in time").expect("the loop runs");
    seen.clone().expect("some commit")
}

#[tokio::test]
async fn only_a_changed_input_is_handed_out() {
    let bed = Bed::start();
    let remote = bed.remote();
    let first = remote
        .commit("main", &[("a.yaml", Some("1")), ("status/a.yaml", Some("s1")), ("notes.txt", Some("n"))]);
    let (parse, parsed) = parser();
    let (mut sync, mut outputs) = Sync::new(bed.handle(), parse, Timestamp::now);
    let synced = sync.once().await.expect("synced");
    assert_eq!((synced.commit.as_str(), files(&synced)), (first.as_str(), vec!["a.yaml"]));
    assert_eq!(status_files(&synced), [("a.yaml", "s1")]);
    outputs.synced.mark_unchanged();
    remote.commit("main", &[("status/a.yaml", Some("s2"))]);
    let ours = remote.commit("main", &[("status/b.yaml", Some("s3"))]);
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), first, "the commit in force stays");
    assert!(!outputs.synced.has_changed().expect("alive"));
    assert_eq!(parsed.load(Ordering::Relaxed), 1, "nothing was parsed");
    assert_eq!(outputs.state.borrow().commit.as_ref().map(|commit| commit.as_str().to_owned()), Some(ours));
    let theirs = remote.commit("main", &[("packer/node/node.pkr.hcl", Some("new"))]);
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), theirs, "templates are input too");
    assert!(outputs.synced.has_changed().expect("alive"));
}

#[tokio::test]
async fn one_folder_of_the_repository() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit(
        "main",
        &[
            ("prod/a.yaml", Some("1")),
            ("prod/opsy.yaml", Some(r#"{"statusPath": "state/here"}"#)),
            ("prod/state/here/x.yaml", Some("s")),
            ("test/b.yaml", Some("2")),
        ],
    );
    let git = bed.handle_with(|options| options.path = "./prod/".to_owned());
    let (mut sync, outputs) = start(git);
    let synced = sync.once().await.expect("synced");
    assert_eq!(files(&synced), ["a.yaml"]);
    assert_eq!(status_files(&synced), [("x.yaml", "s")]);
    remote.commit("main", &[("prod/state/here/x.yaml", Some("s2"))]);
    assert_eq!(sync.once().await.expect("synced").commit, synced.commit);
    remote
        .commit("main", &[("prod/a.yaml", None), ("prod/opsy.yaml", None), ("prod/state/here/x.yaml", None)]);
    let missing = sync.once().await.expect_err("no directory");
    assert!(matches!(&missing, GitError::NoPath { path, .. } if path == "prod"), "{missing}");
    assert_eq!(
        outputs.synced.borrow().as_deref(),
        Some(&*synced),
        "nothing is pruned because of a missing directory"
    );
}

#[tokio::test]
async fn settings_that_hide_everything_are_refused() {
    let bed = Bed::start();
    for status in [".", "../x", ""] {
        let settings = serde_json::json!({"statusPath": status}).to_string();
        bed.remote().commit("main", &[("opsy.yaml", Some(&settings))]);
        let error = start(bed.handle()).0.once().await.expect_err("refused");
        assert_eq!(
            (error.class(), error.to_string().contains("statusPath")),
            (Class::Invalid, true),
            "{status}"
        );
    }
}

#[tokio::test]
async fn links_are_not_followed() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a.txt", Some("1"))]);
    bed.remote().link("main", "b.yaml", "/etc/passwd");
    let reader = Reader::default();
    let (mut sync, _outputs) = Sync::new(bed.handle(), Box::new(reader), Timestamp::now);
    let synced = sync.once().await.expect("synced");
    let problems: Vec<_> = synced.set.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "b.yaml:1: is a link to \"/etc/passwd\", which is not in the repository; if it is not meant for Opsy, list it in .opsyignore"
        ]
    );
    assert!(!synced.set.complete(), "the content behind the link is unknown");
}

#[tokio::test]
async fn status_is_read_from_the_branch_it_is_published_to() {
    let bed = Bed::start();
    let settings = r#"{"publish": {"branch": "opsy-status"}}"#;
    bed.remote().commit("main", &[("opsy.yaml", Some(settings)), ("status/old.yaml", Some("old"))]);
    let (mut sync, _outputs) = start(bed.handle());
    assert_eq!(status_files(&sync.once().await.expect("synced")), [], "no such branch yet");
    bed.remote().commit("opsy-status", &[("status/a.yaml", Some("s"))]);
    let (mut sync, _outputs) = start(bed.handle());
    let synced = sync.once().await.expect("synced");
    assert_eq!(status_files(&synced), [("a.yaml", "s")]);
}

#[tokio::test]
async fn errors_keep_the_last_good_commit_and_are_told() {
    let bed = Bed::start();
    let first = bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    let (sync, outputs) = start(bed.handle());
    let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
    let running = tokio::spawn(sync.run(NEVER, Arc::clone(&wake), stop.clone()));
    let Outputs { mut synced, mut state, .. } = outputs;
    until(&mut synced, |synced| synced.commit.as_str() == first).await;
    bed.away(Some("refuse"));
    let second = bed.remote().commit("main", &[("a.yaml", Some("2"))]);
    wake.notify_one();
    let failing = tokio::time::timeout(DEADLINE, state.wait_for(|state| state.error.is_some())).await;
    let (class, words) = failing.expect("in time").expect("alive").error.clone().expect("an error");
    assert!(class == Class::TRANSIENT && words.contains("cannot be reached"), "{words}");
    assert_eq!(synced.borrow().as_ref().map(|synced| synced.commit.as_str().to_owned()), Some(first));
    bed.away(None);
    wake.notify_one();
    until(&mut synced, |synced| synced.commit.as_str() == second).await;
    let well = tokio::time::timeout(DEADLINE, state.wait_for(|state| state.error.is_none())).await;
    assert_eq!(
        well.expect("in time").expect("alive").commit.as_ref().map(|commit| commit.as_str()),
        Some(&*second)
    );
    stop.cancel();
    tokio::time::timeout(DEADLINE, running).await.expect("stops").expect("no panic");
}

/// `opsy validate` reports the same: its tests expect these messages, too.
#[tokio::test]
async fn what_cannot_be_read_is_an_error() {
    let bed = Bed::start();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 812\n";
    let large = "#".repeat(1024 * 1024 + 1);
    let files = [
        ("builders/large.yaml", Some(large.as_str())),
        ("builders/pointer.yaml", Some(pointer)),
        ("shared/big.bin", Some(pointer)),
    ];
    bed.remote().commit("main", &files);
    bed.remote().link("main", "builders/link.yaml", "../shared/big.bin");
    let reader = Reader::default();
    let (mut sync, _outputs) = Sync::new(bed.handle(), Box::new(reader), Timestamp::now);
    let synced = sync.once().await.expect("synced");
    let remedy = "; if it is not meant for Opsy, list it in .opsyignore";
    let lines = [
        "builders/large.yaml:1: has more than 1048576 bytes and is not read",
        "builders/link.yaml:1: is a link to shared/big.bin, and links are not followed: commit the file itself, without Git LFS",
        "builders/pointer.yaml:1: is a Git LFS pointer, and the file itself is not in the repository: commit it without LFS",
    ];
    let said: Vec<_> = synced.set.problems.iter().map(ToString::to_string).collect();
    assert_eq!(said, lines.map(|line| format!("{line}{remedy}")));
    assert!(!synced.set.complete());
}

#[tokio::test]
async fn an_ignore_file_that_cannot_be_read_keeps_the_last_good_commit() {
    let bed = Bed::start();
    let written = [(".opsyignore", Some("old/\n")), ("a.yaml", Some("1")), ("old/b.yaml", Some("2"))];
    let first = bed.remote().commit("main", &written);
    let (mut sync, outputs) = start(bed.handle());
    assert_eq!(files(&sync.once().await.expect("synced")), ["a.yaml"]);
    let mut refused = async |why: &str| {
        let error = sync.once().await.expect_err(why);
        assert_eq!(error.class(), Class::Invalid);
        let said = error.to_string();
        assert!(said.starts_with(".opsyignore: ") && said.contains(why), "{why}: {said}");
        let synced = outputs.synced.borrow().clone().expect("the last good commit");
        assert_eq!((synced.commit.as_str(), files(&synced)), (first.as_str(), vec!["a.yaml"]));
    };
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 812\n";
    bed.remote().commit("main", &[(".opsyignore", Some(pointer))]);
    refused("Git LFS pointer").await;
    bed.remote().commit("main", &[(".opsyignore", Some("o\0l\0d\0"))]);
    refused("save it as UTF-8").await;
    bed.remote().link("main", ".opsyignore", "a.yaml");
    refused("is a link").await;
    bed.remote().commit("main", &[(".opsyignore", None), (".opsyignore/x", Some(""))]);
    refused("is a directory").await;
    bed.remote().commit("main", &[(".opsyignore/x", None)]);
    bed.remote().submodule("main", ".opsyignore");
    refused("is a submodule").await;
    bed.remote().commit("main", &[(".opsyignore", Some("a.yaml\n"))]);
    assert_eq!(files(&sync.once().await.expect("synced")), ["old/b.yaml"]);
}

/// Runs the loop, which may start from the clone and fetches only after a wakeup.
fn run(git: Handle) -> (tokio::task::JoinHandle<()>, Arc<Notify>, Outputs) {
    let (mut sync, outputs) = start(git);
    sync.allow_start_from_clone();
    let wake = Arc::new(Notify::new());
    let running = tokio::spawn(sync.run(NEVER, Arc::clone(&wake), CancellationToken::new()));
    (running, wake, outputs)
}

#[tokio::test]
async fn a_start_while_the_remote_is_away_uses_the_clone() {
    let settings = r#"{"publish": {"branch": "opsy-status"}}"#;
    for (branch, named) in [("main", false), ("trunk", false), ("release", true)] {
        let bed = Bed::start();
        let handle = || bed.handle_with(|options| options.branch = named.then(|| branch.to_owned()));
        bed.remote().commit(branch, &[("opsy.yaml", Some(settings)), ("a.yaml", Some("1"))]);
        bed.remote().repo().set_head(&format!("refs/heads/{branch}")).expect("a default");
        bed.remote().commit("opsy-status", &[("status/a.yaml", Some("s"))]);
        let before = start(handle()).0.once().await.expect("synced");
        bed.away(Some("refuse"));

        let git = handle();
        let (running, wake, Outputs { mut synced, mut state, .. }) = run(git.clone());
        let taken = until(&mut synced, |_| true).await;
        assert_eq!(*taken, *before, "status files of another branch too");
        let said = tokio::time::timeout(DEADLINE, state.wait_for(|state| state.error.is_some())).await;
        let said = said.expect("in time").expect("alive").clone();
        assert_eq!((said.commit.as_ref(), said.from_clone), (Some(&before.commit), true));
        assert_eq!(git.branch().as_deref(), Some(branch));

        let newer = bed.remote().commit(branch, &[("a.yaml", Some("2"))]);
        bed.away(None);
        wake.notify_one();
        until(&mut synced, |synced| synced.commit.as_str() == newer).await;
        let well = tokio::time::timeout(DEADLINE, state.wait_for(|state| state.error.is_none())).await;
        assert!(!well.expect("in time").expect("alive").from_clone);
        running.abort();
    }
}

#[tokio::test]
async fn a_clone_of_another_repository_or_branch_is_not_started_from() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    start(bed.handle()).0.once().await.expect("synced");
    bed.away(Some("refuse"));
    let elsewhere = Address::parse(&bed.url().replace("repo.git", "other.git")).expect("an address");
    for git in [
        bed.handle_with(|options| options.branch = Some("release".to_owned())),
        bed.handle_with(|options| options.address = elsewhere),
    ] {
        let (running, _, Outputs { synced, mut state, .. }) = run(git);
        let failing = tokio::time::timeout(DEADLINE, state.wait_for(|state| state.error.is_some())).await;
        assert!(!failing.expect("in time").expect("alive").from_clone);
        assert_eq!(*synced.borrow(), None);
        running.abort();
    }
}

#[tokio::test]
async fn a_single_sync_never_starts_from_the_clone() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    start(bed.handle()).0.once().await.expect("synced");
    bed.away(Some("refuse"));
    let (mut sync, outputs) = start(bed.handle());
    sync.allow_start_from_clone();
    let away = sync.once().await.expect_err("away");
    assert!(matches!(away, GitError::Unreachable { .. }), "{away}");
    assert_eq!(*outputs.synced.borrow(), None);
}

#[tokio::test]
async fn the_interval_alone_finds_news() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    let (sync, mut outputs) = start(bed.handle());
    let running =
        tokio::spawn(sync.run(Duration::from_millis(20), Arc::new(Notify::new()), CancellationToken::new()));
    until(&mut outputs.synced, |_| true).await;
    let second = bed.remote().commit("main", &[("a.yaml", Some("2"))]);
    until(&mut outputs.synced, |synced| synced.commit.as_str() == second).await;
    running.abort();
}

#[tokio::test]
async fn a_local_repository_is_watched() {
    let bed = Bed::start();
    let remote = Remote::init(&bed.folder.path().join("local.git"));
    remote.commit("main", &[("a.yaml", Some("1"))]);
    let address = Address::parse(remote.path().to_str().expect("UTF-8")).expect("a path");
    let (sync, mut outputs) = start(bed.handle_with(|options| options.address = address));
    let running = tokio::spawn(sync.run(NEVER, Arc::new(Notify::new()), CancellationToken::new()));
    until(&mut outputs.synced, |_| true).await;
    let second = remote.commit("main", &[("a.yaml", Some("2"))]);
    until(&mut outputs.synced, |synced| synced.commit.as_str() == second).await;
    running.abort();
}

#[tokio::test]
async fn new_credentials_are_tried_at_once() {
    let bed = Bed::guarded("*:right\n");
    bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    let file = bed.folder.path().join("secrets/token");
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
    std::fs::write(&file, "wrong").expect("written");
    let credentials = Credentials::token(Secret::File(file.clone()));
    let (sync, mut outputs) = start(bed.handle_with(|options| options.credentials = Some(credentials)));
    let running = tokio::spawn(sync.run(NEVER, Arc::new(Notify::new()), CancellationToken::new()));
    let refused = tokio::time::timeout(DEADLINE, outputs.state.wait_for(|state| state.error.is_some())).await;
    let class = refused.expect("in time").expect("alive").error.as_ref().map(|(class, _)| *class);
    assert_eq!(class, Some(Class::Denied));
    let new = file.with_file_name("new");
    std::fs::write(&new, "right").expect("written");
    std::fs::rename(&new, &file).expect("in place");
    until(&mut outputs.synced, |_| true).await;
    running.abort();
}

#[tokio::test]
async fn a_manifest_that_turned_into_a_link_or_a_pointer_makes_the_set_incomplete() {
    let bed = Bed::start();
    let manifest = "apiVersion: ami.opsy.dev/v1alpha1\nkind: AMIRefresher\nmetadata: {name: demo}\nspec: {region: us-east-1, clusterName: demo}\n";
    bed.remote()
        .commit("main", &[("refreshers/demo.yaml", Some(manifest)), ("shared/demo.tmpl", Some(manifest))]);
    let reader = Reader::default();
    let (mut sync, _outputs) = Sync::new(bed.handle(), Box::new(reader), Timestamp::now);
    assert!(sync.once().await.expect("synced").set.complete());
    let mut broken = async |what: &str| {
        let set = sync.once().await.expect("synced").set.clone();
        let problem = set.problems.first().map(ToString::to_string).unwrap_or_default();
        assert!(!set.complete() && set.documents.is_empty() && problem.contains(what), "{what}: {problem}");
    };
    bed.remote().link("main", "refreshers/demo.yaml", "../shared/demo.tmpl");
    broken("refreshers/demo.yaml:1: is a link to shared/demo.tmpl").await;
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 812\n";
    bed.remote().commit("main", &[("refreshers/demo.yaml", Some(pointer))]);
    broken("Git LFS pointer").await;
    bed.remote().commit("main", &[("refreshers/demo.yaml", None)]);
    bed.remote().submodule("main", "refreshers");
    broken("refreshers:1: is a submodule").await;
}
