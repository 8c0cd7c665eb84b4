//! Why an object is not as Git says, and when to try again.

use std::time::Duration;

use tokio::time::Instant;

use crate::api::Class;

/// First and longest pause before a failed apply is repeated. What goes away by itself does so soon; a
/// namespace or definition is often about to be made; a permission or a field is changed by a person.
const SOON: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
const EXPECTED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
const BY_HAND: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(900));

/// Why an object is not as Git says.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    pub class: Class,
    pub reason: &'static str,
    pub message: String,
    count: u32,
    /// When to try again; never where only a commit or a person can help.
    pub retry: Option<Instant>,
}

impl Trouble {
    pub fn new(class: Class, reason: &'static str, message: String) -> Self {
        Self { class, reason, message, count: 0, retry: None }
    }

    /// The same once more, after what failed before: with the time to try again.
    pub fn after(self, before: Option<&Self>, name: &str, now: Instant) -> Self {
        let count = before.map_or(1, |before| before.count.saturating_add(1));
        let retry = Some(now + pause(self.class, count, name));
        Self { count, retry, ..self }
    }
}

/// A document whose object is another owner's.
pub fn of_another(owner: &str) -> String {
    format!(
        "there is such an object of another owner, {owner}: --agent-id {owner} would make it this agent's"
    )
}

/// An object that somebody else keeps changing; `cause` says how the last time.
pub fn contested(cause: &str) -> String {
    format!(
        "{cause}, again and again, and Git sets it back ever more seldom (every 5 min in the end); nothing is done by what \
         Git does not say: stop the other writer, or remove the manifest from Git"
    )
}

/// A manifest for a namespace outside the scope.
pub fn not_watched(namespace: &str) -> Trouble {
    let message = format!(
        "namespace {namespace} is not watched: add it to --namespaces, or move the manifest to one that is"
    );
    Trouble::new(Class::Invalid, "NamespaceNotWatched", message)
}

/// How long to wait after the `count`th failure in a row, with up to a quarter more by name and count:
/// what failed together is not repeated together.
fn pause(class: Class, count: u32, name: &str) -> Duration {
    let (first, longest) = match class {
        Class::Transient { .. } | Class::Conflict => SOON,
        Class::NotFound => EXPECTED,
        Class::Denied | Class::Invalid => BY_HAND,
    };
    let doubled = first.saturating_mul(1u32.checked_shl(count - 1).unwrap_or(u32::MAX));
    let hint = match class {
        Class::Transient { after } => after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let pause = doubled.min(longest).max(hint);
    let digest = crate::api::ids::digest(&[name, &count.to_string()]);
    pause + pause / 4 * u32::from_str_radix(&digest[..4], 16).unwrap_or(0) / 0xffff
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
    fn a_commit_or_a_person_alone_helps_what_is_not_retried() {
        let (never, now) = (Trouble::new(Class::Invalid, "Invalid", "bad".into()), Instant::now());
        assert_eq!(never.retry, None);
        let once = never.clone().after(None, "a", now);
        let twice = never.after(Some(&once), "a", now);
        assert!(once.retry >= Some(now + BY_HAND.0) && twice.retry >= Some(now + BY_HAND.0 * 2));
    }
}
