//! The request to read the commit in force again, because what is known about its files has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A request to the loop that lasts until the commit was read again.
#[derive(Clone, Debug, Default)]
pub struct Reread(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: AtomicBool,
    wakeup: Notify,
}

impl Reread {
    /// Requests to read the commit again.
    pub fn request(&self) {
        self.0.wanted.store(true, Ordering::Release);
        self.0.wakeup.notify_one();
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Acquire)
    }

    /// Takes the request. A request that comes later is a new one.
    pub(super) fn take(&self) -> bool {
        self.0.wanted.swap(false, Ordering::AcqRel)
    }

    /// Restores the request, because the commit could not be read.
    pub(super) fn put_back(&self) {
        self.0.wanted.store(true, Ordering::Release);
    }

    pub(super) async fn requested(&self) {
        self.0.wakeup.notified().await;
    }
}
