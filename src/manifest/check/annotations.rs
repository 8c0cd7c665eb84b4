//! Checks the annotations of Opsy in a manifest. A misspelled annotation, or one with an invalid value, would have no
//! effect, and the build that it was meant to suspend would start.

use super::Finding;
use crate::api::annotations::{KNOWN, SUSPEND};
use crate::api::checks::closest;
use crate::manifest::yaml::{Entry, Node, Value};

/// Prefix of the annotations of Opsy.
const PREFIX: &str = "ami.opsy.dev/";

/// Checks a map of annotations against the known ones.
pub fn check(annotations: &Node, found: &mut Vec<Finding>) {
    let Value::Map(entries) = &annotations.value else { return };
    let ours = entries.iter().filter(|entry| entry.key.starts_with(PREFIX));
    found.extend(ours.filter_map(wrong));
}

fn wrong(entry: &Entry) -> Option<Finding> {
    let key = &entry.key;
    if !KNOWN.contains(&key.as_str()) {
        let meant = closest(key, KNOWN.into_iter());
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        return Some(Finding::error(
            entry.line,
            format!("metadata.annotations: unknown annotation {key}{meant}"),
        ));
    }
    let text = entry.value.text()?;
    let is_wrong = key == SUSPEND && !matches!(text, "true" | "false");
    is_wrong.then(|| {
        let words = format!("metadata.annotations.{key}: must be \"true\" or \"false\", but is {text:?}");
        Finding::error(entry.line, words)
    })
}
