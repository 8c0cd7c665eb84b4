//! One agent per state directory: a lock on a file, which ends with the process in any case. The file contains the
//! engine of the agent.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::private;

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct StateLock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// The engine of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// The objects are in the state directory.
    Standalone,
    /// The objects are in a cluster. The state directory contains only what can be read again.
    Kubernetes,
}

impl EngineKind {
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
        "the state directory {0} cannot be used: {1}; free disk space there, allow Opsy to write there, or name \
         another directory with --state"
    )]
    Io(String, #[source] io::Error),
}

/// Creates the state directory if it does not exist, locks it, and records the engine.
///
/// # Errors
/// Another agent holds the lock, or the directory cannot be written.
pub fn take(state: &Path, engine: EngineKind) -> Result<StateLock, LockError> {
    let fail = |error| LockError::Io(state.display().to_string(), error);
    private::make(state).map_err(fail)?;
    let (path, is_ours) = (state.join("lock"), private::is_ours(state));
    let options =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
    let file = options.map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {
            // In a pod the directory is a volume, which has no other users and whose mode belongs to the cluster.
            if engine == EngineKind::Standalone {
                private::tighten(state, is_ours);
            }
            record(&file, engine).map(|()| StateLock(file)).map_err(fail)
        }
        Err(TryLockError::WouldBlock) => Err(LockError::Taken(state.display().to_string())),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// Records the engine. Nothing is written if it is recorded already, because the disk may be full.
fn record(mut file: &File, engine: EngineKind) -> io::Result<()> {
    let mut known = String::new();
    file.read_to_string(&mut known)?;
    if known == engine.word() {
        return Ok(());
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(engine.word().as_bytes())
}

/// The engine of the agent that uses the state directory, or `None` if no agent is running. This reads the kernel's
/// list of locks: trying the lock would hold it for a moment, and an agent that starts at that moment would end.
pub fn holder(state: &Path) -> Option<EngineKind> {
    let path = state.join("lock");
    let inode = format!(":{}", std::fs::metadata(&path).ok()?.ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let is_ours = |lock: &str| lock.split_whitespace().any(|part| part.ends_with(&inode));
    if !locks.lines().any(|lock| lock.contains("FLOCK") && is_ours(lock)) {
        return None;
    }
    let word = std::fs::read_to_string(path).ok()?;
    Some(if word == EngineKind::Kubernetes.word() { EngineKind::Kubernetes } else { EngineKind::Standalone })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_the_agents_alone_and_an_open_one_is_closed() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().expect("a temporary directory");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        let open = |path: &Path| {
            let mode = if path.is_dir() { 0o755 } else { 0o644 };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("opened");
        };
        let (new, old, shared) =
            (home.path().join("a/new"), home.path().join("old"), home.path().join("shared"));
        for state in [&old, &shared] {
            std::fs::create_dir_all(state.join("clone")).expect("a directory");
            [state, &state.join("clone")].into_iter().for_each(|path| open(path));
        }
        std::fs::write(old.join("lock"), "").expect("a file");
        open(&old.join("lock"));
        std::fs::write(shared.join("thesis.tex"), "").expect("a file");
        for (state, whole) in [(&new, 0o700), (&old, 0o700), (&shared, 0o755)] {
            let _lock = take(state, EngineKind::Standalone).expect("a lock");
            assert_eq!((mode(state), mode(&state.join("lock"))), (whole, 0o600), "{}", state.display());
        }
        assert_eq!([&old, &shared].map(|state| mode(&state.join("clone"))), [0o700; 2]);
    }

    #[test]
    fn a_second_agent_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(holder(dir.path()), None);
        let first = take(dir.path(), EngineKind::Kubernetes).expect("a lock");
        assert_eq!(holder(dir.path()), Some(EngineKind::Kubernetes));
        assert!(matches!(take(dir.path(), EngineKind::Standalone), Err(LockError::Taken(_))));
        assert_eq!(holder(dir.path()), Some(EngineKind::Kubernetes));
        drop(first);
        assert_eq!(holder(dir.path()), None);
        let _second = take(dir.path(), EngineKind::Standalone).expect("the lock is free again");
        assert_eq!(holder(dir.path()), Some(EngineKind::Standalone));
    }
}
