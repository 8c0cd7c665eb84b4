//! The state of objects as the state directory holds it, read at a start and by commands.

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

/// What the folder holds.
#[derive(Default)]
pub struct Held {
    pub objects: BTreeMap<ObjectKey, Stored>,
    /// Objects whose file cannot be read, and what to do about it. Dropping the file would lose facts.
    pub unreadable: BTreeMap<ObjectKey, String>,
}

/// Reads every object's state.
pub fn read_all(dir: &Path) -> io::Result<Held> {
    let mut held = Held::default();
    for (mut object, read) in files::read(dir, disk::read_json::<Stored>)? {
        match read {
            Ok(stored) => {
                object.key.name = stored.name.clone().unwrap_or(object.key.name);
                held.objects.insert(object, stored);
            }
            Err(error) => {
                let path = files::of(Path::new("objects"), &object);
                let words = format!(
                    "{} in the state directory cannot be read ({error}), so nothing is done for {object}: restore the \
                     file, or remove it to begin with the published status",
                    path.display()
                );
                held.unreadable.insert(object, words);
            }
        }
    }
    Ok(held)
}
