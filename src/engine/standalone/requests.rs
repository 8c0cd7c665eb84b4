//! Requests that people make by `opsy reconcile`, `suspend`, `resume`, `cancel`, `approve` and `accept` without a cluster:
//! annotations in the state directory, in addition to those of the manifest. A running agent reads them at once,
//! otherwise the next one does when it starts.

mod exclusive;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::{disk, files, private};
use crate::api::annotations::{APPROVE, CANCEL, RECONCILE_AT, SUSPEND};
use crate::api::files::file_stem;
use crate::api::{CommitId, Key, Kind, ObjectKey};

/// Annotations that commands may set. All others are set in the manifest.
const REQUESTABLE: [&str; 4] = [APPROVE, CANCEL, RECONCILE_AT, SUSPEND];

/// Annotations by name.
type Annotations = BTreeMap<String, String>;

/// The requests for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Requested {
    Annotations(Annotations),
    /// They cannot be read. Contains the message with the remedy. One of them may be to suspend the object.
    Unreadable(String),
}

/// Directory of the requests, in the state directory.
const DIR: &str = "asked";

/// File of the requests for an object.
pub(super) fn file(state: &Path, object: &ObjectKey) -> PathBuf {
    files::of(&state.join(DIR), object)
}

/// File of the commit that a person accepts, in the directory of the requests.
const ACCEPT: &str = "accept.json";

/// Requests to continue from a commit although the branch was rewritten.
///
/// # Errors
/// The state directory cannot be written.
pub fn accept(state: &Path, commit: &CommitId) -> io::Result<()> {
    let _lock = exclusive::lock(&state.join(DIR))?;
    disk::write_json(&state.join(DIR).join(ACCEPT), commit)
}

/// The commit of that request. An unreadable request is removed, so that the error is reported once.
pub(super) fn accepted(state: &Path) -> io::Result<Option<CommitId>> {
    let path = state.join(DIR).join(ACCEPT);
    let read = disk::read_json(&path);
    if read.is_err() {
        std::fs::remove_file(&path)?;
    }
    read
}

/// Removes that request, unless it names another commit by now.
pub(super) fn remove_accepted(state: &Path, commit: &CommitId) -> io::Result<()> {
    let _lock = exclusive::lock(&state.join(DIR))?;
    match accepted(state)? {
        Some(accepted) if accepted == *commit => std::fs::remove_file(state.join(DIR).join(ACCEPT)),
        _ => Ok(()),
    }
}

/// The annotations that requests set on an object.
///
/// # Errors
/// The requests cannot be read.
pub fn of(state: &Path, object: &ObjectKey) -> io::Result<BTreeMap<String, String>> {
    let read = disk::read_json(&file(state, object));
    read.map(Option::unwrap_or_default)
        .map_err(|error| io::Error::new(error.kind(), unreadable(object, &error)))
}

/// Sets or removes an annotation of an object.
///
/// # Errors
/// The state directory cannot be written, or earlier requests for the object cannot be read.
pub fn annotate(state: &Path, object: &ObjectKey, name: &str, value: Option<&str>) -> io::Result<()> {
    update(state, object, name, |_| value.map(str::to_owned))
}

/// Sets an annotation of an object to a value that is made from the previous one, or removes it.
///
/// # Errors
/// As for `annotate`.
pub fn update(
    state: &Path,
    object: &ObjectKey,
    name: &str,
    value: impl FnOnce(Option<&str>) -> Option<String>,
) -> io::Result<()> {
    let _lock = exclusive::lock(&state.join(DIR))?;
    let mut annotations: Annotations = of(state, object)?;
    match value(annotations.get(name).map(String::as_str)) {
        Some(value) => annotations.insert(name.to_owned(), value),
        None => annotations.remove(name),
    };
    disk::write_json(&file(state, object), &annotations)
}

/// Creates the directories for requests for these objects, so that they are watched before a command writes there: the
/// first file in a new directory can be missed.
pub(super) fn prepare<'a>(state: &Path, objects: impl Iterator<Item = &'a ObjectKey>) {
    let mut prepared = HashSet::new();
    for object in objects.filter(|object| prepared.insert((object.kind, &object.key.namespace))) {
        if let Some(Err(error)) = file(state, object).parent().map(private::make) {
            tracing::warn!(%object, %error, "the directory for requests by commands cannot be created");
        }
    }
}

/// The requests for these objects. Each object has its own file, so that an unreadable one affects one object only.
pub(super) fn read<'a>(
    state: &Path,
    objects: impl Iterator<Item = &'a ObjectKey>,
) -> BTreeMap<ObjectKey, Requested> {
    let one = |object: &ObjectKey| match disk::read_json(&file(state, object)) {
        Ok(annotations) => Some(Requested::Annotations(annotations?)),
        Err(error) => Some(Requested::Unreadable(unreadable(object, &error))),
    };
    let mut listed: HashMap<(Kind, &str), Option<HashSet<OsString>>> = HashMap::new();
    let may_exist = |object: &&'a ObjectKey| {
        let path = file(state, object);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return false };
        let names = listed.entry((object.kind, &object.key.namespace)).or_insert_with(|| names(folder));
        names.as_ref().is_none_or(|names| names.contains(name))
    };
    objects.filter(may_exist).filter_map(|object| Some((object.clone(), one(object)?))).collect()
}

/// The objects that have a file of requests. `exists` says whether there is an object, and `all` returns all of them.
/// `None` if the directories cannot be listed, so that only reading the files shows which of them exist.
pub(super) fn list<'a, A: Iterator<Item = &'a ObjectKey>>(
    state: &Path,
    exists: impl Fn(&ObjectKey) -> bool,
    all: impl Fn() -> A,
) -> Option<BTreeSet<ObjectKey>> {
    let mut found = BTreeSet::new();
    for kind in [Kind::PackerBuilder, Kind::AMIRefresher] {
        let folder = state.join(DIR).join(kind.to_string());
        for namespace in names(&folder)? {
            for file in names(&folder.join(&namespace))? {
                let (Some(namespace), Some(stem)) = (namespace.to_str(), file.to_str()) else { continue };
                let Some(stem) = stem.strip_suffix(".json") else { continue };
                let key = Key { namespace: namespace.to_owned(), name: stem.to_owned() };
                let object = ObjectKey { kind, key };
                if exists(&object) {
                    found.insert(object);
                    continue;
                }
                // The file name of an object with a long name is not that name.
                let is_of = |other: &&ObjectKey| {
                    (other.kind, other.key.namespace.as_str()) == (kind, namespace)
                        && *file_stem(&other.key.name) == *stem
                };
                found.extend(all().filter(is_of).cloned());
            }
        }
    }
    Some(found)
}

/// The names of the files in a directory: few objects have requests. `None` if it cannot be listed, so that only reading a
/// file shows whether it exists.
fn names(folder: &Path) -> Option<HashSet<OsString>> {
    match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(HashSet::new()),
        entries => entries.ok()?.map(|entry| Some(entry.ok()?.file_name())).collect(),
    }
}

fn unreadable(object: &ObjectKey, error: &io::Error) -> String {
    let path = file(Path::new(""), object);
    format!(
        "{} in the state directory cannot be read ({error}): it may contain a request to suspend {object}, so nothing new \
         is started; remove the file, and run opsy suspend again if the object is to be suspended",
        path.display()
    )
}

/// Adds the requests to the annotations of an object's metadata. With unreadable requests, the object is suspended.
pub(super) fn add(metadata: &mut ObjectMeta, requested: Option<&Requested>) {
    let suspended = || Annotations::from([(SUSPEND.to_owned(), "true".to_owned())]);
    let annotations = match requested {
        None => return,
        Some(Requested::Annotations(annotations)) => annotations.clone(),
        Some(Requested::Unreadable(_)) => suspended(),
    };
    let allowed = annotations.into_iter().filter(|(name, _)| REQUESTABLE.contains(&name.as_str()));
    for (name, value) in allowed {
        let all = metadata.annotations.get_or_insert_default();
        let value = match all.get(&name) {
            // A request cannot withdraw what a commit approves, and a commit does not withdraw what a person approved.
            Some(declared) if name == APPROVE => format!("{declared},{value}"),
            _ => value,
        };
        all.insert(name, value);
    }
}

/// Calls `changed` whenever a request changes, until the watcher is dropped. If files cannot be watched, requests are
/// read when the next commit is loaded or the agent starts.
pub fn watch(state: &Path, changed: impl Fn() + Send + 'static) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<Event>| {
        // Reading a request is an event too.
        let only_read = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
        if !only_read {
            changed();
        }
    };
    let dir = state.join(DIR);
    let watching = private::make(&dir).map_err(notify::Error::io).and_then(|()| {
        let mut watcher = notify::recommended_watcher(on_event)?;
        watcher.watch(&dir, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    let warn =
        |error| tracing::warn!(%error, "requests by commands are read only when the next commit is loaded");
    watching.map_err(warn).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str) -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    /// The requested annotations of an object.
    fn annotations(state: &Path, object: &ObjectKey) -> Value {
        let mut metadata = ObjectMeta::default();
        add(&mut metadata, read(state, [object].into_iter()).get(object));
        json!(metadata.annotations)
    }

    #[test]
    fn a_request_approves_in_addition_to_the_manifest() {
        let requested = |value: &str| Requested::Annotations([(APPROVE.to_owned(), value.to_owned())].into());
        for (declared, expected) in [(None, "b=ami-2"), (Some("a=ami-1"), "a=ami-1,b=ami-2")] {
            let declared = declared.map(|value: &str| [(APPROVE.to_owned(), value.to_owned())].into());
            let mut metadata = ObjectMeta { annotations: declared, ..ObjectMeta::default() };
            add(&mut metadata, Some(&requested("b=ami-2")));
            assert_eq!(metadata.annotations.expect("set")[APPROVE], expected);
        }
    }

    #[test]
    fn the_first_request_of_a_prepared_directory_is_not_missed() {
        let state = tempfile::tempdir().expect("a directory");
        let (send, events) = std::sync::mpsc::channel();
        let _watcher =
            watch(state.path(), move || send.send(()).expect("the test goes on")).expect("watched");
        prepare(state.path(), [object("node")].iter());
        for path in [DIR, "asked/PackerBuilder", "asked/PackerBuilder/default"] {
            let metadata = std::fs::metadata(state.path().join(path)).expect("it exists");
            assert_eq!(
                metadata.permissions().mode() & 0o777,
                0o700,
                "other users could hold the lock: {path}"
            );
        }
        let seen = || events.recv_timeout(std::time::Duration::from_secs(30));
        seen().expect("the directory is new");
        // Whatever was read at an event: the request itself causes another.
        while events.recv_timeout(std::time::Duration::from_millis(200)).is_ok() {}
        annotate(state.path(), &object("node"), CANCEL, Some("b")).expect("written");
        seen().expect("the request is new");
        assert_eq!(annotations(state.path(), &object("node")), json!({CANCEL: "b"}));
    }

    #[test]
    fn requests_are_added_to_the_manifests_annotations() {
        let dir = tempfile::tempdir().expect("a folder");
        let object = object("web");
        annotate(dir.path(), &object, SUSPEND, Some("true")).expect("written");
        annotate(dir.path(), &object, RECONCILE_AT, Some("now")).expect("written");
        annotate(dir.path(), &object, "ami.opsy.dev/runbook", Some("https://evil")).expect("written");
        annotate(dir.path(), &object, SUSPEND, None).expect("written");
        let all = read(dir.path(), [&object].into_iter());
        let metadata = |json: Value| serde_json::from_value::<ObjectMeta>(json).expect("metadata");
        let mut with = metadata(json!({"name": "web", "annotations": {"mine": "1"}}));
        add(&mut with, all.get(&object));
        assert_eq!(json!(with.annotations), json!({"mine": "1", RECONCILE_AT: "now"}));
        let mut without = metadata(json!({"name": "other"}));
        add(&mut without, None);
        assert_eq!(without, metadata(json!({"name": "other"})));
    }

    #[test]
    fn of_several_commands_at_once_none_loses_the_request_of_another() {
        const COMMANDS: usize = 4;
        const EACH: usize = 25;
        let dir = tempfile::tempdir().expect("a folder");
        let (state, object) = (dir.path(), object("web"));
        let command = |command: usize| {
            for number in 0..EACH {
                let added =
                    |text: Option<&str>| Some(format!("{}{command}.{number},", text.unwrap_or_default()));
                update(state, &object, APPROVE, added).expect("written");
                annotate(state, &object, &format!("{command}.{number}"), Some("")).expect("written");
            }
        };
        std::thread::scope(|scope| {
            (0..COMMANDS).for_each(|number| drop(scope.spawn(move || command(number))));
        });
        let all = of(state, &object).expect("read");
        assert_eq!(all.len(), COMMANDS * EACH + 1);
        assert_eq!(all[APPROVE].matches(',').count(), COMMANDS * EACH, "{}", all[APPROVE]);
    }

    #[test]
    fn an_unreadable_request_suspends_only_its_own_object() {
        let dir = tempfile::tempdir().expect("a folder");
        let [unrequested, broken, other] = ["unrequested", "broken", "other"].map(object);
        annotate(dir.path(), &other, RECONCILE_AT, Some("now")).expect("written");
        annotate(dir.path(), &broken, RECONCILE_AT, Some("now")).expect("written");
        for content in ["", "{\"ami.opsy", "[]"] {
            std::fs::write(file(dir.path(), &broken), content).expect("written");
            assert_eq!(annotations(dir.path(), &broken), json!({SUSPEND: "true"}), "{content}");
        }
        assert_eq!(annotations(dir.path(), &other), json!({RECONCILE_AT: "now"}));
        assert_eq!(annotations(dir.path(), &unrequested), Value::Null);
        let Some(Requested::Unreadable(why)) = read(dir.path(), [&broken].into_iter()).remove(&broken) else {
            panic!("it is readable")
        };
        assert!(why.starts_with("asked/PackerBuilder/default/broken.json in the state directory"), "{why}");
        let error = annotate(dir.path(), &broken, SUSPEND, None).expect_err("it is unreadable");
        assert!(error.to_string().contains("broken.json"), "{error}");
    }

    #[test]
    fn an_unreadable_directory_is_not_an_empty_one() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(annotations(dir.path(), &object("web")), Value::Null, "nothing was ever requested");
        std::fs::write(dir.path().join(DIR), "no folder").expect("written");
        assert_eq!(annotations(dir.path(), &object("web")), json!({SUSPEND: "true"}));
    }

    #[test]
    fn a_request_to_accept_a_commit_remains_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(accepted(dir.path()).expect("nothing"), None);
        let commit = |digit: &str| CommitId::parse(digit.repeat(40)).expect("an id");
        accept(dir.path(), &commit("a")).expect("written");
        for _ in 0..2 {
            assert_eq!(accepted(dir.path()).expect("read"), Some(commit("a")));
        }
        remove_accepted(dir.path(), &commit("b")).expect("nothing is done");
        assert_eq!(accepted(dir.path()).expect("read"), Some(commit("a")), "it names another commit");
        remove_accepted(dir.path(), &commit("a")).expect("removed");
        assert_eq!(accepted(dir.path()).expect("nothing"), None);
        std::fs::write(dir.path().join(DIR).join(ACCEPT), "{").expect("written");
        assert!(accepted(dir.path()).is_err());
        assert_eq!(accepted(dir.path()).expect("it is reported once"), None);
    }

    #[test]
    fn long_names_do_not_collide() {
        let dir = tempfile::tempdir().expect("a folder");
        let [long, twin] = ["b", "c"].map(|end| object(&format!("{}{end}", "a".repeat(252))));
        annotate(dir.path(), &long, SUSPEND, Some("true")).expect("written");
        assert_eq!(annotations(dir.path(), &long), json!({SUSPEND: "true"}));
        assert_eq!(annotations(dir.path(), &twin), Value::Null);
    }
}
