//! Why a document is not applied, and when to retry. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::reasons;
use crate::api::{Class, backoff};

/// First and longest pause before a failed apply is retried. Outages and conflicts often end soon; a missing namespace
/// or definition is often about to be created; only a person can grant a permission or fix a field.
const SOON: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
const EXPECTED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
const BY_HAND: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(900));
/// A pause is up to a quarter longer, so that objects that fail together do not retry together.
const JITTER: u32 = 4;

/// The last failure to apply a document, with the number of consecutive ones.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplyFailure {
    pub class: Class,
    pub reason: &'static str,
    pub message: String,
    count: u32,
    /// When to retry. Never, if only a new commit can help.
    pub retry: Option<Instant>,
}

impl ApplyFailure {
    pub fn new(class: Class, reason: &'static str, message: String) -> Self {
        Self { class, reason, message, count: 0, retry: None }
    }

    /// This failure as the one after `before`, with the time of its retry.
    pub fn after(self, before: Option<&Self>, name: &str, now: Instant) -> Self {
        let count = before.map_or(1, |before| before.count.saturating_add(1));
        let retry = Some(now + pause(self.class, count, name));
        Self { count, retry, ..self }
    }
}

/// The message for a document whose object belongs to another owner.
pub fn of_another(owner: &str) -> String {
    format!(
        "the object belongs to another owner, {owner}: set --agent-id {owner} to manage it with this agent, or rename the \
         object in the manifest"
    )
}

/// The message for an object that another writer keeps changing. `cause` describes the last change.
pub fn contested(cause: &str) -> String {
    format!(
        "{cause}, repeatedly: each revert waits longer, up to 5 minutes, and the object is not reconciled while it differs \
         from Git: stop the other writer, or remove the manifest from Git"
    )
}

/// The failure of a document for a namespace outside the scope.
pub fn not_watched(namespace: &str) -> ApplyFailure {
    let message = format!(
        "namespace {namespace} is not watched: add it to --namespaces, or move the manifest to a watched namespace"
    );
    ApplyFailure::new(Class::Invalid, reasons::NAMESPACE_NOT_WATCHED, message)
}

/// How long to wait after the `count`th consecutive failure, and at least as long as the server asked for.
fn pause(class: Class, count: u32, name: &str) -> Duration {
    let (first, longest) = match class {
        Class::Transient { .. } | Class::Conflict => SOON,
        Class::NotFound => EXPECTED,
        Class::Denied | Class::Invalid => BY_HAND,
    };
    let hint = match class {
        Class::Transient { after } => after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let pause = backoff::doubled(first, longest, count).max(hint);
    backoff::spread(pause, JITTER, &[name, &count.to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_by_class_and_keep_the_servers_hint() {
        let first = |class| pause(class, 1, "a");
        assert!(
            first(Class::TRANSIENT) < first(Class::NotFound) && first(Class::NotFound) < first(Class::Denied)
        );
        assert!(pause(Class::TRANSIENT, 3, "a") >= SOON.0 * 4);
        assert!(pause(Class::Invalid, 1000, "a") <= BY_HAND.1 * 5 / 4);
        let hint = Duration::from_secs(400);
        assert!(first(Class::Transient { after: Some(hint) }) >= hint);
    }

    #[test]
    fn a_new_failure_is_not_retried_and_a_repeated_one_later_each_time() {
        let (never, now) = (ApplyFailure::new(Class::Invalid, "Invalid", "bad".into()), Instant::now());
        assert_eq!(never.retry, None);
        let once = never.clone().after(None, "a", now);
        let twice = never.after(Some(&once), "a", now);
        assert!(once.retry >= Some(now + BY_HAND.0) && twice.retry >= Some(now + BY_HAND.0 * 2));
    }
}
