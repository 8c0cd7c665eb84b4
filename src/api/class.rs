//! How bad is a failure, and was something seen at all. Every edge maps its errors to these two.

use std::time::Duration;

/// What an error asks of the caller; each edge has one table from its own errors to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Goes away by itself: back off and try again, not before `after` where the server said so.
    Transient { after: Option<Duration> },
    /// Not permitted: wait long, name the permission.
    Denied,
    /// Somebody else is at it, or we looked at an old version: look again.
    Conflict,
    /// What was asked for does not exist.
    NotFound,
    /// Will never work as written: a person must change something.
    Invalid,
}

impl Class {
    /// A transient failure without a hint how long it lasts.
    pub const TRANSIENT: Self = Self::Transient { after: None };

    /// A person must grant or change something.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::Invalid)
    }
}

/// The result of looking at something: a failed read is never an absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    Is(T),
    /// Could not be read: how bad, and why in words.
    Unknown(Class, String),
}

impl<T> Seen<T> {
    /// What was seen, or nothing when it could not be read.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unknown(..) => None,
        }
    }

    /// The same look, with its value changed.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::Is(value) => Seen::Is(f(value)),
            Self::Unknown(class, why) => Seen::Unknown(class, why),
        }
    }
}
