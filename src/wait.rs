//! Sleeping, for loops that have no work queue to requeue to, and random numbers for jitter.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Returns a number that differs between calls and processes. It is good enough for jitter, and for nothing else.
pub fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// Sleeps. Reconciles never do: their objects are requeued.
#[expect(clippy::disallowed_methods, reason = "loops without a work queue sleep between attempts")]
pub async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }
}
