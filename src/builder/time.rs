//! Sums of instants and durations that cannot overflow. Used by every pure part of the builder.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// The clocks of the agent, its nodes and EC2 differ by this much at most.
pub const SKEW: Duration = Duration::from_secs(300);

/// `start` plus `by`; `None` when that is beyond what a timestamp holds, which means never.
pub fn after(start: Timestamp, by: Duration) -> Option<Timestamp> {
    start.checked_add(SignedDuration::try_from(by).ok()?).ok()
}

/// How long from `now` until `then`; zero when it has passed.
pub fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// How long since `then`; zero when it is still to come.
pub fn since(now: Timestamp, then: Timestamp) -> Duration {
    until(then, now)
}

/// The instant without fractions of a second: what tags and people are given.
pub fn to_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
