//! A time of day in a time zone. Pure: the time zone database is compiled into the program.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::checks::closest;

/// A time of day in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Daily {
    time: Time,
    zone: TimeZone,
}

impl Daily {
    /// Parses `HH:MM` in a time zone of the IANA database. The default is `UTC`.
    ///
    /// # Errors
    /// Returns the name of the invalid field, and the message.
    pub fn parse(time: &str, zone: Option<&str>) -> Result<Self, (&'static str, String)> {
        let whole = (time.len() == "00:00".len()).then(|| Time::strptime("%H:%M", time).ok()).flatten();
        let time = whole.ok_or_else(|| {
            ("time", format!("{time:?} is not a time of day (HH:MM, for example \"08:30\")"))
        })?;
        let zone = time_zone(zone).map_err(|why| ("timeZone", why))?;
        Ok(Self { time, zone })
    }

    /// Returns the day on which this time occurred last.
    pub fn last(&self, now: Timestamp) -> Date {
        let today = now.to_zoned(self.zone.clone()).date();
        if self.at(today) <= now { today } else { today.yesterday().unwrap_or(today) }
    }

    /// Returns the next occurrence.
    pub fn next(&self, now: Timestamp) -> Timestamp {
        let last = self.last(now);
        self.at(last.tomorrow().unwrap_or(last))
    }

    /// Returns the occurrence on a day. If a clock change skips the time, it is moved forward by the same amount.
    pub fn at(&self, day: Date) -> Timestamp {
        let zoned = day.to_datetime(self.time).to_zoned(self.zone.clone());
        zoned.map_or(Timestamp::MAX, |zoned| zoned.timestamp())
    }
}

/// Finds a time zone of the IANA database by its name. The default is `UTC`.
///
/// # Errors
/// Returns the message about an unknown name.
pub fn time_zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(TimeZone::UTC) };
    let zones = TimeZoneDatabase::bundled();
    zones.get(name).map_err(|_| unknown(name, &zones))
}

fn unknown(name: &str, zones: &TimeZoneDatabase) -> String {
    let names: Vec<String> = zones.available().map(|name| name.to_string()).collect();
    let meant = closest(name, names.iter().map(String::as_str));
    let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    format!("{name:?} is not a time zone (for example Europe/Berlin){meant}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn berlin(time: &str) -> Daily {
        Daily::parse(time, Some("Europe/Berlin")).expect("a time of day")
    }

    #[test]
    fn the_day_is_that_of_the_people() {
        let morning = berlin("08:30");
        assert_eq!(morning.last(at("2026-11-23T07:29:59Z")).to_string(), "2026-11-22");
        assert_eq!(morning.last(at("2026-11-23T07:30:00Z")).to_string(), "2026-11-23");
        assert_eq!(morning.next(at("2026-11-23T07:30:00Z")), at("2026-11-24T07:30:00Z"));
        let night = berlin("00:15");
        assert_eq!(night.last(at("2026-11-22T23:20:00Z")).to_string(), "2026-11-23");
    }

    #[test]
    fn clocks_may_skip_it_or_show_it_twice() {
        let spring = berlin("02:30");
        assert_eq!(spring.next(at("2026-03-28T12:00:00Z")), at("2026-03-29T01:30:00Z"));
        assert_eq!(spring.next(at("2026-03-29T01:30:00Z")), at("2026-03-30T00:30:00Z"));
        let autumn = at("2026-10-25T00:30:00Z");
        assert_eq!(spring.next(at("2026-10-24T12:00:00Z")), autumn);
        assert_eq!(spring.next(autumn), at("2026-10-26T01:30:00Z"), "once a day");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for time in ["8:30", "24:00", "08:60", "morning", "08:30:00", ""] {
            assert_eq!(Daily::parse(time, None).expect_err(time).0, "time");
        }
        let (field, words) = Daily::parse("08:30", Some("Europe/Berln")).expect_err("no zone");
        assert_eq!(field, "timeZone");
        assert!(words.contains("did you mean Europe/Berlin?"), "{words}");
        assert_eq!(Daily::parse("08:30", None), Daily::parse("08:30", Some("UTC")));
    }
}
