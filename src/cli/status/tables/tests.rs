//! One row per object, with all that needs attention.

use super::*;
use crate::api::Key;

fn object(kind: Kind, name: &str, status: Value) -> Object {
    let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
    Object::new(ObjectKey { kind, key }, Value::Null, status)
}

#[test]
fn a_repository_in_trouble_is_shown_above_the_objects() {
    assert_eq!(table(&repository(&RepositoryStatus::default())), "");
    let status = serde_json::json!({"conditions": [
        {"type": "Synced", "status": "False", "reason": "BranchRewritten", "message": "tip b, last a"},
        {"type": "Published", "status": "False", "reason": "PushRefused", "message": "protected\nbranch"},
        {"type": "Notified", "status": "True"},
    ]});
    let text = table(&repository(&serde_json::from_value(status).expect("a status")));
    assert_eq!(text.lines().nth(1), Some("Synced      False   BranchRewritten  tip b, last a"), "{text}");
    assert_eq!(text.lines().nth(2), Some("Published   False   PushRefused      protected branch"), "{text}");
}

#[test]
fn a_row_is_a_line_with_all_that_needs_attention() {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| serde_json::json!({"type": kind, "status": status, "reason": reason, "message": message});
    let status = serde_json::json!({"conditions": [
        condition("Ready", "True", "UpToDate", "good\nfor\tlong"),
        condition("Applied", "False", "Conflict", "another\nfield manager"),
        condition("Notified", "False", "TokenInvalid", "the token was revoked"),
        condition("Stalled", "False", "UpToDate", "no"),
        condition("Reconciling", "False", "UpToDate", "no"),
    ]});
    let text = table(&builders(&[object(Kind::PackerBuilder, "web", status)], false));
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    let due =
        "good for long (not applied: another field manager) (notifications fail: the token was revoked)";
    assert!(lines[1].ends_with(due), "{text}");
}

#[test]
fn each_wave_is_a_row_with_what_it_waits_for() {
    let status = serde_json::json!({ "rollout": { "waves": [
        { "name": "canary", "state": "Soaking", "updated": 1, "total": 1, "startedAt": "2026-01-01T00:00:00Z",
          "finishedAt": "2026-01-01T00:05:00Z", "soakUntil": "2026-01-01T00:35:00Z" },
        { "name": "prod", "state": "Waiting", "updated": 0, "total": 3, "reason": "wave \"canary\" soaks until noon" },
    ] } });
    let text = table(&waves(&[object(Kind::AMIRefresher, "nodes", status)]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[1],
        "default/nodes  canary  Soaking  1/1      2026-01-01T00:00:00Z  2026-01-01T00:05:00Z  soaks until \
         2026-01-01T00:35:00Z"
    );
    assert_eq!(
        lines[2],
        "default/nodes  prod    Waiting  0/3      -                     -                     wave \"canary\" soaks \
         until noon"
    );
    assert_eq!(table(&waves(&[])), "");
}

#[test]
fn wide_adds_columns_and_removes_none() {
    let status = serde_json::json!({
        "lastRunStatus": "Succeeded", "lastRun": "2026-01-01T00:05:00Z", "history": [{"commit": "0123456789abcdef"}],
        "images": [{"region": "us-east-1", "architecture": "x86_64", "id": "ami-1"}],
        "nodeGroups": [{"name": "web", "currentAMI": "ami-1", "state": "Current"}], "drifted": 0,
    });
    let objects =
        [object(Kind::PackerBuilder, "web", status.clone()), object(Kind::AMIRefresher, "web", status)];
    let [narrow, wide] = [false, true].map(|wide| {
        let text = all(&objects, wide);
        text.lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    });
    assert_eq!(narrow.len(), wide.len());
    for (narrow, wide) in narrow.iter().zip(&wide) {
        let mut cells = wide.iter();
        assert!(narrow.iter().all(|cell| cells.any(|other| other == cell)), "{narrow:?} {wide:?}");
    }
    let lane = "Succeeded 2026-01-01T00:05:00Z 0123456789ab us-east-1/x86_64/ami-1";
    assert!(wide[1].join(" ").contains(lane), "{wide:?}");
    assert!(wide[4].join(" ").contains("- 0 Succeeded 2026-01-01T00:05:00Z"), "{wide:?}");
}
