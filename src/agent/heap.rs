//! The heap of the process: it must not stay as large as the largest commit made it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::engine::board::Board;

/// While builds run, nothing settles for hours. By this time, the memory that the commit needed is free.
const SETTLED: Duration = Duration::from_secs(60);

/// Uses one heap for all threads. By default, glibc has one per thread, and each of them keeps the memory of its
/// largest burst of work. Call this before other threads are started.
#[cfg(target_env = "gnu")]
pub fn share() {
    // SAFETY: this sets an integer of the allocator. If it is refused (result 0), the process only uses more memory.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: this returns unused pages to the kernel; the allocator locks itself.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn share() {}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// Returns unused pages to the kernel when a commit was read, when its objects have settled, and when their status was
/// published. A commit that changes no object is read as well.
pub async fn give_back<R, L, P>(
    board: Arc<Board>,
    mut read: watch::Receiver<R>,
    mut loaded: watch::Receiver<L>,
    mut published: watch::Receiver<P>,
) {
    loop {
        let changed = tokio::select! {
            changed = read.changed() => changed,
            changed = loaded.changed() => changed,
            changed = published.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        let _ = timeout(SETTLED, board.settled()).await;
        trim();
    }
}
