//! The condition `Published`, derived from the state of publishing. Pure.

use super::Publishing;
use crate::api::conditions;
use crate::api::reasons;

impl Publishing {
    /// Status, reason and message of the condition `Published`; `None` before anything was published. The message does
    /// not name the commit: otherwise every push would change the status of every object, which causes the next push.
    pub fn condition(&self) -> Option<(&'static str, &'static str, String)> {
        match self {
            Self::Idle => None,
            Self::Off => Some((
                conditions::UNKNOWN,
                "Off",
                "publish.enabled is false in opsy.yaml: no status is pushed".to_owned(),
            )),
            Self::Done { .. } => {
                Some((conditions::TRUE, "Pushed", "the status in Git is current".to_owned()))
            }
            Self::Rejected { message, .. } => {
                Some((conditions::FALSE, reasons::PUSH_REFUSED, message.clone()))
            }
            Self::Failed { message, .. } => Some((conditions::FALSE, reasons::PUSH_FAILED, message.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::{Class, CommitId};

    #[test]
    fn the_condition_is_false_while_the_server_takes_no_push() {
        let since = Timestamp::UNIX_EPOCH;
        let of = |state: Publishing| state.condition().map(|(status, reason, _)| (status, reason));
        assert_eq!(of(Publishing::Idle), None, "nothing is known yet");
        assert_eq!(of(Publishing::Off), Some(("Unknown", "Off")));
        let refused = Publishing::Rejected { message: "protected branch".to_owned(), since };
        assert_eq!(of(refused), Some(("False", "PushRefused")));
        let failed = Publishing::Failed { class: Class::TRANSIENT, message: "away".to_owned(), since };
        assert_eq!(of(failed), Some(("False", "PushFailed")));
    }

    #[test]
    fn a_push_alone_does_not_change_the_condition() {
        let commit = |digit: &str| Some(CommitId::parse(digit.repeat(40)).expect("an id"));
        let first = Publishing::Done { commit: commit("a") }.condition();
        assert_eq!(first, Publishing::Done { commit: commit("b") }.condition());
        assert_eq!(first, Publishing::Done { commit: None }.condition());
    }
}
