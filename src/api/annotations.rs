//! Annotations with which people control a live object without a commit.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Suspends the object: nothing new is started. On a live object, every value suspends except `"false"` and an empty
/// one. In a manifest the value must be `"true"` or `"false"`.
pub const SUSPEND: &str = "ami.opsy.dev/suspend";
/// The ID of the build to stop.
pub const CANCEL: &str = "ami.opsy.dev/cancel";
/// Requests a reconcile that refreshes everything and resets the failure count. Any new value works; use a time. Status
/// records the value that was handled last.
pub const RECONCILE_AT: &str = "ami.opsy.dev/reconcileAt";

/// The ID of an image. Updates of node groups that failed with it are tried again, once per value of the annotation.
pub const RETRY: &str = "ami.opsy.dev/retry";

/// Approves images for waves of a rollout: `<wave>=<ami>`, several separated by commas (`approvals` parses it).
pub const APPROVE: &str = "ami.opsy.dev/approve";

/// URL of the runbook of the object, which messages about its failures contain.
pub const RUNBOOK: &str = "ami.opsy.dev/runbook";

/// The file of the applied manifest, relative to the path that is read. The agent sets it in a cluster, so that after a
/// restart it still knows that the file holds the object, even if the file is no longer a manifest.
pub const FILE: &str = "ami.opsy.dev/file";

/// All annotations of Opsy that a manifest or a live object may have. Any other name with this prefix is a typing
/// error.
pub const KNOWN: [&str; 7] = [SUSPEND, CANCEL, RECONCILE_AT, RETRY, APPROVE, RUNBOOK, FILE];

/// Returns the value of an annotation.
pub fn value<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Returns whether the annotation suspends the object.
pub fn suspended(metadata: &ObjectMeta) -> bool {
    value(metadata, SUSPEND).is_some_and(suspends)
}

/// Returns whether this value suspends. `yes` and `True` do, too: a person who writes them during an incident means it.
pub fn suspends(value: &str) -> bool {
    !value.is_empty() && !value.eq_ignore_ascii_case("false")
}

/// Returns whether a reconcile is requested that has not been handled yet.
pub fn reconcile_requested(metadata: &ObjectMeta, handled: Option<&str>) -> bool {
    value(metadata, RECONCILE_AT).is_some_and(|requested| handled != Some(requested))
}

/// Returns the request that counts as handled after a reconcile.
pub fn handled(metadata: &ObjectMeta, before: Option<String>) -> Option<String> {
    value(metadata, RECONCILE_AT).map(str::to_owned).or(before)
}

/// Returns when the reconcile was requested, if the annotation is a time.
pub fn requested_at(metadata: &ObjectMeta) -> Option<Timestamp> {
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
        assert!(!reconcile_requested(&metadata, None));
        metadata.annotations = Some([(RECONCILE_AT.to_owned(), "1".to_owned())].into());
        assert!(reconcile_requested(&metadata, None) && reconcile_requested(&metadata, Some("0")));
        let after = handled(&metadata, Some("0".to_owned()));
        assert!(!reconcile_requested(&metadata, after.as_deref()));
        assert_eq!(
            handled(&ObjectMeta::default(), after.clone()),
            after,
            "the value stays when the annotation is removed"
        );
    }
}
