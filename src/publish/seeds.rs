//! Status read back from status files: it seeds an object whose status the engine has lost. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::api::ObjectKey;
use crate::manifest::{Documents, write};
use crate::sync::StatusFile;

/// The published status of objects. A file is parsed when its object is asked for: a new object costs one file, and not
/// those of all objects.
pub struct Seeds {
    /// Sorted by path.
    files: Arc<Vec<StatusFile>>,
    /// The objects of files that are not where Opsy writes them, because a person has moved them.
    moved: OnceLock<BTreeMap<ObjectKey, Value>>,
}

impl Seeds {
    pub fn new(files: Arc<Vec<StatusFile>>) -> Self {
        Self { files, moved: OnceLock::new() }
    }

    /// The published status of an object.
    pub fn get(&self, object: &ObjectKey) -> Option<Value> {
        let path = write::status_path(object);
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(&path)).ok();
        let read = at.and_then(|at| read(&self.files[at])).filter(|(of, _)| of == object);
        read.map(|(_, status)| status).or_else(|| self.moved().get(object).cloned())
    }

    /// The objects that have a published status and no document. Only their files are parsed.
    pub fn objects_beside(&self, documents: &Documents) -> BTreeSet<ObjectKey> {
        let declared: BTreeSet<String> =
            documents.iter().map(|document| write::status_path(&document.object)).collect();
        let others = self.files.iter().filter(|file| !declared.contains(&file.path)).filter_map(read);
        others.map(|(object, _)| object).filter(|object| documents.get(object).is_none()).collect()
    }

    fn moved(&self) -> &BTreeMap<ObjectKey, Value> {
        let files = || self.files.iter().filter(|file| !write::is_status_path(&file.path));
        self.moved.get_or_init(|| files().filter_map(read).collect())
    }
}

/// The object and status of a file. One that is not a status file is skipped, since anyone who can push may have written it.
fn read(file: &StatusFile) -> Option<(ObjectKey, Value)> {
    let (object, status) = write::read_status_file(std::str::from_utf8(&file.content).ok()?).ok()?;
    Some((object, serde_json::to_value(write::seed(status)).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Kind};

    fn object(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::PackerBuilder, key: Key { namespace: "default".into(), name: name.into() } }
    }

    fn file(path: &str, name: &str) -> StatusFile {
        let status = write::ObjectStatus::PackerBuilder(Box::default());
        let text = write::status_file(&object(name).key, &status, None).expect("a status file");
        StatusFile { path: path.to_owned(), blob: String::new(), content: text.as_bytes().into() }
    }

    #[test]
    fn a_status_is_found_where_it_was_written_and_where_a_person_has_moved_it() {
        let broken = StatusFile {
            path: write::status_path(&object("x")),
            blob: String::new(),
            content: (*b"{").into(),
        };
        let mut files = vec![
            file(&write::status_path(&object("a")), "a"),
            file(&write::status_path(&object("b")), "another"),
            file("old/c.yaml", "c"),
            broken,
        ];
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let seeds = Seeds::new(Arc::new(files));
        for (name, is_found) in
            [("a", true), ("b", false), ("another", false), ("c", true), ("x", false), ("y", false)]
        {
            assert_eq!(seeds.get(&object(name)).is_some(), is_found, "{name}");
        }
    }
}
