//! Saturating time arithmetic: clocks can be set back, and dates come from outside. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Maximum difference between the clocks of the agent, its nodes and EC2.
pub const SKEW: Duration = Duration::from_secs(300);

/// Returns `start` plus `by`, or `None` if the result is later than a timestamp can hold, which means never.
pub fn after(start: Timestamp, by: Duration) -> Option<Timestamp> {
    start.checked_add(SignedDuration::try_from(by).ok()?).ok()
}

/// Returns the time from `start` to `end`, or zero if `end` is before `start`.
pub fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or(Duration::ZERO)
}

/// Returns the timestamp without fractions of a second, as tags and status store it.
pub fn to_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Returns the moments that are less than `within` ago.
pub fn recent(moments: &[Timestamp], now: Timestamp, within: Duration) -> Vec<Timestamp> {
    moments.iter().copied().filter(|at| between(*at, now) < within).collect()
}
