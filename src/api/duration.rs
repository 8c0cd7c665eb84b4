//! Durations as manifests write them: Go's units plus `d`, `w` and `y`. `m` always means minutes.

use std::time::Duration;

/// The error for a string that is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not a duration: write a number and a unit (s, m, h, d, w, y), like 72h or 30d; m is minutes"
)]
pub struct BadDuration {
    text: String,
}

/// Nanoseconds per unit. A unit comes before its own prefixes.
const UNITS: [(&str, u128); 10] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("w", 7 * 86_400 * 1_000_000_000),
    ("y", 365 * 86_400 * 1_000_000_000),
];

/// Parses a duration such as `1h30m`, `30d` or `1.5h`. `0` alone is zero.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration { text: text.to_owned() };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let (unit, size) = UNITS.iter().find(|(unit, _)| unit_ends(tail, unit)).ok_or_else(bad)?;
        nanos = nanos.checked_add(scaled(number, *size).ok_or_else(bad)?).ok_or_else(bad)?;
        rest = &tail[unit.len()..];
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| bad())?;
    Ok(Duration::new(seconds, u32::try_from(nanos % 1_000_000_000).map_err(|_| bad())?))
}

/// Returns whether `tail` starts with this unit, followed by a number or by nothing.
fn unit_ends(tail: &str, unit: &str) -> bool {
    tail.strip_prefix(unit)
        .is_some_and(|after| after.chars().next().is_none_or(|c| c.is_ascii_digit() || c == '.'))
}

/// Returns `number` (digits, at most one point) times `size`. The result is exact for up to nine decimals.
fn scaled(number: &str, size: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || part.contains('.') || part.len() > 9 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let tenth: u128 = 10u128.pow(u32::try_from(part.len()).ok()?);
    let part: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    whole.checked_mul(size)?.checked_add(part.checked_mul(size)? / tenth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_units_and_days_weeks_years() {
        for (text, seconds) in [
            ("10s", 10),
            ("5m", 300),
            ("1h30m", 5400),
            ("1.5h", 5400),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
            ("1y", 31_536_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "10", "d", "1x", "-5m", "1h 30m", "1..5h", "1M", "99999999999999999999y"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
