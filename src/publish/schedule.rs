//! When the next batch is due. Pure: it computes with instants and reads no clock.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum wait if changes never pause.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// When the waiting changes are published.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Time of the first change since the last batch.
    first: Option<Instant>,
    /// End of the quiet period.
    quiet: Option<Instant>,
    /// After a failure: time of the next attempt.
    retry: Option<Instant>,
    /// Time of another task, which delays no changes.
    also: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// Records a change.
    pub fn woken(&mut self, now: Instant, quiet: Duration) {
        let first = *self.first.get_or_insert(now);
        self.quiet = Some((now + quiet).min(first + LONGEST_WAIT));
    }

    /// Records that the batch is in the repository.
    pub fn published(&mut self) {
        *self = Self::default();
    }

    /// Records a failure. The next attempt is after `wait`.
    pub fn failed(&mut self, now: Instant, wait: Duration) {
        *self = Self { retry: Some(now + wait), failures: self.failures + 1, ..Self::default() };
    }

    /// Sets when another task is due.
    pub fn also(&mut self, due: Option<Instant>) {
        self.also = due;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When to publish; `None` if nothing is waiting.
    pub fn due(&self) -> Option<Instant> {
        self.retry.or_else(|| self.quiet.into_iter().chain(self.also).min())
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
    fn another_task_delays_no_changes() {
        let (start, mut schedule) = (Instant::now(), Schedule::default());
        schedule.also(Some(start + 10 * QUIET));
        assert_eq!(schedule.due(), Some(start + 10 * QUIET));
        schedule.woken(start, QUIET);
        assert_eq!(schedule.due(), Some(start + QUIET));
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
