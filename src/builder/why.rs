//! Why a build starts, for status and for people. Pure.

use jiff::Timestamp;

use crate::api::time;
use crate::api::words::Trigger;

/// Why a build starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Missing,
    Expired {
        since: Timestamp,
    },
    /// The image is deprecated in EC2, so refreshers do not roll it out any more.
    Deprecated {
        since: Timestamp,
    },
    BaseImage {
        from: String,
        to: String,
    },
    Template {
        from: String,
        to: String,
    },
    Spec,
    Retry {
        attempt: usize,
        of: Box<Why>,
    },
}

impl Why {
    /// Returns the trigger, as status and runs record it.
    pub fn trigger(&self) -> Trigger {
        match self {
            Self::Missing => Trigger::Missing,
            Self::Expired { .. } => Trigger::Expired,
            Self::Deprecated { .. } => Trigger::Deprecated,
            Self::BaseImage { .. } => Trigger::BaseImage,
            Self::Template { .. } => Trigger::Template,
            Self::Spec => Trigger::Spec,
            Self::Retry { .. } => Trigger::Retry,
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no active image"),
            Self::Expired { since } => write!(f, "the image expired at {}", time::to_second(*since)),
            Self::Deprecated { since } => {
                write!(f, "the image has been deprecated in EC2 since {}", time::to_second(*since))
            }
            Self::BaseImage { from, to } => write!(f, "the base image {to} is newer than {from}"),
            Self::Template { .. } => f.write_str("the template changed"),
            Self::Spec => f.write_str("the builder's commands or region changed"),
            Self::Retry { attempt, of } => write!(f, "attempt {attempt}: {of}"),
        }
    }
}
