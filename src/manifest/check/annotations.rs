//! Checks the annotations of Opsy in a manifest. A misspelled annotation, or one with an invalid value, would have no
//! effect, and the build that it was meant to suspend would start.

use super::Finding;
use crate::api::annotations::{APPROVE, KNOWN, SUSPEND};
use crate::api::approvals;
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
    let why = match key.as_str() {
        SUSPEND if !matches!(text, "true" | "false") => {
            format!("must be \"true\" or \"false\", but is {text:?}")
        }
        APPROVE => approvals::parse(text).err()?,
        _ => return None,
    };
    Some(Finding::error(entry.line, format!("metadata.annotations.{key}: {why}")))
}
