//! When the next batch is due. Pure: instants come in, an instant comes out.

use std::time::Duration;

use tokio::time::Instant;

/// Changes that never pause are published after this long all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is waiting to be published, and since when.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// First change since the last batch.
    first: Option<Instant>,
    /// When it has been quiet for long enough.
    quiet: Option<Instant>,
    /// After a failure: not before.
    retry: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// Something changed.
    pub fn woken(&mut self, now: Instant, quiet: Duration) {
        let first = *self.first.get_or_insert(now);
        self.quiet = Some((now + quiet).min(first + LONGEST_WAIT));
    }

    /// The batch is in the repository.
    pub fn published(&mut self) {
        *self = Self::default();
    }

    /// It is not, and will be tried again after `wait`.
    pub fn failed(&mut self, now: Instant, wait: Duration) {
        *self = Self { retry: Some(now + wait), failures: self.failures + 1, ..Self::default() };
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When to publish; never while nothing is waiting.
    pub fn due(&self) -> Option<Instant> {
        self.retry.or(self.quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(2);

    #[test]
    fn every_change_prolongs_the_quiet_period_up_to_a_limit() {
        let (start, mut schedule) = (Instant::now(), Schedule::default());
        assert_eq!(schedule.due(), None);
        schedule.woken(start, QUIET);
        assert_eq!(schedule.due(), Some(start + QUIET));
        schedule.woken(start + QUIET / 2, QUIET);
        assert_eq!(schedule.due(), Some(start + QUIET / 2 + QUIET));
        for second in 1..=60 {
            schedule.woken(start + Duration::from_secs(second), QUIET);
        }
        assert_eq!(schedule.due(), Some(start + LONGEST_WAIT));
        schedule.published();
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn changes_after_a_failure_wait_for_the_retry() {
        let (start, mut schedule) = (Instant::now(), Schedule::default());
        schedule.woken(start, QUIET);
        schedule.failed(start, Duration::from_secs(30));
        assert_eq!((schedule.due(), schedule.failures()), (Some(start + Duration::from_secs(30)), 1));
        schedule.woken(start + QUIET, QUIET);
        assert_eq!(schedule.due(), Some(start + Duration::from_secs(30)));
        schedule.failed(start + Duration::from_secs(30), Duration::from_secs(60));
        assert_eq!((schedule.due(), schedule.failures()), (Some(start + Duration::from_secs(90)), 2));
        schedule.published();
        assert_eq!((schedule.due(), schedule.failures()), (None, 0));
    }
}
