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
#[derive(Default)]
pub struct StoredObjects {
    pub objects: BTreeMap<ObjectKey, Stored>,
    /// Objects whose file cannot be read, and the remedy. The files are retained, because they contain facts that exist
    /// nowhere else.
    pub unreadable: BTreeMap<ObjectKey, String>,
}

/// Reads the state of all objects.
pub fn read_all(dir: &Path) -> io::Result<StoredObjects> {
    let mut all = StoredObjects::default();
    for (mut object, read) in files::read(dir, disk::read_json::<Stored>)? {
        match read {
            Ok(stored) => {
                object.key.name = stored.name.clone().unwrap_or(object.key.name);
                all.objects.insert(object, stored);
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
