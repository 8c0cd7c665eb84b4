//! When the digest of a day is due, and which period it covers. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::announce::repository;
use crate::api::daily::Daily;
use crate::api::status::{LastDigest, RepositoryStatus};

/// The time between two digests.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A digest that has to be sent, or sent to the destinations that do not have it yet.
#[derive(Debug, PartialEq)]
pub struct Due {
    pub digest: LastDigest,
    /// Some notification of it is recorded.
    pub is_begun: bool,
}

/// Returns the digest that is due. The day on which digests are switched on has none.
pub fn due(daily: &Daily, status: &mut RepositoryStatus, now: Timestamp) -> Option<Due> {
    let today = daily.last(now).to_string();
    let tomorrow = daily.last(now.checked_add(DAY).unwrap_or(now)).to_string();
    let first = LastDigest { day: today.clone(), since: now, until: now };
    let last = status.digest.get_or_insert(first).clone();
    let day = day(&today, &tomorrow, &last.day);
    let thread = repository::digest_thread(&day);
    let is_begun = status.notifications.iter().flatten().any(|record| record.thread == thread);
    if day == last.day && !is_begun {
        return None;
    }
    // If only some destinations have it, the others get the same period.
    let since = if day == last.day { last.since } else { start(last.until, now) };
    Some(Due { digest: LastDigest { day, since, until: now }, is_begun })
}

/// Was the digest of a day delivered to any destination?
pub fn is_delivered(status: &RepositoryStatus, day: &str) -> bool {
    let thread = repository::digest_thread(day);
    let mut records = status.notifications.iter().flatten();
    records.any(|record| record.thread == thread && record.shown.is_some())
}

/// The day of the digest that is due. If the time of day was changed, today may be earlier than the last day: no day
/// has two digests. A last day after tomorrow was recorded before the clock was set back: it must not suppress the next
/// digests.
fn day(today: &str, tomorrow: &str, last: &str) -> String {
    if last > tomorrow { today.to_owned() } else { today.max(last).to_owned() }
}

/// The end of the last digest; a day ago if the clock was set back since.
fn start(last: Timestamp, now: Timestamp) -> Timestamp {
    if last <= now { last } else { now.checked_sub(DAY).unwrap_or(now) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::notifier::Notification;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn morning() -> Daily {
        Daily::parse("08:30", None).expect("a time of day")
    }

    #[test]
    fn no_day_has_two_digests_and_a_clock_that_is_set_back_silences_none() {
        assert_eq!(day("2026-03-02", "2026-03-03", "2026-03-01"), "2026-03-02");
        assert_eq!(day("2026-03-02", "2026-03-03", "2026-03-03"), "2026-03-03");
        assert_eq!(day("2026-03-02", "2026-03-03", "2027-03-02"), "2026-03-02");
    }

    #[test]
    fn the_first_digest_is_due_on_the_next_day_and_covers_the_time_since_the_start() {
        let mut status = RepositoryStatus::default();
        let started = at("2026-03-01T12:00:00Z");
        assert_eq!(due(&morning(), &mut status, started), None);
        assert_eq!(due(&morning(), &mut status, at("2026-03-02T08:29:59Z")), None);
        let now = at("2026-03-02T08:30:00Z");
        let digest = LastDigest { day: "2026-03-02".to_owned(), since: started, until: now };
        assert_eq!(due(&morning(), &mut status, now), Some(Due { digest, is_begun: false }));
    }

    #[test]
    fn destinations_that_do_not_have_a_digest_yet_get_the_same_period() {
        let since = at("2026-03-01T08:30:00Z");
        let digest = LastDigest { day: "2026-03-02".to_owned(), since, until: at("2026-03-02T08:30:00Z") };
        let mut status = RepositoryStatus { digest: Some(digest), ..RepositoryStatus::default() };
        let now = at("2026-03-02T09:00:00Z");
        assert_eq!(due(&morning(), &mut status, now), None, "nothing of it waits");
        let thread = repository::digest_thread("2026-03-02");
        status.notifications = Some(vec![Notification { thread, ..Notification::default() }]);
        let found = due(&morning(), &mut status, now).expect("it waits");
        assert!(found.is_begun && found.digest.since == since, "{found:?}");
    }

    #[test]
    fn a_digest_covers_a_day_if_the_clock_was_set_back() {
        let until = at("2026-03-02T08:30:00Z");
        let digest = LastDigest { day: "2026-02-27".to_owned(), since: until, until };
        let mut status = RepositoryStatus { digest: Some(digest), ..RepositoryStatus::default() };
        let found = due(&morning(), &mut status, at("2026-02-28T10:00:00Z")).expect("due");
        assert_eq!(found.digest.since, at("2026-02-27T10:00:00Z"));
    }

    #[test]
    fn a_digest_is_delivered_when_a_destination_shows_it() {
        let thread = repository::digest_thread("2026-03-02");
        let waiting = Notification { thread, ..Notification::default() };
        let mut status =
            RepositoryStatus { notifications: Some(vec![waiting.clone()]), ..RepositoryStatus::default() };
        assert!(!is_delivered(&status, "2026-03-02"));
        status.notifications = Some(vec![Notification { shown: Some("x".to_owned()), ..waiting }]);
        assert!(is_delivered(&status, "2026-03-02") && !is_delivered(&status, "2026-03-03"));
    }
}
