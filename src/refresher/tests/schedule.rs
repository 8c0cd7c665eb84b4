//! Tables of windows and freezes: when updates may start, in time zones with clock changes.

use std::time::Duration;

use jiff::Timestamp;

use crate::refresher::schedule::{Closed, ClosedBy, Freeze, Window, closed};

const HOUR: u64 = 3600;

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

fn window(schedule: &str, hours: u64, zone: &str) -> Window {
    Window::parse(schedule, Duration::from_secs(hours * HOUR), Some(zone)).expect("a window")
}

/// When an update may start, as of `now`.
fn next(windows: &[Window], freezes: &[Freeze], now: &str) -> Option<Timestamp> {
    match closed(windows, freezes, at(now)) {
        None => Some(at(now)),
        Some(Closed { opens, .. }) => opens,
    }
}

#[test]
fn a_window_is_open_from_its_schedule_for_its_duration() {
    let office = [window("0 9 * * MON-FRI", 8, "Europe/Berlin")];
    // 2026-03-02 is a Monday, and Berlin is one hour ahead of UTC.
    for (now, opens) in [
        ("2026-03-02T07:59:59Z", "2026-03-02T08:00:00Z"),
        ("2026-03-02T08:00:00Z", "2026-03-02T08:00:00Z"),
        ("2026-03-02T08:00:00.5Z", "2026-03-02T08:00:00.5Z"),
        ("2026-03-02T15:59:59Z", "2026-03-02T15:59:59Z"),
        ("2026-03-02T15:59:59.999Z", "2026-03-02T15:59:59.999Z"),
        ("2026-03-02T16:00:00Z", "2026-03-03T08:00:00Z"),
        ("2026-03-06T16:00:00Z", "2026-03-09T08:00:00Z"),
        ("2026-03-07T10:00:00Z", "2026-03-09T08:00:00Z"),
    ] {
        assert_eq!(next(&office, &[], now), Some(at(opens)), "{now}");
    }
}

#[test]
fn a_window_is_known_by_its_schedule_and_opens_on_its_own_clock() {
    let office = [window("0 9 * * MON-FRI", 8, "Europe/Berlin"), window("0 6 * * SUN", 2, "UTC")];
    let closed = closed(&office, &[], at("2026-03-02T20:00:00Z")).expect("closed");
    let why = ClosedBy::Window {
        window: "\"0 9 * * MON-FRI\" Europe/Berlin".to_owned(),
        at: "2026-03-03T09:00:00+01:00".to_owned(),
    };
    assert_eq!(closed, Closed { why, opens: Some(at("2026-03-03T08:00:00Z")) });
}

#[test]
fn several_windows_are_open_whenever_one_of_them_is() {
    let windows = [window("0 22 * * *", 4, "UTC"), window("0 1 * * *", 2, "UTC")];
    for (now, opens) in [
        ("2026-03-02T21:00:00Z", "2026-03-02T22:00:00Z"),
        ("2026-03-03T01:59:00Z", "2026-03-03T01:59:00Z"),
        ("2026-03-03T02:30:00Z", "2026-03-03T02:30:00Z"),
        ("2026-03-03T03:00:00Z", "2026-03-03T22:00:00Z"),
    ] {
        assert_eq!(next(&windows, &[], now), Some(at(opens)), "{now}");
    }
}

#[test]
fn a_window_that_opens_at_a_time_that_the_clock_skips_opens_right_after_it() {
    // On 2026-03-29, the clock of Berlin goes from 02:00 to 03:00.
    let night = [window("30 2 * * *", 1, "Europe/Berlin")];
    for (now, opens) in [
        ("2026-03-28T01:30:00Z", "2026-03-28T01:30:00Z"),
        ("2026-03-28T02:30:00Z", "2026-03-29T01:00:00Z"),
        ("2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"),
        ("2026-03-29T01:59:59Z", "2026-03-29T01:59:59Z"),
        ("2026-03-29T02:00:00Z", "2026-03-30T00:30:00Z"),
    ] {
        assert_eq!(next(&night, &[], now), Some(at(opens)), "{now}");
    }
}

#[test]
fn a_window_at_a_time_that_the_clock_repeats_opens_once() {
    // On 2026-10-25, the clock of Berlin goes from 03:00 back to 02:00, so 02:30 comes at 00:30 and 01:30 in UTC.
    let night = [window("30 2 * * *", 1, "Europe/Berlin")];
    for (now, opens) in [
        ("2026-10-25T00:29:59Z", "2026-10-25T00:30:00Z"),
        ("2026-10-25T01:29:59Z", "2026-10-25T01:29:59Z"),
        ("2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"),
    ] {
        assert_eq!(next(&night, &[], now), Some(at(opens)), "{now}");
    }
    let half = Window::parse("0 * * * *", Duration::from_secs(600), Some("Europe/Berlin")).expect("a window");
    for hour in 0..4 {
        let now = format!("2026-10-25T0{hour}:05:00Z");
        assert_eq!(
            next(std::slice::from_ref(&half), &[], &now),
            Some(at(&now)),
            "every hour, also the repeated one"
        );
    }
}

#[test]
fn a_window_lasts_its_duration_also_while_the_clock_changes() {
    let night = [window("0 1 * * *", 4, "Europe/Berlin")];
    // From 01:00 to 06:00 on the clock, which skips an hour.
    assert_eq!(next(&night, &[], "2026-03-29T03:59:59Z"), Some(at("2026-03-29T03:59:59Z")));
    assert_eq!(next(&night, &[], "2026-03-29T04:00:00Z"), Some(at("2026-03-29T23:00:00Z")));
    // From 01:00 to 04:00 on the clock, which repeats an hour.
    assert_eq!(next(&night, &[], "2026-10-25T02:59:59Z"), Some(at("2026-10-25T02:59:59Z")));
    assert_eq!(next(&night, &[], "2026-10-25T03:00:00Z"), Some(at("2026-10-26T00:00:00Z")));
}

#[test]
fn nothing_starts_in_a_freeze_and_a_window_that_is_still_open_counts_after_it() {
    let night = [window("0 22 * * *", 6, "UTC")];
    let freezes = [
        Freeze::parse("2026-12-18T23:00:00Z", "2026-12-19T01:00:00+00:00").expect("valid"),
        Freeze::parse("2026-12-24", "2026-12-26").expect("valid"),
        Freeze::parse("2026-12-26T12:00:00Z", "2026-12-28T23:00:00Z").expect("valid"),
    ];
    for (now, opens) in [
        ("2026-12-18T22:59:59Z", "2026-12-18T22:59:59Z"),
        ("2026-12-18T23:00:00Z", "2026-12-19T01:00:00Z"),
        ("2026-12-19T01:00:00Z", "2026-12-19T01:00:00Z"),
        ("2026-12-23T22:30:00Z", "2026-12-23T22:30:00Z"),
        ("2026-12-24T00:00:00Z", "2026-12-28T23:00:00Z"),
    ] {
        assert_eq!(next(&night, &freezes, now), Some(at(opens)), "{now}");
    }
    let closed = closed(&[], &freezes, at("2026-12-25T00:00:00Z")).expect("closed");
    assert!(matches!(closed.why, ClosedBy::Freeze(_)));
    assert_eq!(closed.opens, Some(at("2026-12-28T23:00:00Z")), "one freeze follows another");
}

#[test]
fn a_leap_day_is_found_and_a_day_that_never_comes_is_an_error() {
    let leap = [window("0 0 29 2 *", 24, "UTC")];
    assert_eq!(next(&leap, &[], "2026-03-01T00:00:00Z"), Some(at("2028-02-29T00:00:00Z")));
    let (field, why) = Window::parse("0 0 30 2 *", Duration::from_secs(HOUR), None).expect_err("never");
    assert_eq!(field, "schedule");
    assert!(why.starts_with("\"0 0 30 2 *\" never occurs"), "{why}");
}
