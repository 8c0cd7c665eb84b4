//! Publishing: what is committed, when, and what happens if the server refuses it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use opsy::api::Class;
use opsy::git::Handle;
use opsy::git::commit::Edit;
use opsy::publish::{Batch, Publish, Publisher, Publishing, Rendered};
use opsy::settings::RepoSettings;
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, DEADLINE, Remote};

/// A running publisher, with the files to publish.
struct World {
    bed: Bed,
    publisher: Publisher,
    batch: Arc<Mutex<Batch>>,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    async fn new(settings: &str) -> Self {
        let bed = Bed::start();
        bed.remote().commit("main", &[("a.yaml", Some("1"))]);
        let git = bed.handle();
        git.fetch().await.expect("a tip");
        Self::on(bed, git, settings)
    }

    fn on(bed: Bed, git: Handle, settings: &str) -> Self {
        let settings: RepoSettings = serde_json::from_str(settings).expect("settings");
        let batch = Arc::new(Mutex::new(Batch::default()));
        let rendered = Arc::clone(&batch);
        let render = Arc::new(move || rendered.lock().expect("not poisoned").clone());
        let known = Arc::new(move || Some(settings.clone()));
        let (publish, publisher) = Publish::new(git, known, render, Timestamp::now);
        let stop = CancellationToken::new();
        tokio::spawn(publish.run(stop.clone()));
        Self { bed, publisher, batch, stop }
    }

    fn remote(&self) -> Remote {
        self.bed.remote()
    }

    /// Sets the content of one object's file.
    fn put(&self, object: &str, text: &str) {
        self.render(object, Edit::Put(text.as_bytes().to_vec()));
    }

    fn render(&self, object: &str, edit: Edit) {
        self.render_version(object, edit, None);
    }

    fn render_version(&self, object: &str, edit: Edit, version: Option<&str>) {
        let files = &mut self.batch.lock().expect("not poisoned").files;
        files.retain(|file| file.resource.as_deref() != Some(object));
        files.push(Rendered {
            path: format!("{object}.yaml"),
            edit,
            resource: Some(object.to_owned()),
            summary: Some(format!("{object} changed")),
            trailers: vec![("Opsy-Build", "0123".to_owned())],
            version: version.map(str::to_owned),
        });
    }

    async fn flush(&self) -> Publishing {
        self.publisher.flush(DEADLINE).await.expect("in time")
    }

    async fn until(&self, fits: impl Fn(&Publishing) -> bool) -> Publishing {
        let mut state = self.publisher.state();
        let seen = tokio::time::timeout(DEADLINE, state.wait_for(|state| fits(state))).await;
        seen.expect("in time").expect("the loop runs").clone()
    }
}

const QUICK: &str = r#"{"publish": {"quietPeriod": "50ms"}}"#;

#[tokio::test]
async fn a_burst_of_changes_is_one_commit() {
    let world = World::new(r#"{"publish": {"quietPeriod": "300ms", "commitSuffix": "[skip ci]"}}"#).await;
    for object in ["one", "two", "three"] {
        world.put(object, "done");
        world.publisher.wake();
        tokio::task::yield_now().await;
    }
    world.until(|state| matches!(state, Publishing::Done { commit: Some(_) })).await;
    assert_eq!(world.remote().log("main"), ["opsy: update status of 3 objects [skip ci]", "by hand"]);
    let message = world.remote().message("main");
    assert!(message.contains("\n- two: two changed\n"), "{message}");
    assert!(message.ends_with("Opsy-Resource: two\n"), "{message}");
    assert_eq!(world.remote().file("main", "status/one.yaml").as_deref(), Some("done"));
}

#[tokio::test]
async fn what_is_published_already_asks_nothing_of_the_remote() {
    let world = World::new(QUICK).await;
    world.put("one", "done");
    assert!(matches!(world.flush().await, Publishing::Done { commit: Some(_) }));
    world.bed.journal();
    assert_eq!(world.flush().await, Publishing::Done { commit: None });
    assert!(world.bed.journal().is_empty());
    // The same applies to a new process, because the clone is kept.
    let git = world.bed.handle();
    git.fetch().await.expect("a tip");
    world.bed.journal();
    let batch = Arc::clone(&world.batch);
    let render = Arc::new(move || batch.lock().expect("not poisoned").clone());
    let (publish, publisher) =
        Publish::new(git, Arc::new(|| Some(RepoSettings::default())), render, Timestamp::now);
    tokio::spawn(publish.run(world.stop.clone()));
    assert_eq!(publisher.flush(DEADLINE).await, Some(Publishing::Done { commit: None }));
    assert!(world.bed.journal().is_empty());
}

#[tokio::test]
async fn removed_and_repaired() {
    let world = World::new(QUICK).await;
    world.put("one", "done");
    world.put("two", "done");
    world.flush().await;
    world.render("two", Edit::Remove);
    world.flush().await;
    assert_eq!(world.remote().file("main", "status/two.yaml"), None);
    // Another person edits Opsy's file: the next sync sees it, and the next batch restores it.
    world.remote().commit("main", &[("status/one.yaml", Some("scribble"))]);
    let git = world.bed.handle();
    git.fetch().await.expect("a tip");
    assert!(matches!(world.flush().await, Publishing::Done { .. }));
    assert_eq!(world.remote().file("main", "status/one.yaml").as_deref(), Some("done"));
}

#[tokio::test]
async fn a_refusal_is_told_and_ends_with_the_hook() {
    let world = World::new(QUICK).await;
    world.remote().hook("pre-receive", "echo 'the branch is protected' >&2; exit 1");
    world.put("one", "done");
    world.publisher.wake();
    let Publishing::Rejected { message, since } = world.until(|state| !state.is_up_to_date()).await else {
        panic!("not refused")
    };
    assert!(message.contains("the branch is protected"), "{message}");
    // Backing off: further changes push nothing until the retry is due.
    world.bed.journal();
    world.put("one", "done again");
    world.publisher.wake();
    let again = world.flush().await;
    assert!(matches!(&again, Publishing::Rejected { since: still, .. } if *still == since), "{again:?}");
    world.remote().unhook("pre-receive");
    assert!(
        matches!(world.flush().await, Publishing::Done { commit: Some(_) }),
        "flushing does not wait for the retry"
    );
    assert_eq!(world.remote().file("main", "status/one.yaml").as_deref(), Some("done again"));
}

#[tokio::test]
async fn what_is_held_back_or_away_does_not_end_a_refusal() {
    let world = World::new(QUICK).await;
    world.remote().hook("pre-receive", "echo 'the branch is protected' >&2; exit 1");
    world.put("one", "done");
    let refused = world.flush().await;
    assert!(matches!(refused, Publishing::Rejected { .. }), "{refused:?}");
    // The object is being reconciled again: there is nothing to push, and the branch may still refuse.
    *world.batch.lock().expect("not poisoned") = Batch { files: Vec::new(), is_incomplete: true };
    assert_eq!(world.flush().await, refused);
    *world.batch.lock().expect("not poisoned") = Batch::default();
    world.put("one", "done");
    world.bed.away(Some("503"));
    assert_eq!(world.flush().await, refused);
    world.bed.away(None);
    world.remote().unhook("pre-receive");
    assert!(matches!(world.flush().await, Publishing::Done { commit: Some(_) }));
}

#[tokio::test]
async fn before_anything_is_loaded_nothing_is_known_of_the_branch() {
    let bed = Bed::start();
    let git = bed.handle();
    let render = Arc::new(Batch::default);
    let (publish, publisher) = Publish::new(git, Arc::new(|| None), render, Timestamp::now);
    tokio::spawn(publish.run(CancellationToken::new()));
    assert_eq!(publisher.flush(DEADLINE).await, Some(Publishing::Idle));
    assert_eq!(publisher.succeeded(), None);
}

#[tokio::test]
async fn an_outage_is_told_and_survived() {
    let world = World::new(QUICK).await;
    world.bed.away(Some("503"));
    world.put("one", "done");
    let Publishing::Failed { class, message, .. } = world.flush().await else { panic!("not failed") };
    assert!(class == Class::TRANSIENT && message.contains("503"), "{message}");
    world.bed.away(None);
    assert!(matches!(world.flush().await, Publishing::Done { commit: Some(_) }));
}

#[tokio::test]
async fn settings_decide_where_and_by_whom() {
    let settings =
        r#"{"publish": {"branch": "opsy-status"}, "statusPath": "state", "author": {"name": "Robot"}}"#;
    let world = World::new(settings).await;
    world.put("one", "done");
    world.flush().await;
    assert_eq!(world.remote().log("main"), ["by hand"]);
    assert_eq!(world.remote().file("opsy-status", "state/one.yaml").as_deref(), Some("done"));
    let repo = world.remote().repo();
    let tip = repo.revparse_single("opsy-status").expect("the branch").peel_to_commit().expect("a commit");
    assert_eq!((tip.author().name(), tip.committer().name()), (Ok("Robot"), Ok("Robot")));
    let off = World::new(r#"{"publish": {"enabled": false}}"#).await;
    off.put("one", "done");
    assert_eq!(off.flush().await, Publishing::Off);
    assert_eq!(off.remote().log("main"), ["by hand"]);
}

#[tokio::test]
async fn flushing_times_out() {
    let world = World::new(QUICK).await;
    world.stop.cancel();
    let late = tokio::time::timeout(DEADLINE, world.publisher.flush(Duration::from_millis(100))).await;
    assert_eq!(late.expect("it gives up"), None);
}

#[tokio::test]
async fn a_file_is_merged_again_only_for_another_version_or_another_content() {
    let world = World::new(QUICK).await;
    let merges = Arc::new(AtomicUsize::new(0));
    let merge = |text: &'static str| {
        let merges = merges.clone();
        Edit::Merge(Arc::new(move |_| {
            merges.fetch_add(1, Ordering::SeqCst);
            Ok(text.as_bytes().to_vec())
        }))
    };
    world.render_version("one", merge("same"), Some("1"));
    world.flush().await;
    world.flush().await;
    let before = merges.load(Ordering::SeqCst);
    world.put("two", "news");
    world.flush().await;
    world.flush().await;
    assert_eq!(merges.load(Ordering::SeqCst), before, "its version and its file are the same");

    world.render_version("one", merge("other"), Some("2"));
    world.flush().await;
    assert!(merges.load(Ordering::SeqCst) > before);
    assert_eq!(world.remote().file("main", "status/one.yaml").as_deref(), Some("other"));
}
