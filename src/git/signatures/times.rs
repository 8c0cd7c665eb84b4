//! The times when a key must be valid. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time when a commit was signed, as the commit states, and the time of the verification, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub signed: i64,
    pub now: i64,
}

impl Times {
    pub fn first(self) -> i64 {
        self.signed.min(self.now)
    }

    pub fn last(self) -> i64 {
        self.signed.max(self.now)
    }
}

/// Formats a time for messages.
pub fn day(seconds: i64) -> String {
    let shown = |time: Timestamp| time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string();
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), shown)
}
