//! Disk space: the limits for the clones of template repositories, and the removal of clones that are not used.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tracing::warn;

use crate::api::Class;
use crate::git::templates::TemplateError;
use crate::git::upkeep::has_too_many_packs;

/// The number of hexadecimal digits in the name of a clone.
pub const NAME_LENGTH: usize = 32;
/// The maximum number of bytes that one fetch of a template repository may receive: it transfers only the files of
/// tips, and templates are text.
pub const REPOSITORY_LIMIT: usize = 512 << 20;
/// The maximum size of all clones together: they share a volume with the agent's own clone (2 GiB in the chart).
const TOTAL_LIMIT: u64 = 1 << 30;

/// Returns the number of bytes that the next fetch may receive.
pub fn remaining(folder: &Path) -> usize {
    let remaining = TOTAL_LIMIT.saturating_sub(size(folder));
    usize::try_from(remaining).unwrap_or(usize::MAX).min(REPOSITORY_LIMIT)
}

/// Returns true if a clone is so large, or has so many packs, that a new one must replace it.
pub fn must_be_replaced(clone: &Path) -> bool {
    has_too_many_packs(clone) || size(clone) > REPOSITORY_LIMIT as u64
}

/// Returns the error for a fetch that exceeds the limit for all clones.
pub fn over_limit() -> TemplateError {
    TemplateError {
        class: Class::Denied,
        message: format!(
            "the clones of all template repositories would have more than {TOTAL_LIMIT} bytes, which is the limit: use \
             fewer or smaller repositories"
        ),
    }
}

/// Returns the size of all files below a directory, in bytes.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
        _ => 0,
    };
    entries.map(of_entry).sum()
}

/// Removes the clones of an earlier process, except those in use.
pub fn remove_unused(folder: &Path, used: &BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // A directory with another name is not a clone.
        let is_clone = |name: &str| name.len() == NAME_LENGTH && name.chars().all(|c| c.is_ascii_hexdigit());
        let is_kept = entry.file_name().to_str().is_none_or(|name| used.contains(name) || !is_clone(name));
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
        let folder = tempfile::tempdir().expect("a directory");
        let (used, unused) = ("a".repeat(NAME_LENGTH), "b".repeat(NAME_LENGTH));
        for name in [&used, &unused] {
            fs::create_dir_all(folder.path().join(name).join("objects")).expect("a clone");
            fs::write(folder.path().join(name).join("objects/pack"), [0; 1000]).expect("a pack");
        }
        assert_eq!(size(folder.path()), 2000);
        assert_eq!(remaining(folder.path()), REPOSITORY_LIMIT);
        fs::create_dir(folder.path().join("other")).expect("a directory");
        remove_unused(folder.path(), &BTreeSet::from([used.clone()]));
        let exists = |name: &str| folder.path().join(name).exists();
        assert!(exists(&used) && exists("other") && !exists(&unused));
    }
}
