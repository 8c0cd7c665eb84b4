//! Time that has passed, by a clock that may be set back. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// Moments that still count.
pub fn recent(moments: &[Timestamp], now: Timestamp, within: Duration) -> Vec<Timestamp> {
    moments.iter().copied().filter(|at| elapsed(*at, now) < within).collect()
}

/// Time from `since` to `now`; none when the clock was set back.
pub fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
}
