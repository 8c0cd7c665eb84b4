//! Writes into a status what was delivered, and converts messages to notes for Events and logs. Pure.

use jiff::Timestamp;

use crate::announce::{Message, Subject, Tone};
use crate::api::conditions::{self, NOTIFIED};
use crate::api::status::Status;
use crate::engine::Note;
use crate::notify::Marked;

/// Records what was delivered, and the condition `Notified` if something cannot be.
pub fn record<S: Status>(status: &mut S, marked: Marked, generation: Option<i64>, now: Timestamp) {
    let list = marked.notifications;
    *status.notifications() = (!list.is_empty()).then_some(list);
    let conditions = status.conditions().get_or_insert_default();
    match marked.failure {
        Some((reason, message)) => {
            conditions::set(conditions, NOTIFIED, "False", reason, &message, generation, now);
        }
        None => conditions.retain(|condition| condition.r#type != NOTIFIED),
    }
}

/// A message as Events and logs have it: without the name of its subject, which they have in a field of their own.
pub fn note(about: &Subject, message: &Message) -> Note {
    // The object and the reason are fields of an Event.
    let (line, name, reason) = (message.line(), about.short_name(), &message.reason);
    let prefixes = [
        format!("{name} needs attention: {reason}: "),
        format!("{name} is blocked: {reason}: "),
        format!("{name}: "),
    ];
    Note {
        reason: reason.clone(),
        message: prefixes.iter().find_map(|prefix| line.strip_prefix(prefix)).unwrap_or(&line).to_owned(),
        warning: matches!(message.tone, Tone::Bad | Tone::Person),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::notifier::Notification;
    use crate::api::status::RepositoryStatus;

    #[test]
    fn a_status_says_that_notifications_cannot_be_delivered_until_they_can() {
        let mut status = RepositoryStatus::default();
        let delivered = Notification { to: "slack/C1".to_owned(), ..Notification::default() };
        let failure = Some(("SecretUnreadable", "Secret ops/slack does not exist".to_owned()));
        let marked = Marked { notifications: vec![delivered.clone()], failure };
        record(&mut status, marked, Some(2), Timestamp::UNIX_EPOCH);
        assert_eq!(status.notifications, Some(vec![delivered]));
        let condition = &status.conditions.as_ref().expect("a condition")[0];
        assert_eq!((condition.r#type.as_str(), condition.status.as_str()), (NOTIFIED, "False"));
        assert_eq!(condition.reason.as_deref(), Some("SecretUnreadable"));
        record(&mut status, Marked::default(), Some(2), Timestamp::UNIX_EPOCH);
        assert_eq!((status.notifications, status.conditions), (None, Some(Vec::new())));
    }
}
