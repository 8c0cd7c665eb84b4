//! Room on the disk: how large clones of template repositories may be, and which folders are left over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tracing::warn;

use crate::api::Class;
use crate::git::templates::TemplateError;

/// Bytes that one fetch of a template repository may receive: only the files of the tips travel, and templates are text.
pub const REPOSITORY_LIMIT: usize = 512 << 20;
/// Bytes of all clones together: they share a volume with the agent's own clone (2 GiB in the chart).
const SUM_LIMIT: u64 = 1 << 30;

/// Is there room for another clone?
pub fn check(folder: &Path) -> Result<(), TemplateError> {
    let size = size(folder);
    if size < SUM_LIMIT {
        return Ok(());
    }
    Err(TemplateError {
        class: Class::Denied,
        message: format!(
            "the clones of template repositories have {size} bytes together, and {SUM_LIMIT} is the limit: use fewer or \
             smaller repositories"
        ),
    })
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
        _ => 0,
    };
    entries.map(of_entry).sum()
}

/// Removes the clones of an earlier process, except these.
pub fn remove_others(folder: &Path, kept: &BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_kept = entry.file_name().to_str().is_some_and(|name| kept.contains(name));
        if !is_kept
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            warn!(folder = %entry.path().display(), %error, "a clone that no builder uses cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_that_are_in_use_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["used", "unused"] {
            fs::create_dir_all(folder.path().join(name).join("objects")).expect("a clone");
            fs::write(folder.path().join(name).join("objects/pack"), [0; 1000]).expect("a pack");
        }
        assert_eq!(size(folder.path()), 2000);
        assert!(check(folder.path()).is_ok());
        remove_others(folder.path(), &BTreeSet::from(["used".to_owned()]));
        assert!(folder.path().join("used/objects/pack").exists() && !folder.path().join("unused").exists());
    }
}
