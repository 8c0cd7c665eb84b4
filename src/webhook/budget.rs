//! Limits how many deliveries without a valid signature are refused one by one before senders must wait. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A person who sets up a webhook with a wrong secret retries a few times; a scanner retries without end.
pub const BURST: u32 = 20;
/// The interval after which one more delivery is refused individually.
pub const REFILL: Duration = Duration::from_secs(1);

/// A token bucket of refusals. It limits refused deliveries only: deliveries with a valid signature are always
/// accepted, even during a flood of others.
#[derive(Debug)]
pub struct Budget {
    left: u32,
    /// When the first missing token was taken, or the last token was added.
    since: Instant,
}

impl Budget {
    pub fn full(now: Instant) -> Self {
        Self { left: BURST, since: now }
    }

    /// Takes a token. Without one, returns the time until the next.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.since);
        let returned = u32::try_from(passed.as_millis() / REFILL.as_millis()).unwrap_or(BURST).min(BURST);
        if self.left.saturating_add(returned) >= BURST {
            *self = Self { left: BURST, since: now };
        } else {
            self.left += returned;
            self.since += REFILL * returned;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(REFILL.saturating_sub(now.saturating_duration_since(self.since))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_refused_one_by_one_and_then_one_a_second() {
        let start = Instant::now();
        let mut budget = Budget::full(start);
        assert!((0..BURST).all(|_| budget.take(start).is_ok()));
        let wait = budget.take(start).expect_err("empty");
        assert!(wait <= REFILL && !wait.is_zero(), "{wait:?}");
        let later = start + REFILL;
        assert!(budget.take(later).is_ok() && budget.take(later).is_err());
        let much_later = start + REFILL * 1000;
        assert!((0..BURST).all(|_| budget.take(much_later).is_ok()));
        assert!(budget.take(much_later).is_err());
    }
}
