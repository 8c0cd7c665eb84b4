//! How soon drift of an object is reverted, and whether another writer keeps causing it. Pure.
//!
//! A single edit is reverted at once. A writer that repeats its change (another agent with the same owner, another
//! GitOps tool, a controller) would keep both busy forever, so after a few reverts each further one waits longer.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::backoff;

/// This many reverts within a minute are not caused by a person.
const MANY: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);
/// First and longest pause between reverts from then on. One in five minutes is negligible for the API server.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// An object that stays in sync for this long is no longer changed by the other writer.
const CALM: Duration = WITHIN;

/// The reverts of one object.
#[derive(Clone, Debug, Default)]
pub struct Reverts {
    /// The times of the last `MANY`.
    last: VecDeque<Instant>,
    /// The number of reverts since the object is contested, which determines the pause.
    slow: u32,
    in_sync_since: Option<Instant>,
    /// The drift that the last one reverted.
    cause: String,
}

impl Reverts {
    /// Records a revert and the drift that it reverted. Returns whether the object is contested from this one on.
    pub fn reverted(&mut self, cause: String, now: Instant) -> bool {
        let was_contested = self.is_contested();
        self.cause = cause;
        self.in_sync_since = None;
        self.last.push_back(now);
        if self.last.len() > MANY {
            self.last.pop_front();
        }
        let first = self.last.front().copied().unwrap_or(now);
        if was_contested || (self.last.len() == MANY && now.duration_since(first) <= WITHIN) {
            self.slow = self.slow.saturating_add(1);
        }
        self.is_contested() && !was_contested
    }

    /// Records whether the object was observed in sync.
    pub fn observe(&mut self, in_sync: bool, now: Instant) {
        self.in_sync_since = in_sync.then(|| self.in_sync_since.unwrap_or(now));
    }

    /// Whether another writer keeps changing the object.
    pub fn is_contested(&self) -> bool {
        self.slow > 0
    }

    /// The drift that the last revert reverted.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// When the next revert may be sent; `None` means at once.
    pub fn next(&self) -> Option<Instant> {
        let (first, longest) = PAUSES;
        let pause = backoff::doubled(first, longest, self.slow);
        self.last.back().filter(|_| self.is_contested()).map(|last| *last + pause)
    }

    /// When the contest is over, if the object stays in sync.
    pub fn calm_at(&self) -> Option<Instant> {
        self.in_sync_since.map(|since| since + CALM)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn many_reverts_in_a_short_time_make_an_object_contested() {
        for (name, at, contested) in [
            ("one edit", vec![0], false),
            ("two edits", vec![0, 1], false),
            ("three at once", vec![0, 0, 0], true),
            ("three within a minute", vec![0, 30, 60], true),
            ("three in more than a minute", vec![0, 30, 61], false),
            ("three after calm ones", vec![0, 100, 200, 201, 202], true),
        ] {
            let (mut reverts, start) = (Reverts::default(), Instant::now());
            let news = at.iter().filter(|at| reverts.reverted(String::new(), start + seconds(**at))).count();
            assert_eq!((reverts.is_contested(), news), (contested, usize::from(contested)), "{name}");
            let last = start + seconds(*at.last().expect("a time"));
            assert_eq!(reverts.next(), contested.then(|| last + PAUSES.0), "{name}");
        }
    }

    #[test]
    fn the_contest_is_over_when_the_object_stays_in_sync() {
        let (mut reverts, now) = (Reverts::default(), Instant::now());
        assert_eq!([(); 3].map(|()| reverts.reverted("x".to_owned(), now)), [false, false, true]);
        assert_eq!(reverts.calm_at(), None, "the last revert is not observed yet");
        reverts.observe(true, now + seconds(1));
        reverts.observe(true, now + seconds(30));
        assert_eq!(reverts.calm_at(), Some(now + seconds(1) + CALM));
        reverts.observe(false, now + seconds(31));
        assert_eq!(reverts.calm_at(), None);
    }

    proptest! {
        /// However soon the other writer repeats its change, the number of reverts first grows with the logarithm of
        /// time and then stays at one in five minutes.
        #[test]
        fn reverts_are_few_whatever_the_other_writer_does(delays in prop::collection::vec(0u64..50, 1..400)) {
            let (mut reverts, start) = (Reverts::default(), Instant::now());
            let (mut now, mut times) = (start, Vec::new());
            for delay in delays {
                reverts.observe(true, now);
                now += seconds(delay);
                reverts.observe(false, now);
                now = now.max(reverts.next().unwrap_or(now));
                reverts.reverted(String::new(), now);
                times.push(now);
            }
            for window in times.windows(12) {
                prop_assert!(window[11].duration_since(window[0]) >= seconds(60), "{window:?}");
            }
        }
    }
}
