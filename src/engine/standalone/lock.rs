//! One agent per state folder: a lock on a file, gone with the process however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Held for as long as the agent lives.
#[derive(Debug)]
pub struct StateLock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Why the state folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another opsy works on the state folder {0}; stop it, or give this one its own with --state")]
    Taken(String),
    #[error("the state folder {0} cannot be used: {1}")]
    Io(String, #[source] io::Error),
}

/// Makes the state folder if there is none, and takes its lock.
pub fn take(state: &Path) -> Result<StateLock, LockError> {
    let fail = |error| LockError::Io(state.display().to_string(), error);
    std::fs::create_dir_all(state).map_err(fail)?;
    let path = state.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(StateLock(file)),
        Err(TryLockError::WouldBlock) => Err(LockError::Taken(state.display().to_string())),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// Does an agent work on the state folder? Looks at the kernel's list of locks: to try the lock would be to
/// hold it for a moment, in which an agent that starts gives up.
pub fn is_taken(state: &Path) -> bool {
    let Ok(file) = std::fs::metadata(state.join("lock")) else { return false };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let inode = format!(":{}", file.ino());
    locks
        .lines()
        .any(|lock| lock.contains("FLOCK") && lock.split_whitespace().any(|part| part.ends_with(&inode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(!is_taken(dir.path()));
        let first = take(dir.path()).expect("a lock");
        assert!(is_taken(dir.path()));
        assert!(matches!(take(dir.path()), Err(LockError::Taken(_))));
        drop(first);
        assert!(!is_taken(dir.path()));
        take(dir.path()).expect("the lock is free again");
    }
}
