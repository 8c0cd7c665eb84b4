//! Who may read the state directory: the agent's user alone. It holds a private repository, secrets of builds and logs.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

/// What the state directory holds that is made by name.
const PARTS: [&str; 7] = ["lock", "memory.json", "objects", "asked", "runs", "logs", "clone"];
/// Modes of others.
const OTHERS: u32 = 0o077;

/// Makes a folder, and those above it, for the agent's user alone.
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Is a folder a state directory, or may it become one? One that holds other things is somebody else's, too.
pub fn is_ours(state: &Path) -> bool {
    state.join("lock").is_file() || fs::read_dir(state).is_ok_and(|mut entries| entries.next().is_none())
}

/// Closes a state directory that an older Opsy, or a person, made open to others. `whole` is for one that holds nothing
/// else.
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
                tracing::warn!(%path, "was open to other users of this machine: it is the agent's alone now")
            }
            Err(error) => tracing::warn!(%path, %error, "is open to other users of this machine"),
        }
    }
}
