//! What people ask of live objects by `opsy reconcile`, `suspend`, `resume` and `cancel` where there is no
//! cluster to annotate: annotations in the state directory, beside those of the manifest. A running agent sees
//! them at once, the next one when it starts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};

use super::{disk, files};
use crate::api::annotations::{CANCEL, RECONCILE_AT, SUSPEND};
use crate::api::{CommitId, ObjectKey};

/// Annotations that may be asked for. The others are the manifest's.
const MAY_BE_ASKED: [&str; 3] = [CANCEL, RECONCILE_AT, SUSPEND];

/// Annotations by name.
type Annotations = BTreeMap<String, String>;

/// What people ask of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    These(Annotations),
    /// The request cannot be read, and what to do about it. It may be to suspend the object.
    Unknown(String),
}

/// Folder of the requests, from the state directory.
const DIR: &str = "asked";

/// File of the request for an object.
pub(super) fn file(state: &Path, object: &ObjectKey) -> PathBuf {
    files::of(&state.join(DIR), object)
}

/// File of the commit that a person accepts, from the folder of the requests.
const ACCEPT: &str = "accept.json";

/// Asks to go on from a commit although the branch was rewritten.
///
/// # Errors
/// The state directory does not take it.
pub fn accept(state: &Path, commit: &CommitId) -> io::Result<()> {
    disk::write_json(&state.join(DIR).join(ACCEPT), commit)
}

/// The commit of that request. One that cannot be read is removed, so that the error is reported once.
pub(super) fn accepted(state: &Path) -> io::Result<Option<CommitId>> {
    let path = state.join(DIR).join(ACCEPT);
    let read = disk::read_json(&path);
    if read.is_err() {
        std::fs::remove_file(&path)?;
    }
    read
}

/// Removes that request, unless it is for another commit now.
pub(super) fn remove_accepted(state: &Path, commit: &CommitId) -> io::Result<()> {
    match accepted(state)? {
        Some(accepted) if accepted == *commit => std::fs::remove_file(state.join(DIR).join(ACCEPT)),
        _ => Ok(()),
    }
}

/// Sets an annotation of an object, or removes it.
///
/// # Errors
/// The state directory does not take it, or what was asked for before cannot be read.
pub fn annotate(state: &Path, object: &ObjectKey, name: &str, value: Option<&str>) -> io::Result<()> {
    let path = file(state, object);
    let named = |error: io::Error| io::Error::new(error.kind(), unreadable(object, &error));
    let mut asked: Annotations = disk::read_json(&path).map_err(named)?.unwrap_or_default();
    match value {
        Some(value) => asked.insert(name.to_owned(), value.to_owned()),
        None => asked.remove(name),
    };
    disk::write_json(&path, &asked)
}

/// Everything that is asked of these objects. Each has its own file, so that one that cannot be read is about one
/// object.
pub(super) fn read<'a>(
    state: &Path,
    objects: impl Iterator<Item = &'a ObjectKey>,
) -> BTreeMap<ObjectKey, Asked> {
    let one = |object: &ObjectKey| match disk::read_json(&file(state, object)) {
        Ok(asked) => Some(Asked::These(asked?)),
        Err(error) => Some(Asked::Unknown(unreadable(object, &error))),
    };
    objects.filter_map(|object| Some((object.clone(), one(object)?))).collect()
}

fn unreadable(object: &ObjectKey, error: &io::Error) -> String {
    let path = file(Path::new(""), object);
    format!(
        "{} in the state directory cannot be read ({error}): it may ask to suspend {object}, so nothing new is started; \
         remove it, and run opsy suspend again if that was meant",
        path.display()
    )
}

/// Puts what is asked for among the annotations of an object's metadata. One of which that is not known is suspended.
pub(super) fn add(metadata: &mut Value, asked: Option<&Asked>) {
    let suspended = || Annotations::from([(SUSPEND.to_owned(), "true".to_owned())]);
    let annotations = match asked {
        None => return,
        Some(Asked::These(annotations)) => annotations.clone(),
        Some(Asked::Unknown(_)) => suspended(),
    };
    for (name, value) in annotations.into_iter().filter(|(name, _)| MAY_BE_ASKED.contains(&name.as_str())) {
        if metadata["annotations"].is_null() {
            metadata["annotations"] = json!({});
        }
        metadata["annotations"][name] = json!(value);
    }
}

/// Hears of requests as they come, for as long as the watcher lives. Where files cannot be watched, they are
/// seen with the next commit or start.
pub fn watch(state: &Path, hear: impl Fn() + Send + 'static) -> Option<RecommendedWatcher> {
    let told = move |event: notify::Result<Event>| {
        let only_read = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
        if !only_read {
            hear();
        }
    };
    let dir = state.join(DIR);
    let watching = std::fs::create_dir_all(&dir).map_err(notify::Error::io).and_then(|()| {
        let mut watcher = notify::recommended_watcher(told)?;
        watcher.watch(&dir, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    let warn = |error| tracing::warn!(%error, "requests by command are seen with the next commit only");
    watching.map_err(warn).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Kind};

    fn object(name: &str) -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    /// Annotations of an object without any of its own.
    fn annotations(state: &Path, object: &ObjectKey) -> Value {
        let mut metadata = json!({});
        add(&mut metadata, read(state, [object].into_iter()).get(object));
        metadata["annotations"].take()
    }

    #[test]
    fn what_is_asked_for_stands_beside_the_manifests_annotations() {
        let dir = tempfile::tempdir().expect("a folder");
        let object = object("web");
        annotate(dir.path(), &object, SUSPEND, Some("true")).expect("written");
        annotate(dir.path(), &object, RECONCILE_AT, Some("now")).expect("written");
        annotate(dir.path(), &object, "ami.opsy.dev/runbook", Some("https://evil")).expect("written");
        annotate(dir.path(), &object, SUSPEND, None).expect("written");
        let all = read(dir.path(), [&object].into_iter());
        let mut metadata = json!({"name": "web", "annotations": {"mine": "1"}});
        add(&mut metadata, all.get(&object));
        assert_eq!(metadata["annotations"], json!({"mine": "1", RECONCILE_AT: "now"}));
        let mut bare = json!({"name": "other"});
        add(&mut bare, None);
        assert_eq!(bare, json!({"name": "other"}));
    }

    #[test]
    fn a_request_that_cannot_be_read_suspends_its_own_object_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let [bare, broken, other] = ["bare", "broken", "other"].map(object);
        annotate(dir.path(), &other, RECONCILE_AT, Some("now")).expect("written");
        annotate(dir.path(), &broken, RECONCILE_AT, Some("now")).expect("written");
        for content in ["", "{\"ami.opsy", "[]"] {
            std::fs::write(file(dir.path(), &broken), content).expect("written");
            assert_eq!(annotations(dir.path(), &broken), json!({SUSPEND: "true"}), "{content}");
        }
        assert_eq!(annotations(dir.path(), &other), json!({RECONCILE_AT: "now"}));
        assert_eq!(annotations(dir.path(), &bare), Value::Null);
        let Some(Asked::Unknown(why)) = read(dir.path(), [&broken].into_iter()).remove(&broken) else {
            panic!("it is not known")
        };
        assert!(why.starts_with("asked/PackerBuilder/default/broken.json in the state directory"), "{why}");
        let error = annotate(dir.path(), &broken, SUSPEND, None).expect_err("it is not known");
        assert!(error.to_string().contains("broken.json"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_an_empty_one() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(annotations(dir.path(), &object("web")), Value::Null, "nothing was ever asked for");
        std::fs::write(dir.path().join(DIR), "no folder").expect("written");
        assert_eq!(annotations(dir.path(), &object("web")), json!({SUSPEND: "true"}));
    }

    #[test]
    fn a_request_to_accept_a_commit_is_there_until_it_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(accepted(dir.path()).expect("nothing"), None);
        let commit = |digit: &str| CommitId::parse(digit.repeat(40)).expect("an id");
        accept(dir.path(), &commit("a")).expect("written");
        for _ in 0..2 {
            assert_eq!(accepted(dir.path()).expect("read"), Some(commit("a")));
        }
        remove_accepted(dir.path(), &commit("b")).expect("nothing is done");
        assert_eq!(accepted(dir.path()).expect("read"), Some(commit("a")), "it is for another commit");
        remove_accepted(dir.path(), &commit("a")).expect("removed");
        assert_eq!(accepted(dir.path()).expect("nothing"), None);
        std::fs::write(dir.path().join(DIR).join(ACCEPT), "{").expect("written");
        assert!(accepted(dir.path()).is_err());
        assert_eq!(accepted(dir.path()).expect("it is reported once"), None);
    }

    #[test]
    fn a_long_name_is_found_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let [long, twin] = ["b", "c"].map(|end| object(&format!("{}{end}", "a".repeat(252))));
        annotate(dir.path(), &long, SUSPEND, Some("true")).expect("written");
        assert_eq!(annotations(dir.path(), &long), json!({SUSPEND: "true"}));
        assert_eq!(annotations(dir.path(), &twin), Value::Null);
    }
}
