//! Errors of forges. They name the forge, what was refused, and the right that is missing; never a token.

use std::time::Duration;

use crate::api::Class;

/// Why a request to a forge failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// A flag, variable or file.
    #[error("{0}")]
    Config(String),
    #[error("{forge} cannot be reached: {why}")]
    Unreachable { forge: &'static str, why: String },
    /// The request may have taken effect.
    #[error("{forge} did not respond to the request to {action}")]
    Unclear { forge: &'static str, action: String },
    #[error("{forge} refuses the token in {from} (HTTP 401): it is expired, revoked or mistyped; {remedy}")]
    Token { forge: &'static str, from: String, remedy: String },
    #[error("{forge}: the token in {from} is not allowed to {action} ({said}); {remedy}")]
    Right { forge: &'static str, from: String, action: String, said: String, remedy: String },
    /// Forges hide what a token may not see.
    #[error("{forge}: {what} does not exist, or the token in {from} cannot see it (HTTP 404); {remedy}")]
    Hidden { forge: &'static str, what: String, from: String, remedy: String },
    #[error("{forge}: the rate limit is reached; {}", again(*after))]
    Limited { forge: &'static str, after: Duration },
    #[error("{forge} is unavailable (HTTP {status})")]
    Busy { forge: &'static str, status: u16 },
    #[error("the {what} has {size} {unit}, and the maximum is {most}: shorten it")]
    TooLong { what: &'static str, size: usize, most: usize, unit: &'static str },
    /// Another writer was faster.
    #[error("{forge} refuses to {action}, because another writer was faster ({said})")]
    Conflict { forge: &'static str, action: String, said: String },
    #[error("{forge} refuses to {action} ({said})")]
    Rejected { forge: &'static str, action: String, said: String },
    #[error("{forge}: {what} was renamed or moved: use its present name")]
    Moved { forge: &'static str, what: String },
    #[error(
        "{forge}: the response to the request to {action} is not as documented; check the address of the API"
    )]
    Unreadable { forge: &'static str, action: String },
    #[error("{0}")]
    Incomplete(String),
}

impl ForgeError {
    /// Returns what is to be done about the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Unclear { .. } | Self::Busy { .. } => Class::TRANSIENT,
            Self::Limited { after, .. } => Class::Transient { after: Some(*after) },
            Self::Token { .. } | Self::Right { .. } => Class::Denied,
            Self::Hidden { .. } => Class::NotFound,
            Self::Conflict { .. } => Class::Conflict,
            Self::Config(_)
            | Self::TooLong { .. }
            | Self::Rejected { .. }
            | Self::Moved { .. }
            | Self::Unreadable { .. }
            | Self::Incomplete(_) => Class::Invalid,
        }
    }

    /// Returns whether the state of the forge must be read again to know what happened.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Unclear { .. } | Self::Conflict { .. })
    }

    /// Returns the error with the remedy for a pull request from a fork, whose token is never allowed to write.
    #[must_use]
    pub(super) fn in_fork(self, is_fork: bool) -> Self {
        match self {
            Self::Right { forge, from, action, said, .. } if is_fork => {
                let remedy = "the pull request is from a fork, whose runs have a token that only reads: write the plan \
                              to a file there, and post it from a workflow on workflow_run, which runs no code of the fork"
                    .to_owned();
                Self::Right { forge, from, action, said, remedy }
            }
            other => other,
        }
    }
}

fn again(after: Duration) -> String {
    match after.as_secs() {
        0..120 => format!("try again in {} seconds", after.as_secs().max(1)),
        seconds => format!("try again in {} minutes", seconds.div_ceil(60)),
    }
}
