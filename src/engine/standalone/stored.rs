//! Reads the state of objects from the state directory, at the start of the agent and in commands.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::object::Stored;
use super::{disk, files};
use crate::api::ObjectKey;

/// Reads one object's state.
pub fn read_one(dir: &Path, object: &ObjectKey) -> io::Result<Option<Stored>> {
    disk::read_json(&files::of(dir, object))
}

/// The state of all objects.
pub struct StoredObjects<T = Stored> {
    pub objects: BTreeMap<ObjectKey, T>,
    /// Objects whose file cannot be read, and the remedy. The files are retained, because they contain facts that exist
    /// nowhere else.
    pub unreadable: BTreeMap<ObjectKey, String>,
}

/// Reads the state of all objects.
pub fn read_all(dir: &Path) -> io::Result<StoredObjects> {
    read_all_as(dir, |_, stored| stored)
}

/// Reads the state of all objects, each into another form at once.
pub(super) fn read_all_as<T>(
    dir: &Path,
    form: impl Fn(&ObjectKey, Stored) -> T,
) -> io::Result<StoredObjects<T>> {
    let mut all = StoredObjects { objects: BTreeMap::new(), unreadable: BTreeMap::new() };
    for (mut object, path) in files::list(dir)? {
        match disk::read_json::<Stored>(&path) {
            Ok(None) => {}
            Ok(Some(stored)) => {
                object.key.name = stored.name.clone().unwrap_or(object.key.name);
                let formed = form(&object, stored);
                all.objects.insert(object, formed);
            }
            Err(error) => {
                let path = files::of(Path::new("objects"), &object);
                let message = format!(
                    "{} in the state directory cannot be read ({error}), so {object} is not reconciled: restore the \
                     file, or remove it to continue with the published status",
                    path.display()
                );
                all.unreadable.insert(object, message);
            }
        }
    }
    Ok(all)
}
