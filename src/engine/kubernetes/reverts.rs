//! Whether somebody else keeps changing an object against Git, and so how soon it may be set back. Pure.
//!
//! One edit is reverted at once. Who writes again and again (another agent with the same owner, another GitOps
//! tool, a controller) would be answered at full speed for ever: after a few reverts each waits longer.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// So many reverts within a minute are no hand of a person.
const MANY: usize = 3;
const WITHIN: Duration = Duration::from_secs(60);
/// First and longest pause between reverts from then on: the API server hardly notices one in five minutes.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// In sync for so long, it is left alone by the other one.
const CALM: Duration = WITHIN;

/// The reverts of one object.
#[derive(Clone, Debug, Default)]
pub struct Reverts {
    /// The last ones, as many as count.
    last: VecDeque<Instant>,
    /// How many since there were many; none before.
    slow: u32,
    in_sync_since: Option<Instant>,
    /// What the last one undid.
    cause: String,
}

impl Reverts {
    /// Notes a revert, and what it undid. True if from this one on the object is contested.
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

    /// Notes whether the object is as Git says.
    pub fn seen(&mut self, in_sync: bool, now: Instant) {
        self.in_sync_since = in_sync.then(|| self.in_sync_since.unwrap_or(now));
    }

    /// Does somebody keep changing it?
    pub fn is_contested(&self) -> bool {
        self.slow > 0
    }

    /// What the last revert undid.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// When the next revert may be sent; at once where there is no time.
    pub fn next(&self) -> Option<Instant> {
        let doublings = self.slow.checked_sub(1)?;
        let (first, longest) = PAUSES;
        let pause = first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(longest);
        self.last.back().map(|last| *last + pause)
    }

    /// When it counts as left alone, if it stays as it is.
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
    fn many_reverts_in_a_short_time_are_a_contest() {
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
    fn it_is_over_when_the_object_stays_as_it_should_be() {
        let (mut reverts, now) = (Reverts::default(), Instant::now());
        assert_eq!([(); 3].map(|()| reverts.reverted("x".to_owned(), now)), [false, false, true]);
        assert_eq!(reverts.calm_at(), None, "the last revert was not seen yet");
        reverts.seen(true, now + seconds(1));
        reverts.seen(true, now + seconds(30));
        assert_eq!(reverts.calm_at(), Some(now + seconds(1) + CALM));
        reverts.seen(false, now + seconds(31));
        assert_eq!(reverts.calm_at(), None);
    }

    proptest! {
        /// Whoever answers each revert at once, or later: the number of reverts grows with the logarithm of time first,
        /// and then stays at one in five minutes.
        #[test]
        fn reverts_are_few_whatever_the_other_one_does(answers in prop::collection::vec(0u64..50, 1..400)) {
            let (mut reverts, start) = (Reverts::default(), Instant::now());
            let (mut now, mut times) = (start, Vec::new());
            for answer in answers {
                reverts.seen(true, now);
                now += seconds(answer);
                reverts.seen(false, now);
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
