//! The request to read the commit that is in force again: what is known of its files has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A wakeup of the loop that lasts until the commit was read again.
#[derive(Clone, Debug, Default)]
pub struct Reread(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wanted: AtomicBool,
    wakeup: Notify,
}

impl Reread {
    /// Asks for it.
    pub fn request(&self) {
        self.0.wanted.store(true, Ordering::Release);
        self.0.wakeup.notify_one();
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Acquire)
    }

    /// Takes the request up; what is asked for from here on is another one.
    pub(super) fn take(&self) -> bool {
        self.0.wanted.swap(false, Ordering::AcqRel)
    }

    /// The commit could not be read: the next look must.
    pub(super) fn put_back(&self) {
        self.0.wanted.store(true, Ordering::Release);
    }

    pub(super) async fn requested(&self) {
        self.0.wakeup.notified().await;
    }
}
