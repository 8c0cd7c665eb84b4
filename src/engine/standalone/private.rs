//! Permissions of the state directory: only the agent's user may read it. It contains a private repository, secrets of
//! builds, and logs.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

/// Entries of a state directory that older versions created with wider permissions.
const PARTS: [&str; 7] = ["lock", "memory.json", "objects", "asked", "runs", "logs", "clone"];
/// The permissions of other users.
const OTHERS: u32 = 0o077;

/// Creates a directory and its parents for the agent's user only.
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether a directory is a state directory or empty. One with other contents is not the agent's alone.
pub fn is_ours(state: &Path) -> bool {
    state.join("lock").is_file() || fs::read_dir(state).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes the permissions of other users from a state directory that an older Opsy or a person created. With `whole`,
/// also from the directory itself, which then must contain nothing else.
pub fn tighten(state: &Path, whole: bool) {
    let parts = PARTS.iter().map(|part| state.join(part));
    for path in whole.then(|| state.to_owned()).into_iter().chain(parts) {
        let Ok(mode) = fs::metadata(&path).map(|metadata| metadata.permissions().mode()) else { continue };
        if mode & OTHERS == 0 {
            continue;
        }
        let closed = fs::set_permissions(&path, Permissions::from_mode(mode & 0o7700));
        let path = path.display();
        match closed {
            Ok(()) => {
                tracing::warn!(%path, "other users of this machine had access: their permissions were removed")
            }
            Err(error) => tracing::warn!(%path, %error, "other users of this machine have access"),
        }
    }
}
