//! Room on the disk: how large clones of template repositories may be, and which folders are left over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tracing::warn;

use crate::api::Class;
use crate::git::mirror::is_crowded;
use crate::git::templates::TemplateError;

/// Hexadecimal digits in the name of a clone.
pub const NAME_LENGTH: usize = 32;
/// Bytes that one fetch of a template repository may receive: only the files of the tips travel, and templates are text.
pub const REPOSITORY_LIMIT: usize = 512 << 20;
/// Bytes of all clones together: they share a volume with the agent's own clone (2 GiB in the chart).
const SUM_LIMIT: u64 = 1 << 30;

/// Bytes that the next fetch may receive.
pub fn left(folder: &Path) -> usize {
    let left = SUM_LIMIT.saturating_sub(size(folder));
    usize::try_from(left).unwrap_or(usize::MAX).min(REPOSITORY_LIMIT)
}

/// Is a clone so large, or made of so many fetches, that a new one takes its place?
pub fn is_used_up(clone: &Path) -> bool {
    is_crowded(clone) || size(clone) > REPOSITORY_LIMIT as u64
}

/// The clones together leave no room for what a fetch receives.
pub fn is_short() -> TemplateError {
    TemplateError {
        class: Class::Denied,
        message: format!(
            "the clones of template repositories have {SUM_LIMIT} bytes together, which is the limit: use fewer or smaller \
             repositories"
        ),
    }
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
        // What is not named like a clone was not made as one.
        let is_clone = |name: &str| name.len() == NAME_LENGTH && name.chars().all(|c| c.is_ascii_hexdigit());
        let is_kept = entry.file_name().to_str().is_none_or(|name| kept.contains(name) || !is_clone(name));
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
        let (used, unused) = ("a".repeat(NAME_LENGTH), "b".repeat(NAME_LENGTH));
        for name in [&used, &unused] {
            fs::create_dir_all(folder.path().join(name).join("objects")).expect("a clone");
            fs::write(folder.path().join(name).join("objects/pack"), [0; 1000]).expect("a pack");
        }
        assert_eq!(size(folder.path()), 2000);
        assert_eq!(left(folder.path()), REPOSITORY_LIMIT);
        fs::create_dir(folder.path().join("other")).expect("a directory");
        remove_others(folder.path(), &BTreeSet::from([used.clone()]));
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(is_there(&used) && is_there("other") && !is_there(&unused));
    }
}
