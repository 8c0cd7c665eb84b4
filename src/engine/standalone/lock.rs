//! One agent per state directory: a lock on a file, gone with the process however it ends. The file says in
//! which engine the agent works.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Held for as long as the agent lives.
#[derive(Debug)]
pub struct StateLock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// The engine that an agent works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The objects are in the state directory.
    Standalone,
    /// They are in a cluster; the state directory has the clone alone.
    Kubernetes,
}

impl Engine {
    fn word(self) -> &'static str {
        match self {
            Self::Standalone => "standalone\n",
            Self::Kubernetes => "kubernetes\n",
        }
    }
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another opsy uses the state directory {0}; stop it, or name another directory with --state")]
    Taken(String),
    #[error(
        "the state directory {0} cannot be used: {1}; free disk space there, let Opsy write there, or name \
         another directory with --state"
    )]
    Io(String, #[source] io::Error),
}

/// Makes the state directory if there is none, takes its lock, and records the engine in it.
///
/// # Errors
/// Another agent has the lock, or the directory cannot be written.
pub fn take(state: &Path, engine: Engine) -> Result<StateLock, LockError> {
    let fail = |error| LockError::Io(state.display().to_string(), error);
    std::fs::create_dir_all(state).map_err(fail)?;
    let path = state.join("lock");
    let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
    let file = options.map_err(fail)?;
    match file.try_lock() {
        Ok(()) => record(&file, engine).map(|()| StateLock(file)).map_err(fail),
        Err(TryLockError::WouldBlock) => Err(LockError::Taken(state.display().to_string())),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// Records the engine. A file that has it already is left alone: the disk may be full.
fn record(mut file: &File, engine: Engine) -> io::Result<()> {
    let mut known = String::new();
    file.read_to_string(&mut known)?;
    if known == engine.word() {
        return Ok(());
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(engine.word().as_bytes())
}

/// The engine of the agent that uses the state directory; none where no agent is running. Reads the kernel's
/// list of locks: trying the lock would hold it for a moment, in which an agent that starts gives up.
pub fn holder(state: &Path) -> Option<Engine> {
    let path = state.join("lock");
    let inode = format!(":{}", std::fs::metadata(&path).ok()?.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let is_ours = |lock: &str| lock.split_whitespace().any(|part| part.ends_with(&inode));
    if !locks.lines().any(|lock| lock.contains("FLOCK") && is_ours(lock)) {
        return None;
    }
    let word = std::fs::read_to_string(path).ok()?;
    Some(if word == Engine::Kubernetes.word() { Engine::Kubernetes } else { Engine::Standalone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(holder(dir.path()), None);
        let first = take(dir.path(), Engine::Kubernetes).expect("a lock");
        assert_eq!(holder(dir.path()), Some(Engine::Kubernetes));
        assert!(matches!(take(dir.path(), Engine::Standalone), Err(LockError::Taken(_))));
        assert_eq!(holder(dir.path()), Some(Engine::Kubernetes));
        drop(first);
        assert_eq!(holder(dir.path()), None);
        let _second = take(dir.path(), Engine::Standalone).expect("the lock is free again");
        assert_eq!(holder(dir.path()), Some(Engine::Standalone));
    }
}
