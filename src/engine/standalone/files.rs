//! One file per object: `<directory>/<Kind>/<namespace>/<name>.json`, with a long name shortened.

use std::io;
use std::path::{Path, PathBuf};

use crate::api::files::file_stem;
use crate::api::{Key, Kind, ObjectKey};

/// The file of an object.
pub(super) fn of(dir: &Path, object: &ObjectKey) -> PathBuf {
    let folder = dir.join(object.kind.to_string()).join(&object.key.namespace);
    folder.join(format!("{}.json", file_stem(&object.key.name)))
}

/// The files of all objects. Of an object with a long name, only the shortened name is known from the file.
///
/// # Errors
/// A directory cannot be read.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(ObjectKey, PathBuf)>> {
    let mut all = Vec::new();
    for kind in [Kind::PackerBuilder, Kind::AMIRefresher] {
        for namespace in children(&dir.join(kind.to_string()))? {
            for path in children(&namespace)? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"))
                else {
                    continue;
                };
                let key = Key { namespace: file_name(&namespace), name: name.to_owned() };
                all.push((ObjectKey { kind, key }, path));
            }
        }
    }
    Ok(all)
}

fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
