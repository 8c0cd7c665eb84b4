//! When updates of node groups may start: maintenance windows, which recur in a time zone, and freezes. Parsed by
//! `spec`, read by `plan`. The time zone database is compiled into the program. Pure.
//!
//! The clock of a window is that of its time zone; its duration is elapsed time. If a clock change skips the time at
//! which a window opens, one that opens at a single time of the day opens right after the change. If a clock change
//! repeats that time, it opens once, the first time. A window with several times of the day (a list, a range, `*` or
//! `/` in minutes or hours) does not open at a time that is skipped, and opens both times at one that is repeated.

use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::api::daily::time_zone;

/// No search for the next start tries more than this many times: freezes and windows may leave none.
const TRIES: usize = 1000;

/// A recurring period in which updates may start.
#[derive(Clone, Debug)]
pub struct Window {
    schedule: String,
    cron: Cron,
    zone: TimeZone,
    zone_name: String,
    duration: SignedDuration,
}

/// A period in which no update starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeze {
    from: Timestamp,
    to: Timestamp,
}

/// Why no update may start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub why: ClosedBy,
    /// When an update may start; `None` if never.
    pub opens: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    Freeze(Freeze),
    /// No window is open. This one opens next, at this time on its own clock.
    Window {
        window: String,
        at: String,
    },
    /// No window opens any more.
    Never,
}

/// An invalid field of a window, and what is wrong with it.
pub type BadField = (&'static str, String);

impl Window {
    /// Parses the fields of a window.
    ///
    /// # Errors
    /// Returns the first invalid field.
    pub fn parse(schedule: &str, duration: Duration, zone: Option<&str>) -> Result<Self, BadField> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let example = "write minute, hour, day of the month, month and day of the week, like 0 9 * * MON-FRI";
        let cron = parser.parse(schedule).map_err(|error| {
            ("schedule", format!("{schedule:?} is not a cron expression ({error}): {example}"))
        })?;
        let zone_name = zone.filter(|name| !name.is_empty()).unwrap_or("UTC").to_owned();
        let zone = time_zone(zone).map_err(|why| ("timeZone", why))?;
        let duration = SignedDuration::try_from(duration).map_err(|error| ("duration", error.to_string()))?;
        let window = Self { schedule: schedule.trim().to_owned(), cron, zone, zone_name, duration };
        if window.opens_after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(("schedule", format!("{schedule:?} never occurs: {example}")));
        }
        Ok(window)
    }

    /// Whether it opened within its duration. It opens later if the agent was away then.
    fn is_open(&self, now: Timestamp) -> bool {
        let Ok(earliest) = now.checked_sub(self.duration) else { return true };
        self.opens_after(earliest).is_some_and(|opened| opened.timestamp() <= now)
    }

    /// When it opens next.
    fn opens_after(&self, time: Timestamp) -> Option<Zoned> {
        self.cron.find_next_occurrence(&time.to_zoned(self.zone.clone()), false).ok()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" {}", self.schedule, self.zone_name)
    }
}

impl Freeze {
    /// Parses the ends of a freeze: a time, or a date, which is included as a whole, in UTC.
    ///
    /// # Errors
    /// Returns the first invalid field.
    pub fn parse(from: &str, to: &str) -> Result<Self, BadField> {
        let start = moment(from, false).map_err(|why| ("from", why))?;
        let end = moment(to, true).map_err(|why| ("to", why))?;
        if end <= start {
            return Err(("to", format!("{to:?} is not after `from` ({from}): exchange them")));
        }
        Ok(Self { from: start, to: end })
    }

    fn contains(&self, time: Timestamp) -> bool {
        self.from <= time && time < self.to
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.from, self.to)
    }
}

fn moment(text: &str, is_end: bool) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let day = text.parse::<Date>().ok().filter(|_| text.len() == "2026-12-18".len());
    let day = day.and_then(|day| if is_end { day.tomorrow().ok() } else { Some(day) });
    let midnight = day.and_then(|day| day.to_zoned(TimeZone::UTC).ok());
    midnight.map(|midnight| midnight.timestamp()).ok_or_else(|| {
        format!("{text:?} is not a time: write one like 2026-12-18T18:00:00+01:00, or a date like 2026-12-18")
    })
}

/// Why no update may start now; `None` if one may.
pub fn closed(windows: &[Window], freezes: &[Freeze], now: Timestamp) -> Option<Closed> {
    let opens = next_start(windows, freezes, now);
    if opens == Some(now) {
        return None;
    }
    let why = match freeze_at(freezes, now) {
        Some(freeze) => ClosedBy::Freeze(freeze),
        None => match next_window(windows, now) {
            Some((window, at)) => ClosedBy::Window {
                window: window.to_string(),
                at: at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            },
            None => ClosedBy::Never,
        },
    };
    Some(Closed { why, opens })
}

/// The first time from `now` on that is in a window and in no freeze.
fn next_start(windows: &[Window], freezes: &[Freeze], now: Timestamp) -> Option<Timestamp> {
    let mut time = now;
    for _ in 0..TRIES {
        if let Some(freeze) = freeze_at(freezes, time) {
            time = freeze.to;
        } else if windows.is_empty() || windows.iter().any(|window| window.is_open(time)) {
            return Some(time);
        } else {
            time = next_window(windows, time)?.1.timestamp();
        }
    }
    None
}

fn freeze_at(freezes: &[Freeze], time: Timestamp) -> Option<Freeze> {
    freezes.iter().filter(|freeze| freeze.contains(time)).max_by_key(|freeze| freeze.to).copied()
}

/// The window that opens next.
fn next_window(windows: &[Window], time: Timestamp) -> Option<(&Window, Zoned)> {
    let openings = windows.iter().filter_map(|window| Some((window, window.opens_after(time)?)));
    openings.min_by(|(_, a), (_, b)| a.timestamp().cmp(&b.timestamp()))
}
