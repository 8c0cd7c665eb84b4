//! The messages of a day in one.

use super::repositories::repository_is;
use super::*;

fn digest_of(builders: &[(&str, Value)], refreshers: &[(&str, Value)], status: &RepositoryStatus) -> Message {
    fn read<T: serde::de::DeserializeOwned>(kind: Kind, all: &[(&str, Value)]) -> Vec<(ObjectKey, T)> {
        let status = |value: &Value| serde_json::from_value(value.clone()).expect("a status");
        all.iter().map(|(object, value)| (name(kind, object), status(value))).collect()
    }
    let builders: Vec<(_, PackerBuilderStatus)> = read(Kind::PackerBuilder, builders);
    let refreshers: Vec<(_, AMIRefresherStatus)> = read(Kind::AMIRefresher, refreshers);
    let inventory = digest::Inventory {
        builders,
        refreshers,
        repository: status.conditions.as_deref().unwrap_or_default(),
        since: "2026-02-28T12:00:00Z".parse().expect("a time"),
    };
    in_context(|context| digest::message_of(&Subject::Repository("images".to_owned()), &inventory, context))
}

pub fn digests() -> String {
    let well = || json!([ready("True", "ImageReady", "")]);
    let quiet = digest_of(
        &[("eks-node", json!({"conditions": well()}))],
        &[("demo", json!({}))],
        &RepositoryStatus::default(),
    );
    let old = json!({"id": "b0", "result": "Failed", "startedAt": "2026-02-27T11:10:00Z", "endedAt": "2026-02-27T11:20:00Z"});
    let stalled = json!([ready("False", "RetryLimit", ""), {"type": "Stalled", "status": "True", "reason": "RetryLimit"}]);
    let running = json!([ready("False", "Building", ""), {"type": "Reconciling", "status": "True", "reason": "Building"}]);
    let builders = [
        (
            "eks-node",
            json!({"conditions": well(), "history": [run("b2", "Succeeded", "Retry"), run("b1", "Failed", "Template"), old]}),
        ),
        ("gpu", json!({"conditions": stalled})),
        ("arm", json!({"conditions": running})),
        (
            "old",
            json!({"conditions": [ready("True", "ImageReady", ""), {"type": "Suspended", "status": "True", "reason": "Spec"}]}),
        ),
        ("new", json!({"conditions": [ready("False", "BaseImageNotFound", "")]})),
    ];
    let done = json!({"id": "r1", "target": "ami-0123456789abcdef0", "result": "Done", "finishedAt": "2026-03-01T11:40:00Z"});
    let refreshers = [("demo", json!({"conditions": well(), "drifted": 2, "history": [done]}))];
    let refused = repository_is("Published", "PushRefused", "protected branch");
    let busy = digest_of(&builders, &refreshers, &refused);
    let unpushed = json!({"conditions": [ready("True", "ImageReady", ""),
        {"type": "Published", "status": "False", "reason": "PushRefused"}]});
    let unpushed = digest_of(&[("eks-node", unpushed)], &[], &refused);
    format!(
        "## A quiet day\n\n{}## A busy day\n\n{}## Only the push fails\n\n{}",
        shown(&quiet),
        shown(&busy),
        shown(&unpushed)
    )
}
