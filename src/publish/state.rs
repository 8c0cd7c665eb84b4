//! The state of publishing, and what the status of the repository reports about it. Pure.

use jiff::Timestamp;

use crate::api::{Class, CommitId, reasons};

/// The state of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// Nothing has been published yet.
    Idle,
    /// `publish.enabled: false`.
    Off,
    /// The repository has the desired content. `commit` is the commit of this agent, if one was needed.
    Done {
        commit: Option<CommitId>,
    },
    /// The server rejects the commits of this agent, with this message.
    Rejected {
        message: String,
        since: Timestamp,
    },
    Failed {
        reason: &'static str,
        class: Class,
        message: String,
        since: Timestamp,
    },
}

impl Publishing {
    /// Returns true if the repository has the desired content, as far as is known.
    pub fn is_up_to_date(&self) -> bool {
        matches!(self, Self::Idle | Self::Off | Self::Done { .. })
    }

    /// Whether another attempt can help. Only another commit fixes a setter.
    pub(super) fn is_retried(&self) -> bool {
        !self.is_up_to_date() && !self.is_about_setters()
    }

    pub(super) fn is_about_setters(&self) -> bool {
        matches!(self, Self::Failed { reason, .. } if *reason == reasons::SETTER_INVALID)
    }

    /// When the repository stopped being up to date.
    pub(super) fn since(&self) -> Option<Timestamp> {
        match self {
            Self::Rejected { since, .. } | Self::Failed { since, .. } => Some(*since),
            _ => None,
        }
    }

    /// Reason and message if status is not in the repository. It is a fact about the repository, which reports it once;
    /// objects do not.
    pub fn failure(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Idle | Self::Off | Self::Done { .. } => None,
            Self::Rejected { message, .. } => Some((reasons::PUSH_REFUSED, message)),
            Self::Failed { reason, message, .. } => Some((*reason, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_fails_while_the_server_takes_no_push() {
        let since = Timestamp::UNIX_EPOCH;
        let refused = Publishing::Rejected { message: "protected branch".to_owned(), since };
        assert_eq!(refused.failure(), Some(("PushRefused", "protected branch")));
        for reason in [reasons::PUSH_FAILED, reasons::PULL_REQUEST_FAILED, reasons::BRANCH_NOT_OWN] {
            let (class, message) = (Class::TRANSIENT, "away".to_owned());
            let failed = Publishing::Failed { reason, class, message, since };
            assert_eq!(failed.failure(), Some((reason, "away")));
        }
        let commit = CommitId::parse("a".repeat(40)).expect("an id");
        let pushed = Publishing::Done { commit: Some(commit) };
        for good in [Publishing::Idle, Publishing::Off, Publishing::Done { commit: None }, pushed] {
            assert_eq!(good.failure(), None);
            assert!(good.is_up_to_date());
        }
    }
}
