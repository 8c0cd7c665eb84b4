//! The condition Ready of an object, as commands print it. Pure.

use serde_json::Value;

use super::table::text;
use crate::api::conditions::{READY, SUSPENDED, TRUE, UNKNOWN};
use crate::api::text::one_line;

/// A condition of a status.
pub fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind)
}

pub fn is_ready(status: &Value) -> bool {
    condition(status, READY).is_some_and(|ready| ready["status"] == TRUE)
}

/// Status, reason and message of a condition.
pub fn cells(status: &Value, kind: &str) -> [String; 3] {
    match condition(status, kind) {
        Some(found) => ["status", "reason", "message"].map(|field| text(&found[field])),
        None => [UNKNOWN, "-", "-"].map(str::to_owned),
    }
}

/// Status, reason and message of Ready. For a suspended object, reason and message are those of Suspended.
pub fn ready_cells(status: &Value) -> [String; 3] {
    let [ready, reason, message] = cells(status, READY);
    let [suspended, _, why] = cells(status, SUSPENDED);
    if suspended == TRUE { [ready, SUSPENDED.to_owned(), why] } else { [ready, reason, message] }
}

/// Formats the condition Ready, and Suspended if it is true, in one line.
pub fn summary(status: &Value) -> String {
    let [ready, reason, message] = cells(status, READY);
    let suspended = condition(status, SUSPENDED).filter(|found| found["status"] == TRUE);
    let suspended = suspended.map(|found| format!("; Suspended: {}", text(&found["message"])));
    one_line(&format!("Ready={ready} {reason}: {message}{}", suspended.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_ready_is_one_line() {
        let ready =
            serde_json::json!({"type": "Ready", "status": "True", "reason": "UpToDate", "message": "x"});
        let status = serde_json::json!({"conditions": [ready]});
        assert_eq!(summary(&status), "Ready=True UpToDate: x");
        assert!(is_ready(&status));
        assert_eq!(summary(&Value::Null), "Ready=Unknown -: -");
        let suspended = serde_json::json!({"type": "Suspended", "status": "True", "message": "y"});
        let status = serde_json::json!({"conditions": [suspended]});
        assert_eq!(summary(&status), "Ready=Unknown -: -; Suspended: y");
        assert!(!is_ready(&status));
        // In a CI job, a line that begins with `::` is a command to the CI system.
        let broken = serde_json::json!({"type": "Ready", "status": "False", "reason": "Failed", "message": "a\n::error::b\r\nc"});
        let status = serde_json::json!({"conditions": [broken]});
        assert_eq!(summary(&status), "Ready=False Failed: a ::error::b c");
    }

    #[test]
    fn a_suspended_object_is_as_ready_as_it_was_and_says_who_suspended_it() {
        let status = serde_json::json!({"conditions": [
            {"type": "Ready", "status": "True", "reason": "ImageReady", "message": "ami-1 active"},
            {"type": "Suspended", "status": "True", "reason": "Spec", "message": "suspended by spec.suspend"},
        ]});
        assert_eq!(ready_cells(&status), ["True", "Suspended", "suspended by spec.suspend"]);
    }
}
