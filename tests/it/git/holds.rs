//! A tip that is held back: what stays in force, what people are asked to do, and when the hold ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use jiff::Timestamp;
use opsy::api::CommitId;
use opsy::api::status::LastSynced;
use opsy::git::{GitError, Handle};
use opsy::manifest::{ObjectSet, SourceFile};
use opsy::sync::{Accepts, Hold, Outputs, Sync};

use super::bed::{Bed, Remote};

/// The request of a person to accept a commit, as a `Home` stores it.
#[derive(Clone, Default)]
struct Person {
    request: Arc<Mutex<Option<CommitId>>>,
    asked: Arc<AtomicUsize>,
}

impl Person {
    fn accepts(&self) -> Accepts {
        let (of_pending, of_remove) = (self.clone(), self.clone());
        Accepts {
            pending: Box::new(move || {
                of_pending.asked.fetch_add(1, Ordering::Relaxed);
                let request = of_pending.request.lock().expect("not poisoned").clone();
                async move { request }.boxed()
            }),
            remove: Box::new(move |commit| {
                let mut request = of_remove.request.lock().expect("not poisoned");
                if request.as_ref() == Some(&commit) {
                    *request = None;
                }
                async { true }.boxed()
            }),
        }
    }

    fn accept(&self, commit: &str) {
        *self.request.lock().expect("not poisoned") = Some(id(commit));
    }

    fn waits(&self) -> bool {
        self.request.lock().expect("not poisoned").is_some()
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

fn id(commit: &str) -> CommitId {
    CommitId::parse(commit.to_owned()).expect("an id")
}

/// Parses no objects. `opsy.yaml` is JSON; with other content, the commit cannot be loaded.
fn parse(files: &[SourceFile]) -> ObjectSet {
    let mut set = ObjectSet::default();
    for file in files.iter().filter(|file| file.path == "opsy.yaml") {
        match serde_json::from_slice(&file.content()) {
            Ok(settings) => set.settings = settings,
            Err(_) => set.without_settings = true,
        }
    }
    set
}

fn start(git: Handle, last: Option<LastSynced>, person: &Person) -> (Sync, Outputs) {
    let (mut sync, outputs) = Sync::new(git, Box::new(parse), Timestamp::now);
    sync.continue_from(last, person.accepts());
    (sync, outputs)
}

/// Syncs a first commit and rewrites the branch; returns both commits.
async fn rewritten(bed: &Bed, sync: &mut Sync) -> (String, String) {
    let remote = bed.remote();
    let first = remote.commit("main", &[("a.yaml", Some("1"))]);
    let synced = sync.once().await.expect("synced");
    assert_eq!(synced.commit.as_str(), first);
    (first, remote.rewrite("main", &[("a.yaml", Some("2"))]))
}

fn allow_any(remote: &Remote, any: bool) {
    let mut config = remote.repo().config().expect("a configuration");
    for name in ["allowAnySHA1InWant", "allowReachableSHA1InWant", "allowTipSHA1InWant"] {
        config.set_bool(&format!("uploadpack.{name}"), any).expect("set");
    }
}

#[tokio::test]
async fn a_request_is_read_while_a_tip_is_held_back_and_removed_when_it_is_answered() {
    let (bed, person) = (Bed::start(), Person::default());
    let (mut sync, outputs) = start(bed.handle(), None, &person);
    let (first, tip) = rewritten(&bed, &mut sync).await;
    assert_eq!(person.asked(), 0, "nothing was held back");

    let stays = sync.once().await.expect("the last commit stays in force");
    assert_eq!(
        (stays.commit.as_str(), outputs.state.borrow().held, person.asked()),
        (first.as_str(), Some(Hold::Rewritten), 1)
    );
    person.accept(&first);
    let stays = sync.once().await.expect("the last commit stays in force");
    assert_eq!(
        (stays.commit.as_str(), person.waits()),
        (first.as_str(), false),
        "another commit was accepted"
    );

    person.accept(&tip);
    let remote = bed.remote();
    remote.commit("main", &[("opsy.yaml", Some("not JSON"))]);
    let error = sync.once().await.expect_err("it cannot be loaded");
    assert!(matches!(error, GitError::Path { .. }) && person.waits(), "{error}");
    let good = remote.commit("main", &[("opsy.yaml", None)]);
    let synced = sync.once().await.expect("it descends from the accepted commit");
    assert_eq!((synced.commit.as_str(), person.waits(), outputs.state.borrow().held), (&*good, false, None));
    person.asked();
    sync.once().await.expect("synced");
    assert_eq!(person.asked(), 0);
}

#[tokio::test]
async fn a_hold_lasts_while_the_server_is_away_and_while_the_commit_is_read_again() {
    let (bed, person) = (Bed::start(), Person::default());
    let (mut sync, outputs) = start(bed.handle(), None, &person);
    let (first, tip) = rewritten(&bed, &mut sync).await;
    for _ in 0..2 {
        outputs.reread.request();
        assert_eq!(sync.once().await.expect("read again").commit.as_str(), first);
    }
    let held = outputs.state.borrow().error.clone();
    assert!(held.as_ref().is_some_and(|(_, message)| message.contains(&tip)), "{held:?}");
    bed.away(Some("refuse"));
    sync.once().await.expect_err("the server is away");
    assert_eq!(
        (outputs.state.borrow().held, outputs.state.borrow().error.clone()),
        (Some(Hold::Rewritten), held)
    );
    bed.away(None);
    bed.remote().reset("main", &first);
    sync.once().await.expect("the branch was restored");
    assert_eq!((outputs.state.borrow().held, outputs.state.borrow().error.clone()), (None, None));
}

#[tokio::test]
async fn a_new_clone_says_that_it_cannot_have_the_last_commit() {
    let (bed, person) = (Bed::start(), Person::default());
    let (mut sync, outputs) = start(bed.handle(), None, &person);
    let (first, tip) = rewritten(&bed, &mut sync).await;
    let last = outputs.state.borrow().last.clone();
    allow_any(&bed.remote(), false);
    let fresh = bed.handle_with(|options| options.folder = bed.folder.path().join("another clone"));
    let (mut sync, outputs) = start(fresh, last, &person);
    let error = sync.once().await.expect_err("nothing can be loaded").to_string();
    for words in ["cannot be loaded", "allowAnySHA1InWant", &first, &format!("`opsy accept {tip}`")] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let state = outputs.state.borrow().clone();
    assert!(state.held.is_some() && state.error.is_some_and(|(_, message)| message == error));
    allow_any(&bed.remote(), true);
    let stays = sync.once().await.expect("the server sends it by its ID");
    assert_eq!(stays.commit.as_str(), first);
    let state = outputs.state.borrow().clone();
    assert!(
        state.held.is_some() && state.error.is_some_and(|(_, message)| message.contains("stays in force"))
    );
}
