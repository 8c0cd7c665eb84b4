//! The heap of the process: as large as what it holds, not as what a commit once took.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::engine::board::Board;

/// Where builds are under way nothing settles for hours: what a commit took is over long before.
const SETTLED: Duration = Duration::from_secs(60);

/// One heap for all threads. glibc has one a thread, and each keeps what a burst of work left in it. To be
/// called before there are other threads.
#[cfg(target_env = "gnu")]
pub fn share() {
    // SAFETY: it sets an integer of the allocator's. Where it is refused, which it answers by 0, the process
    // is as it was, only larger.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it hands pages back that hold nothing; the allocator locks itself.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn share() {}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// Gives pages back whenever a commit was worked through, and when what came of it was published.
pub async fn give_back<C, P>(
    board: Arc<Board>,
    mut loaded: watch::Receiver<C>,
    mut published: watch::Receiver<P>,
) {
    loop {
        let news = tokio::select! {
            news = loaded.changed() => news,
            news = published.changed() => news,
        };
        if news.is_err() {
            return;
        }
        let _ = timeout(SETTLED, board.settled()).await;
        trim();
    }
}
