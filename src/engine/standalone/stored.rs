//! Reads the state of objects from the state directory, at the start of the agent and in commands.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::object::Stored;
use super::stored_text::StoredText;
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
    read_each(dir, |object, text| {
        let stored: Stored = serde_json::from_str(text)?;
        rename(object, &stored.name);
        Ok(stored)
    })
}

/// Reads the state of all objects, each into another form at once.
pub(super) fn read_all_as<T>(
    dir: &Path,
    form: impl Fn(&ObjectKey, StoredText<'_>) -> T,
) -> io::Result<StoredObjects<T>> {
    read_each(dir, |object, text| {
        let stored = StoredText::read(text)?;
        rename(object, &stored.fixed.name);
        Ok(form(object, stored))
    })
}

/// Gives an object the name that is stored because it is too long for a file name.
fn rename(object: &mut ObjectKey, stored: &Option<String>) {
    if let Some(name) = stored {
        object.key.name.clone_from(name);
    }
}

/// Reads the state of all objects. `read` reads that of one object from its text.
fn read_each<T>(
    dir: &Path,
    read: impl Fn(&mut ObjectKey, &str) -> serde_json::Result<T>,
) -> io::Result<StoredObjects<T>> {
    let mut all = StoredObjects { objects: BTreeMap::new(), unreadable: BTreeMap::new() };
    for (mut object, path) in files::list(dir)? {
        let read = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.and_then(|text| Ok(read(&mut object, &text)?)),
        };
        match read {
            Ok(read) => drop(all.objects.insert(object, read)),
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
