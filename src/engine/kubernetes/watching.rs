//! How long a failing watch waits before the next attempt. Used by the watches of objects and of runs.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::backoff;

/// First and longest pause after a failure. kube's own backoff restarts with every attempt to list.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Longest pause if the kind is not installed: it often is within seconds of being missed.
const LONGEST_WITHOUT_DEFINITION: Duration = Duration::from_secs(5);
/// Failures further apart than this are not consecutive.
const APART: Duration = Duration::from_secs(300);

/// Consecutive failures of one watch.
#[derive(Default)]
pub struct WatchBackoff {
    count: u32,
    last: Option<(Instant, String)>,
}

impl WatchBackoff {
    /// Counts a failure. Returns the pause after it, and whether its message is new.
    pub fn next(&mut self, message: &str, without_definition: bool, now: Instant) -> (Duration, bool) {
        let last = self.last.replace((now, message.to_owned()));
        let follows = last.filter(|(at, _)| now.duration_since(*at) < APART);
        self.count = if follows.is_some() { self.count.saturating_add(1) } else { 1 };
        let (first, longest) = PAUSES;
        let longest = if without_definition { LONGEST_WITHOUT_DEFINITION } else { longest };
        let pause = backoff::doubled(first, longest, self.count);
        (pause, follows.is_none_or(|(_, before)| before != message))
    }

    /// The watch works. Returns the message of the last failure, if there was one.
    pub fn reset(&mut self) -> Option<String> {
        self.count = 0;
        self.last.take().map(|(_, message)| message)
    }
}

#[expect(clippy::disallowed_methods, reason = "a watch that fails has nothing else to wait for")]
pub async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_lists_fail_and_restart_after_a_calm() {
        let mut backoff = WatchBackoff::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(backoff.next("no", false, at(0)), (Duration::from_secs(1), true));
        assert_eq!(backoff.next("no", false, at(1)), (Duration::from_secs(2), false));
        assert_eq!(backoff.next("why", false, at(3)), (Duration::from_secs(4), true));
        for _ in 0..100 {
            backoff.next("why", false, at(4));
        }
        assert_eq!(backoff.next("why", false, at(5)).0, PAUSES.1);
        assert_eq!(backoff.next("why", true, at(6)).0, LONGEST_WITHOUT_DEFINITION);
        assert_eq!(backoff.next("why", false, at(900)), (Duration::from_secs(1), true));
        assert_eq!(backoff.reset().as_deref(), Some("why"));
        assert_eq!(backoff.next("why", false, at(901)), (Duration::from_secs(1), true));
    }
}
