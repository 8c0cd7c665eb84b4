//! Error classes, and the result of a read that may have failed. Each edge maps its errors to these.

use std::time::Duration;

/// What an error requires of the caller. Each edge has one table that maps its own errors to these classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself: back off and retry, but not before `after` if the server requested a delay.
    Transient { after: Option<Duration> },
    /// Not permitted: use a long backoff and name the permission.
    Denied,
    /// Another writer was faster, or the call was based on an old version: observe again.
    Conflict,
    /// The requested resource does not exist.
    NotFound,
    /// Can never succeed as written: a person must change something.
    Invalid,
}

impl Class {
    /// A transient failure without a requested delay.
    pub const TRANSIENT: Self = Self::Transient { after: None };

    /// Returns whether a person must grant or change something.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Denied | Self::Invalid)
    }
}

/// The result of a read. A failed read is never an absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    Is(T),
    /// The read failed: the class and the message.
    Unknown(Class, String),
}

impl<T> Seen<T> {
    /// Returns the value, or `None` if the read failed.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unknown(..) => None,
        }
    }

    /// Applies a function to the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::Is(value) => Seen::Is(f(value)),
            Self::Unknown(class, why) => Seen::Unknown(class, why),
        }
    }
}
