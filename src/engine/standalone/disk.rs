//! Writes files that exist complete or not at all, also after a power failure.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::private;

/// Replaces a file: writes and syncs a new one, renames it, and syncs the directory, which is created if necessary. Its
/// errors contain no path: they go into status, which must not contain paths of this machine.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::other("a file has a folder and a name"));
    };
    private::make(folder)?;
    // There is one writer per file, so an existing one is left from a crash.
    let part = folder.join(format!(".{}.part", name.to_string_lossy()));
    let mut file = private().create(true).truncate(true).open(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    sync_dir(folder)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Makes renames in a directory durable.
pub fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?)
}

/// Reads a file. `None` if it does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/er/status.json");
        // Left from a crash.
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path.with_file_name(".status.json.part"), "half a fi").expect("written");
        for content in ["first", "2nd"] {
            replace(&path, content.as_bytes()).expect("replaced");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), content);
        }
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().expect("a folder")).expect("read").count(), 1);
    }

    #[test]
    fn errors_contain_no_path() {
        // Not even root can create a file there.
        let error = replace(Path::new("/proc/self/status.json"), b"").expect_err("no file is created");
        assert!(!error.to_string().contains("/proc"), "{error}");
    }
}
