//! Annotations by which people act on a live object, without a commit.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Anything but `"false"`: nothing new is started. In a manifest it is `"true"` or `"false"`.
pub const SUSPEND: &str = "ami.opsy.dev/suspend";
/// The id of a build to stop.
pub const CANCEL: &str = "ami.opsy.dev/cancel";
/// Anything new, best a time: a reconcile that refreshes everything and resets the count of failures. Status says
/// which one was last handled.
pub const RECONCILE_AT: &str = "ami.opsy.dev/reconcileAt";

/// The ID of an image: what failed with it on node groups is tried again, once per value.
pub const RETRY: &str = "ami.opsy.dev/retry";

/// Address of what to do when the object fails, for messages about it.
pub const RUNBOOK: &str = "ami.opsy.dev/runbook";

/// The file of the manifest that was applied, relative to the path that is read. The agent sets it in a cluster: after a
/// restart, a file that turned into something else is still known to hold the object.
pub const FILE: &str = "ami.opsy.dev/file";

/// All that a manifest or a live object may carry: another one below our prefix is a typing error.
pub const KNOWN: [&str; 6] = [SUSPEND, CANCEL, RECONCILE_AT, RETRY, RUNBOOK, FILE];

/// What an annotation says.
pub fn value<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Is nothing new to be started?
pub fn suspended(metadata: &ObjectMeta) -> bool {
    value(metadata, SUSPEND).is_some_and(suspends)
}

/// Does this value of the annotation suspend? Who writes `yes` or `True` in an incident means it.
pub fn suspends(value: &str) -> bool {
    !value.is_empty() && !value.eq_ignore_ascii_case("false")
}

/// Does somebody ask for a pass that was not made yet?
pub fn asks_anew(metadata: &ObjectMeta, handled: Option<&str>) -> bool {
    value(metadata, RECONCILE_AT).is_some_and(|asked| handled != Some(asked))
}

/// What was handled once a pass is over.
pub fn handled(metadata: &ObjectMeta, before: Option<String>) -> Option<String> {
    value(metadata, RECONCILE_AT).map(str::to_owned).or(before)
}

/// When a pass that was not made yet was asked for, where the annotation is a time.
pub fn asked_at(metadata: &ObjectMeta) -> Option<Timestamp> {
    value(metadata, RECONCILE_AT)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_to_suspend_is_heard() {
        for (text, expected) in [
            ("true", true),
            ("True", true),
            ("yes", true),
            ("1", true),
            ("false", false),
            ("False", false),
            ("", false),
        ] {
            let annotations = Some([(SUSPEND.to_owned(), text.to_owned())].into());
            assert_eq!(suspended(&ObjectMeta { annotations, ..ObjectMeta::default() }), expected, "{text}");
        }
        assert!(!suspended(&ObjectMeta::default()));
    }

    #[test]
    fn a_pass_is_asked_for_until_it_was_made() {
        let mut metadata = ObjectMeta::default();
        assert!(!asks_anew(&metadata, None));
        metadata.annotations = Some([(RECONCILE_AT.to_owned(), "1".to_owned())].into());
        assert!(asks_anew(&metadata, None) && asks_anew(&metadata, Some("0")));
        let after = handled(&metadata, Some("0".to_owned()));
        assert!(!asks_anew(&metadata, after.as_deref()));
        assert_eq!(
            handled(&ObjectMeta::default(), after.clone()),
            after,
            "it stays when the annotation goes"
        );
    }
}
