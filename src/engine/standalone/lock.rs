//! One agent per state folder: a lock on a file, gone with the process however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let first = take(dir.path()).expect("a lock");
        assert!(matches!(take(dir.path()), Err(LockError::Taken(_))));
        drop(first);
        take(dir.path()).expect("the lock is free again");
    }
}
