//! Statuses of concurrent reconciles are written together, and each as if it were alone.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::time::timeout;

use super::*;
use crate::api::Class;
use crate::engine::StatusUpdate;

/// More than are synced one by one.
const MANY: usize = 40;
/// A write takes milliseconds.
const SOON: Duration = Duration::from_secs(60);

fn names() -> Vec<String> {
    (0..MANY).map(|number| format!("node-{number}")).collect()
}

/// A home with many objects.
fn loaded(state: &Path) -> (StateHome, Arc<Objects>) {
    let (home, objects) = home(state);
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    home.shared.load_commit(&commit(&names, &[])).expect("loaded");
    (home, objects)
}

fn update(name: &str, observed: u64, state: &str) -> StatusUpdate {
    let status = json!({"state": state});
    StatusUpdate { object: object(name), observed_version: Some(observed.to_string()), status }
}

/// State and version in the store and on the disk, which are always the same.
fn state_of(home: &StateHome, objects: &Objects, name: &str) -> (Option<String>, u64) {
    let shown = objects.builders.get(&object(name).key).expect("it is in the store");
    let version = shown.metadata.resource_version.expect("a version").parse().expect("a number");
    let shown = (shown.status.and_then(|status| status.state), version);
    let stored = read_one(&home.shared.dir, &object(name)).expect("read").expect("stored");
    assert_eq!((stored.status["state"].as_str().map(str::to_owned), stored.version), shown);
    shown
}

/// Writes statuses while another change is in progress, so that they are pending together.
async fn write_together(home: &StateHome, updates: Vec<StatusUpdate>) -> Vec<Result<(), EngineError>> {
    let count = updates.len();
    let (locked, is_locked) = std::sync::mpsc::channel();
    let shared = home.shared.clone();
    let holds = std::thread::spawn(move || {
        let _changing = lock(&shared.changing);
        locked.send(()).expect("the test waits");
        let end = std::time::Instant::now() + SOON;
        while shared.pending_statuses() < count {
            assert!(std::time::Instant::now() < end, "not all writes are pending");
            std::thread::yield_now();
        }
    });
    is_locked.recv().expect("it is locked");
    let writes = join_all(updates.into_iter().map(|update| home.write_status(update)));
    let results = timeout(SOON, writes).await.expect("they are written");
    holds.join().expect("all were pending");
    results
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_are_written_together() {
    let state = tempfile::tempdir().expect("a folder");
    let (home, objects) = loaded(state.path());
    let results = write_together(&home, names().iter().map(|name| update(name, 1, "first")).collect()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    for name in names() {
        assert_eq!(state_of(&home, &objects, &name), (Some("first".to_owned()), 2));
    }
    home.write_status(update("node-0", 2, "second")).await.expect("one alone is written");
    assert_eq!(state_of(&home, &objects, "node-0"), (Some("second".to_owned()), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_statuses_of_one_version_the_second_is_stale() {
    let state = tempfile::tempdir().expect("a folder");
    let (home, objects) = loaded(state.path());
    let updates = vec![
        update("node-0", 1, "first"),
        update("node-1", 1, "other"),
        update("node-0", 1, "stale"),
        update("node-0", 2, "third"),
        update("gone", 1, "gone"),
    ];
    let results = write_together(&home, updates).await;
    let classes: Vec<_> =
        results.iter().map(|result| result.as_ref().err().map(|error| error.class)).collect();
    assert_eq!(classes, [None, None, Some(Class::Conflict), None, Some(Class::Conflict)]);
    assert_eq!(state_of(&home, &objects, "node-0"), (Some("third".to_owned()), 3));
    assert_eq!(state_of(&home, &objects, "node-1"), (Some("other".to_owned()), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_reaches_only_the_object_that_it_concerns() {
    let state = tempfile::tempdir().expect("a folder");
    let (home, objects) = loaded(state.path());
    let file = home.shared.path(&object("node-7"));
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir_all(file.join("taken")).expect("made");
    for (names, observed) in [(names(), 1), (vec!["node-6".to_owned(), "node-7".to_owned()], 2)] {
        let updates = names.iter().map(|name| match name.as_str() {
            "node-7" => update(name, 1, "lost"),
            name => update(name, observed, "written"),
        });
        let results = write_together(&home, updates.collect()).await;
        for (name, result) in names.iter().zip(results) {
            match name.as_str() {
                "node-7" => {
                    let error = result.expect_err("a directory is in the way");
                    assert!(error.message.contains("PackerBuilder/default/node-7"), "{error}");
                }
                name => {
                    result.expect("written");
                    assert_eq!(state_of(&home, &objects, name), (Some("written".to_owned()), observed + 1));
                }
            }
        }
    }
    let shown = objects.builders.get(&object("node-7").key).expect("it is in the store");
    assert_eq!(shown.status.and_then(|status| status.state), None, "nothing is shown that is not durable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_panics_is_an_error_and_the_next_one_is_written() {
    let state = tempfile::tempdir().expect("a folder");
    let (home, objects) = loaded(state.path());
    // No entry has such a document.
    let whole = lock(&home.shared.entries).get(&object("node-0")).expect("an entry").clone();
    let mut damaged = Entry::clone(&whole);
    damaged.document = DocumentText::from(&json!("no object"));
    lock(&home.shared.entries).insert(object("node-0"), Arc::new(damaged));
    home.write_status(update("node-0", 1, "first")).await.expect_err("it panicked");
    lock(&home.shared.entries).insert(object("node-0"), whole);
    home.write_status(update("node-0", 1, "second")).await.expect("written");
    assert_eq!(state_of(&home, &objects, "node-0"), (Some("second".to_owned()), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_nobody_waits_for_is_written_whole() {
    let state = tempfile::tempdir().expect("a folder");
    let (home, objects) = loaded(state.path());
    {
        let changing = lock(&home.shared.changing);
        let mut write = home.write_status(update("node-0", 1, "first"));
        assert!((&mut write).now_or_never().is_none());
        drop(changing);
    }
    // The next write is made after those that were pending before.
    let stale = home.write_status(update("node-0", 1, "second")).await.expect_err("it is stale");
    assert_eq!(stale.class, Class::Conflict);
    assert_eq!(state_of(&home, &objects, "node-0"), (Some("first".to_owned()), 2));
}
