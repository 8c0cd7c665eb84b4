//! The failure of publishing, for the status of the repository. Pure.

use super::Publishing;
use crate::api::reasons;

impl Publishing {
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
    use jiff::Timestamp;

    use super::*;
    use crate::api::{Class, CommitId};

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
