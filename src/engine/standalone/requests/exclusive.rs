//! The lock of the requests: commands, and the agent, change a request that they have read.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::engine::standalone::private;

/// Maximum wait for another command, which holds the lock while it writes a small file.
const WAIT: Duration = Duration::from_secs(5);
/// How often to try again.
const LOOK: Duration = Duration::from_millis(10);

/// Locks the requests in this directory until the result is dropped. The directory is locked instead of a file in it,
/// which another user of the machine could own.
///
/// # Errors
/// Another process holds the lock for too long, or the directory cannot be created.
pub fn lock(dir: &Path) -> io::Result<File> {
    lock_within(dir, WAIT)
}

fn lock_within(dir: &Path, wait: Duration) -> io::Result<File> {
    private::make(dir)?;
    let dir = File::open(dir)?;
    let start = Instant::now();
    loop {
        match dir.try_lock() {
            Ok(()) => return Ok(dir),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if start.elapsed() >= wait => {
                let why = "another opsy command holds the requests of this state directory";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(TryLockError::WouldBlock) => pause(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "another process holds the lock, and sends no signal")]
fn pause() {
    std::thread::sleep(LOOK);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_another_command_keeps_is_an_error_and_not_an_endless_wait() {
        let state = tempfile::tempdir().expect("a directory");
        let dir = state.path().join("asked");
        let held = lock(&dir).expect("the lock is free");
        for wait in [Duration::ZERO, LOOK * 3] {
            let error = lock_within(&dir, wait).expect_err("it is held");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains("another opsy command holds the requests"), "{error}");
        }
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lock(&dir).map(drop));
            drop(held);
            waits.join().expect("it ends").expect("it is released");
        });
    }
}
