//! What AWS refuses for one node group and is tried again: how often, and when it is final. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::time::elapsed;
use crate::api::steady::cause;

/// How long a refusal must stay the same to be final: the state of a cluster that causes one ends sooner.
pub const FINAL_AFTER: Duration = Duration::from_secs(15 * 60);
/// A denied call is not repeated sooner: permissions are changed by people.
const DENIED_PAUSE: Duration = Duration::from_secs(15 * 60);
/// The first pause after any other refusal; later ones are half the time since the first refusal.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause within which a refusal must become final.
const LONGEST_UNSURE: Duration = Duration::from_secs(5 * 60);
/// The longest pause of what may take weeks, like a DEGRADED group.
const LONGEST_NOT_NOW: Duration = Duration::from_secs(3600);

/// A call that AWS refused and that is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Refused,
    pub message: String,
    /// Since when it is the same answer.
    pub since: Timestamp,
    pub last: Timestamp,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A permission is missing.
    Denied,
    /// The group is not in a state for it.
    NotNow,
    /// Nobody knows whether it passes: final once it stays the same.
    Unsure,
}

const REFUSED: [(Refused, &str); 3] =
    [(Refused::Denied, "AwsDenied"), (Refused::NotNow, "NotNow"), (Refused::Unsure, "UpdateRefused")];

impl Refused {
    pub fn word(self) -> &'static str {
        REFUSED.iter().find(|(kind, _)| *kind == self).map_or("UpdateRefused", |(_, word)| word)
    }

    pub fn read(word: &str) -> Self {
        REFUSED.iter().find(|(_, known)| *known == word).map_or(Self::Unsure, |(kind, _)| *kind)
    }
}

impl Refusal {
    /// The refusal after one more answer.
    pub fn again(before: Option<&Self>, kind: Refused, message: String, now: Timestamp) -> Self {
        match before.filter(|before| before.kind == kind && cause(&before.message) == cause(&message)) {
            Some(before) => Self { last: now, ..before.clone() },
            None => Self { kind, message, since: now, last: now },
        }
    }

    /// Did it stay the same for so long that it is final?
    pub fn is_final(&self) -> bool {
        self.kind == Refused::Unsure && elapsed(self.since, self.last) >= FINAL_AFTER
    }

    /// How long to wait until the call is tried again; nothing once it is due.
    pub fn wait(&self, now: Timestamp) -> Duration {
        let half = Duration::from_secs(elapsed(self.since, self.last).as_secs() / 2);
        let pause = match self.kind {
            Refused::Denied => DENIED_PAUSE,
            Refused::NotNow => half.clamp(FIRST_PAUSE, LONGEST_NOT_NOW),
            Refused::Unsure => half.clamp(FIRST_PAUSE, LONGEST_UNSURE),
        };
        pause.saturating_sub(elapsed(self.last, now))
    }
}
