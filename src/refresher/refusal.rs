//! A call for one node group that AWS refused and that is retried: after which pause, and when the refusal is final.
//! Kept in `memory`, recorded by `summary`, respected by `plan`. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::reasons;
use crate::api::steady::cause;
use crate::api::time::between;

/// A refusal that stays the same for this long is final: a refusal caused by the state of the cluster ends sooner.
pub const FINAL_AFTER: Duration = Duration::from_secs(15 * 60);
/// The pause after a denied call: permissions are changed by people.
const DENIED_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The first pause after any other refusal; later pauses are half the time since the first refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause after an `Uncertain` refusal, so that it is seen several times before it is final.
const LONGEST_UNCERTAIN: Duration = Duration::from_secs(5 * 60);
/// The longest pause after a `NotNow` refusal, which can last for weeks (a DEGRADED group).
const LONGEST_NOT_NOW: Duration = Duration::from_secs(3600);

/// A call that AWS refused and that is retried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
    /// When AWS first refused with this cause.
    pub since: Timestamp,
    /// When AWS last refused.
    pub last: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A permission is missing.
    Denied,
    /// The current state of the group does not allow the call.
    NotNow,
    /// It may be temporary: final once it has stayed the same for `FINAL_AFTER`.
    Uncertain,
}

/// The words in `status.rollout.groups[].refusal.reason`.
const WORDS: [(RefusalKind, &str); 3] = [
    (RefusalKind::Denied, reasons::AWS_DENIED),
    (RefusalKind::NotNow, "NotNow"),
    (RefusalKind::Uncertain, reasons::UPDATE_REFUSED),
];

impl RefusalKind {
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(kind, _)| *kind == self).map_or(reasons::UPDATE_REFUSED, |(_, word)| word)
    }

    pub fn parse(word: &str) -> Self {
        WORDS.iter().find(|(_, known)| *known == word).map_or(Self::Uncertain, |(kind, _)| *kind)
    }
}

impl Refusal {
    /// The refusal to remember after AWS refused once more. `since` is kept while the kind and the cause stay the same.
    pub fn after(previous: Option<&Self>, kind: RefusalKind, message: String, now: Timestamp) -> Self {
        match previous.filter(|last| last.kind == kind && cause(&last.message) == cause(&message)) {
            Some(previous) => Self { last: now, ..previous.clone() },
            None => Self { kind, message, since: now, last: now },
        }
    }

    pub fn is_final(&self) -> bool {
        self.kind == RefusalKind::Uncertain && between(self.since, self.last) >= FINAL_AFTER
    }

    /// The time until the call is retried; zero once it is due.
    pub fn time_to_retry(&self, now: Timestamp) -> Duration {
        let half = Duration::from_secs(between(self.since, self.last).as_secs() / 2);
        let pause = match self.kind {
            RefusalKind::Denied => DENIED_PAUSE,
            RefusalKind::NotNow => half.clamp(FIRST_PAUSE, LONGEST_NOT_NOW),
            RefusalKind::Uncertain => half.clamp(FIRST_PAUSE, LONGEST_UNCERTAIN),
        };
        pause.saturating_sub(between(self.last, now))
    }
}
