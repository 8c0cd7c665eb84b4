//! What people ask of live objects by `opsy reconcile`, `suspend`, `resume` and `cancel` where there is no
//! cluster to annotate: annotations in the state folder, beside those of the manifest. A running agent sees
//! them at once, the next one when it starts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};

use super::{disk, files};
use crate::api::ObjectKey;
use crate::api::annotations::{CANCEL, RECONCILE_AT, SUSPEND};

/// Annotations that may be asked for. The others are the manifest's.
const MAY_BE_ASKED: [&str; 3] = [CANCEL, RECONCILE_AT, SUSPEND];

/// Annotations by name.
pub type Asked = BTreeMap<String, String>;

/// Folder of the requests.
pub fn dir(state: &Path) -> PathBuf {
    state.join("asked")
}

/// Sets an annotation of an object, or removes it.
///
/// # Errors
/// The state folder does not take it.
pub fn annotate(state: &Path, object: &ObjectKey, name: &str, value: Option<&str>) -> io::Result<()> {
    let path = files::of(&dir(state), object);
    let mut asked: Asked = disk::read_json(&path)?.unwrap_or_default();
    match value {
        Some(value) => asked.insert(name.to_owned(), value.to_owned()),
        None => asked.remove(name),
    };
    disk::write_json(&path, &asked)
}

/// Everything that is asked for. What cannot be read is asked for in vain, and the log hears of it.
pub(super) fn read(dir: &Path) -> BTreeMap<ObjectKey, Asked> {
    let read = files::read(dir, disk::read_json::<Asked>);
    match read {
        Ok(all) => all.into_iter().collect(),
        Err(error) => {
            tracing::error!(%error, "what was asked for by command cannot be read, and is not done");
            BTreeMap::new()
        }
    }
}

/// Puts what is asked for among the annotations of an object's metadata.
pub(super) fn add(metadata: &mut Value, asked: Option<&Asked>) {
    for (name, value) in asked.into_iter().flatten().filter(|(name, _)| MAY_BE_ASKED.contains(&name.as_str()))
    {
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
    let dir = dir(state);
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

    #[test]
    fn what_is_asked_for_stands_beside_the_manifests_annotations() {
        let dir = tempfile::tempdir().expect("a folder");
        let key = Key { namespace: "default".to_owned(), name: "web".to_owned() };
        let object = ObjectKey { kind: Kind::PackerBuilder, key };
        annotate(dir.path(), &object, SUSPEND, Some("true")).expect("written");
        annotate(dir.path(), &object, RECONCILE_AT, Some("now")).expect("written");
        annotate(dir.path(), &object, "ami.opsy.dev/runbook", Some("https://evil")).expect("written");
        annotate(dir.path(), &object, SUSPEND, None).expect("written");
        let all = read(&self::dir(dir.path()));
        let mut metadata = json!({"name": "web", "annotations": {"mine": "1"}});
        add(&mut metadata, all.get(&object));
        assert_eq!(metadata["annotations"], json!({"mine": "1", RECONCILE_AT: "now"}));
        let mut bare = json!({"name": "other"});
        add(&mut bare, None);
        assert_eq!(bare, json!({"name": "other"}));
    }
}
