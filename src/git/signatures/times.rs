//! The times at which a key must be valid. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// When a commit was signed, as it states itself, and when it is verified. Seconds since 1970.
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

/// A time, for people.
pub fn day(seconds: i64) -> String {
    let shown = |time: Timestamp| time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string();
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), shown)
}
