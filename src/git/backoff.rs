//! How long to wait after a failure: doubling, capped, spread so that agents do not march in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The wait after `failures` failures in a row: doubles from `first` up to `most`, then takes between
/// half and all of it, as `random` says.
pub fn after(failures: u32, first: Duration, most: Duration, random: u64) -> Duration {
    let doubled = first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    let whole = doubled.min(most);
    let spread = u32::try_from(random % 1001).unwrap_or(0);
    whole / 2 + whole / 2 * spread / 1000
}

/// A number that differs between calls and processes. Good enough to spread waits, for nothing else.
pub fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// Waits. The one sleep of the Git loops: they have no object whose pass could be looked at again.
#[expect(
    clippy::disallowed_methods,
    reason = "a Git loop waits between attempts and has no queue to return to"
)]
pub async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);
    const MOST: Duration = Duration::from_secs(600);

    #[test]
    fn doubles_up_to_the_cap() {
        let full = |failures| after(failures, FIRST, MOST, 1000).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 60].map(full), [30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn never_waits_less_than_half() {
        assert_eq!(after(1, FIRST, MOST, 0), Duration::from_secs(15));
        assert_eq!(after(9, FIRST, MOST, 0), Duration::from_secs(300));
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }
}
