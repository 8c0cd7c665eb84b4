//! Syncs a whole file system, where that is as safe as syncing its files one by one.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Types of file systems whose sync writes all files to the disk: btrfs, ext2 to ext4, f2fs, overlayfs, tmpfs and xfs. Others,
/// such as FUSE, may not pass the request on.
const SYNCED_WHOLE: [i64; 6] = [0x9123_683e, 0xef53, 0xf2f5_2010, 0x794c_7630, 0x0102_1994, 0x5846_5342];
/// Older versions of Linux do not report errors of the sync.
const REPORTS_ERRORS: (u32, u32) = (5, 8);

/// A file system, from before files on it are written: a sync then reports all errors since.
pub(super) struct FileSystem {
    folder: File,
    device: u64,
}

impl FileSystem {
    /// The file system of a directory. `None` if files on it must be synced one by one.
    pub fn of(folder: &Path) -> Option<Self> {
        let folder = File::open(folder).ok()?;
        let kind = rustix::fs::fstatfs(&folder).ok()?.f_type;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
        let is_safe = SYNCED_WHOLE.contains(&kind) && version(&kernel)? >= REPORTS_ERRORS;
        let device = folder.metadata().ok()?.dev();
        is_safe.then_some(Self { folder, device })
    }

    pub fn contains(&self, device: u64) -> bool {
        self.device == device
    }

    /// Writes everything to the disk. Returns false if something could not be written, which may be a file of another
    /// program.
    pub fn sync(&self) -> bool {
        rustix::fs::syncfs(&self.folder).is_ok()
    }
}

/// The version of Linux in its release string.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_any_release_string() {
        for (release, read) in [
            ("6.18.44-fc\n", Some((6, 18))),
            ("5.8.0", Some((5, 8))),
            ("4.18.0-553.el8_10.x86_64", Some((4, 18))),
            ("5.10+rpt", Some((5, 10))),
            ("unknown", None),
        ] {
            assert_eq!(version(release), read, "{release}");
        }
    }

    #[test]
    fn a_pseudo_file_system_is_not_synced_as_a_whole() {
        assert!(FileSystem::of(Path::new("/proc")).is_none());
        assert!(FileSystem::of(Path::new("/nonexistent")).is_none());
    }
}
