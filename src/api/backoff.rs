//! How long to wait after failures: doubled each time up to a longest wait, and spread where many fail together. All
//! doubling delays use this implementation. Pure.

use std::time::Duration;

use super::ids::digest;

/// Returns the delay after `failures` failures in a row: `first`, doubled for each further failure, at most `longest`.
pub fn doubled(first: Duration, longest: Duration, failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

/// Adds up to one `share`th of the delay, depending on `key` alone: objects that failed together are not retried
/// together, and the same failure always gives the same delay.
pub fn spread(wait: Duration, share: u32, key: &[&str]) -> Duration {
    wait.saturating_add(part_of(wait / share, key))
}

/// As `spread`, but subtracts: nothing that is due at a certain time is late.
pub fn spread_early(wait: Duration, share: u32, key: &[&str]) -> Duration {
    wait.saturating_sub(part_of(wait / share, key))
}

/// Returns a part of a delay that depends on `key` alone.
fn part_of(most: Duration, key: &[&str]) -> Duration {
    let digest = digest(key);
    let part = u32::from_str_radix(&digest[..4], 16).unwrap_or(0);
    most.saturating_mul(part) / 0xffff
}

/// Returns between half of the delay and all of it, depending on `random`: for processes that share nothing from which
/// to derive a key.
pub fn jittered(wait: Duration, random: u64) -> Duration {
    let part = u32::try_from(random % 1001).unwrap_or(0);
    wait / 2 + wait / 2 * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);
    const LONGEST: Duration = Duration::from_secs(600);

    #[test]
    fn doubles_up_to_the_longest_wait() {
        let wait = |failures| doubled(FIRST, LONGEST, failures).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 60].map(wait), [30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(doubled(FIRST, Duration::MAX, u32::MAX), FIRST * u32::MAX, "no overflow");
    }

    #[test]
    fn a_spread_wait_is_longer_by_a_share_at_most() {
        let waits: Vec<Duration> = (0..50).map(|n| spread(LONGEST, 4, &["a", &n.to_string()])).collect();
        assert!(waits.iter().all(|wait| (LONGEST..=LONGEST * 5 / 4).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
        assert_eq!(spread(LONGEST, 4, &["a"]), spread(LONGEST, 4, &["a"]));
    }

    #[test]
    fn timers_that_start_together_do_not_end_together() {
        let hour = Duration::from_secs(3600);
        let mut ends = [0; 10];
        for n in 0..10_000 {
            let wait = spread_early(hour, 8, &[&n.to_string()]);
            assert!((hour * 7 / 8..=hour).contains(&wait), "{wait:?}");
            ends[((wait - hour * 7 / 8).as_secs() / 46).min(9) as usize] += 1;
        }
        assert!(ends.iter().all(|count| (500..1500).contains(count)), "{ends:?}");
    }

    #[test]
    fn a_jittered_wait_is_never_less_than_half() {
        assert_eq!(jittered(FIRST, 0), FIRST / 2);
        assert_eq!(jittered(FIRST, 1000), FIRST);
    }
}
