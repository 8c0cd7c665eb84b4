//! A snapshot of every message: statuses in the order in which they follow each other, with the stories made from each.

mod digests;
mod repositories;
mod stories;

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::api::builder::{PackerBuilderSpec, PackerBuilderStatus};
use crate::api::git_host::commit_url;
use crate::api::refresher::{AMIRefresherSpec, AMIRefresherStatus};
use crate::api::status::{BrokenFile, RepositoryStatus};
use crate::api::{Key, Kind, ObjectKey, conditions::Condition};
use digests::digests;
use repositories::repository;

const NOW: &str = "2026-03-01T12:00:00Z";

fn name(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey { kind, key: Key { namespace: "default".into(), name: name.into() } }
}

fn in_context<T>(ask: impl FnOnce(Context<'_>) -> T) -> T {
    let change = |commit: &str| {
        let url = commit_url("https://github.com/acme/images", commit);
        Some(Change {
            id: commit.to_owned(),
            author: "Ada".to_owned(),
            subject: "harden sshd".to_owned(),
            url,
        })
    };
    let origin =
        |_: &str| Some(Origin { builder: "eks-node".to_owned(), commit: Some("4f2d1c0a9b8c7d".to_owned()) });
    ask(Context {
        commit: Some("4f2d1c0a9b8c7d"),
        now: NOW.parse().expect("a time"),
        change: &change,
        origin: &origin,
    })
}

fn builder(status: Value) -> Vec<Story> {
    let spec = PackerBuilderSpec { region: Some("eu-central-1".to_owned()), ..PackerBuilderSpec::default() };
    let status: PackerBuilderStatus = serde_json::from_value(status).expect("a status");
    in_context(|context| builder::stories(&name(Kind::PackerBuilder, "eks-node"), &spec, &status, context))
}

fn refresher(status: Value) -> Vec<Story> {
    let spec = AMIRefresherSpec {
        region: "eu-central-1".to_owned(),
        cluster_name: "demo".to_owned(),
        ..AMIRefresherSpec::default()
    };
    let status: AMIRefresherStatus = serde_json::from_value(status).expect("a status");
    in_context(|context| refresher::stories(&name(Kind::AMIRefresher, "demo"), &spec, &status, context))
}

/// Formats stories for the snapshot.
fn show(what: &str, stories: &[Story]) -> String {
    let mut text = format!("## {what}\n\n");
    for story in stories {
        let over = if story.over { ", over" } else { "" };
        let _ = writeln!(text, "{}{over}", story.thread);
        if let Some(cause) = &story.cause {
            let _ = writeln!(text, "  cause: {cause}");
        }
        text.push_str(&shown(&story.head));
        story.replies.iter().for_each(|reply| text.push_str(&shown(reply)));
        text.push('\n');
    }
    text
}

fn shown(message: &Message) -> String {
    let Message { id, reason, tone, weight, title, text, facts, excerpt, next, links } = message;
    let mut shown = format!("  [{id}] {reason}, {tone:?}, {weight:?}\n    {title}\n");
    let mut line = |words: String| {
        let _ = writeln!(shown, "    {words}");
    };
    if !text.is_empty() {
        line(text.clone());
    }
    facts.iter().for_each(|(name, fact)| line(format!("{name}: {fact}")));
    excerpt.iter().for_each(|printed| line(format!("| {printed}")));
    next.iter().for_each(|next| line(format!("Next: {next}")));
    links.iter().for_each(|link| line(format!("<{}> {}", link.url, link.label)));
    shown
}

fn ready(status: &str, reason: &str, message: &str) -> Value {
    json!({"type": "Ready", "status": status, "reason": reason, "message": message,
           "lastTransitionTime": "2026-03-01T10:00:00Z"})
}

fn run(id: &str, result: &str, why: &str) -> Value {
    let mut run = json!({
        "id": id, "result": result, "why": why, "commit": "4f2d1c0a9b8c7d",
        "startedAt": "2026-03-01T11:00:00Z", "endedAt": "2026-03-01T11:09:12Z",
        "inputs": {"baseAMI": "ami-0ba5e0ba5e0ba5e00"},
    });
    match result {
        "Succeeded" | "Superseded" => run["images"] = json!(["ami-0123456789abcdef0"]),
        "Cancelled" => {}
        _ => {
            let exit = "Script exited with non-zero exit status: 100. Allowed exit codes are: [0]";
            run["errors"] = json!([exit]);
            run["step"] = json!("build");
            run["packerBuild"] = json!("amazon-ebs.node");
            run["output"] = json!(["Reading package lists...", "E: Unable to locate package chronyd"]);
        }
    }
    run
}

fn live(id: &str, why: &str, word: &str) -> Value {
    json!({"buildID": id, "jobName": format!("eks-node-{id}"), "jobStatus": word, "reason": why,
           "commit": "4f2d1c0a9b8c7d", "maxNumberOfFailedJobs": 5})
}

fn with(mut status: Value, more: Value) -> Value {
    let more = more.as_object().expect("an object").clone();
    status.as_object_mut().expect("an object").extend(more);
    status
}

fn builds() -> String {
    let failing =
        ready("False", "BuildFailed", "failure 1 of 5, next attempt at 2026-03-01T12:05:00Z; last error: no");
    let gave_up = json!([
        ready("False", "RetryLimit", "5 builds of the same inputs failed"),
        {"type": "Stalled", "status": "True", "reason": "RetryLimit", "message": "5 builds of the same inputs failed"}
    ]);
    let twice = json!([run("b2", "TimedOut", "Retry"), run("b1", "Failed", "Template")]);
    [
        show("A build waits", &builder(live("b1", "Missing", "Pending"))),
        show("A build runs", &builder(live("b1", "BaseImage", "Running"))),
        show("It succeeds", &builder(json!({"history": [run("b1", "Succeeded", "BaseImage")]}))),
        show(
            "It fails",
            &builder(json!({"history": [run("b1", "Failed", "Template")], "conditions": [failing]})),
        ),
        show(
            "It is retried",
            &builder(with(
                live("b2", "Retry", "Running"),
                json!({"history": [run("b1", "Failed", "Template")]}),
            )),
        ),
        show("The retry limit is reached", &builder(json!({"history": twice, "conditions": gave_up}))),
        show(
            "A retry succeeds",
            &builder(json!({"history": [run("b2", "Succeeded", "Retry"), run("b1", "Failed", "Template")]})),
        ),
        show(
            "Another commit fixes it",
            &builder(
                json!({"history": [run("b3", "Succeeded", "Template"), run("b1", "Failed", "Template")]}),
            ),
        ),
        show("It is canceled", &builder(json!({"history": [run("b1", "Cancelled", "Expired")]}))),
        show("It is no longer needed", &builder(json!({"history": [run("b1", "Superseded", "Spec")]}))),
    ]
    .concat()
}

fn group(name: &str, more: Value) -> Value {
    let group = json!({"name": name, "targetAMI": "ami-0123456789abcdef0", "previousAMI": "ami-0fedcba9876543210",
                       "attempts": 1, "startedAt": "2026-03-01T11:10:00Z"});
    with(group, more)
}

fn rollout(groups: Value, more: Value) -> Value {
    let rollout = json!({"id": "r1", "target": "ami-0123456789abcdef0", "startedAt": "2026-03-01T11:10:00Z", "groups": groups});
    with(rollout, more)
}

/// Group web failed first.
fn two_failures() -> Value {
    let failed = |at: &str| json!({"finishedAt": at, "lastFailure": "NodeCreationFailure: not ready"});
    let batch = group("batch", failed("2026-03-01T11:30:00Z"));
    let web = group("web", failed("2026-03-01T11:22:00Z"));
    rollout(json!([batch, web]), json!({}))
}

fn rollouts() -> String {
    let done = json!({"finishedAt": "2026-03-01T11:22:00Z"});
    let failed = json!({"finishedAt": "2026-03-01T11:22:00Z", "lastFailure": "PodEvictionFailure: Reached max retries"});
    let record = |id: &str, result: &str| {
        json!({"id": id, "target": "ami-0123456789abcdef0", "result": result,
        "startedAt": "2026-03-01T11:10:00Z", "finishedAt": "2026-03-01T11:40:00Z"})
    };
    let ended = json!({"finishedAt": "2026-03-01T11:40:00Z"});
    [
        show("A rollout begins", &refresher(json!({"drifted": 2, "rollout": rollout(json!([]), json!({}))}))),
        show(
            "Another writer moves a group back, and the next update takes long",
            &refresher(json!({"drifted": 1, "rollout": rollout(json!([group("web", json!({
                "undoneAt": ["2026-03-01T11:00:00Z"], "updateID": "u-1", "overdueAt": "2026-03-01T19:00:00Z",
                "undoneBy": "web was moved to ami-0123456789abcdef0 (launch template version 4), and is back on \
                             ami-0fedcba9876543210 (version 5) without an update of Opsy, likely by CloudFormation \
                             stack nodes: take the launch template version out of it",
            }))]), json!({}))})),
        ),
        show(
            "Half of it is done",
            &refresher(json!({"drifted": 1, "rollout": rollout(json!([group("web", done.clone()), group("batch", json!({}))]), json!({}))})),
        ),
        show(
            "It is done",
            &refresher(json!({"rollout": rollout(json!([group("web", done.clone())]), ended.clone()), "history": [record("r1", "Done")]})),
        ),
        show(
            "A group fails",
            &refresher(json!({"drifted": 2, "rollout": rollout(json!([group("web", failed.clone())]), json!({}))})),
        ),
        show("Another group fails after it", &refresher(json!({"drifted": 2, "rollout": two_failures()}))),
        show(
            "The instance refresh of a self-managed group takes long",
            &refresher(json!({"drifted": 1, "rollout": rollout(json!([group("workers", json!({
                "kind": "SelfManaged", "updateID": "08b91cf7", "overdueAt": "2026-03-01T19:00:00Z",
            }))]), json!({}))})),
        ),
        show(
            "The instance refresh of a self-managed group fails",
            &refresher(json!({"drifted": 1, "rollout": rollout(json!([group("workers", json!({
                "kind": "SelfManaged", "finishedAt": "2026-03-01T11:22:00Z",
                "lastFailure": "instance refresh 08b91cf7 failed: no reason",
            }))]), json!({}))})),
        ),
        show(
            "It has failed",
            &refresher(json!({"drifted": 2, "rollout": rollout(json!([group("web", failed)]), ended.clone()), "history": [record("r1", "Failed")]})),
        ),
        show(
            "The next rollout succeeds",
            &refresher(json!({"rollout": rollout(json!([group("web", done)]), ended.clone()), "history": [record("r1", "Done"), record("r0", "Failed")]})),
        ),
        show(
            "It is replaced",
            &refresher(json!({"rollout": rollout(json!([]), ended), "history": [record("r1", "Replaced")]})),
        ),
        show(
            "Its image is held",
            &refresher(json!({"rollout": rollout(json!([]), json!({"finishedAt": "2026-03-01T11:40:00Z"})), "history": [record("r1", "Held")]})),
        ),
        show("A failed rollout is rolled back", &rolled_back(json!({}), json!([record("r0", "Failed")]))),
        show(
            "The rollback is done",
            &rolled_back(json!({"finishedAt": "2026-03-01T11:40:00Z"}), json!([record("r2", "RolledBack"), record("r0", "Failed")])),
        ),
    ]
    .concat()
}

fn rolled_back(more: Value, history: Value) -> Vec<Story> {
    let moves = json!({"targetAMI": "ami-0fedcba9876543210", "previousAMI": "ami-0123456789abcdef0",
                       "finishedAt": "2026-03-01T11:22:00Z"});
    let back = json!({"id": "r2", "target": "ami-0fedcba9876543210", "startedAt": "2026-03-01T11:10:00Z",
        "groups": [group("batch", moves)],
        "rollback": {"of": "r0", "target": "ami-0123456789abcdef0", "reason": "web: update u-1 failed: NodeCreationFailure"}});
    refresher(json!({"rollout": with(back, more), "history": history}))
}

fn troubles() -> String {
    let stalled = |reason: &str, message: &str| {
        json!({"conditions": [ready("False", reason, message),
            {"type": "Stalled", "status": "True", "reason": reason, "message": message, "lastTransitionTime": "2026-03-01T11:59:00Z"}]})
    };
    let conditions: Vec<Condition> =
        serde_json::from_value(json!([ready("True", "ImageReady", "ami-0123456789abcdef0 active")]))
            .expect("conditions");
    let node = (&name(Kind::PackerBuilder, "eks-node")).into();
    let over = resolved(&node, "trouble/InvalidSpec/1772366340", &conditions);
    [
        show("The manifest is wrong", &builder(stalled("InvalidSpec", "spec.region: \"moon\" is not a region"))),
        show("AWS denies an action", &builder(json!({"conditions": [ready("False", "AwsDenied", "ec2:DescribeImages is denied to eks-node")]}))),
        show("AWS is unavailable for a long time", &builder(json!({"conditions": [ready("False", "AwsUnavailable", "no response from ec2 in eu-central-1")]}))),
        show("Another writer is at work", &refresher(stalled("AnotherWriter", "web was moved twice"))),
        format!("## It is resolved\n\n{}", shown(&over)),
    ]
    .concat()
}

#[test]
fn all_messages() {
    insta::assert_snapshot!(format!(
        "# Builds\n\n{}# Rollouts\n\n{}# Troubles\n\n{}# Repository\n\n{}# Digests\n\n{}",
        builds(),
        rollouts(),
        troubles(),
        repository(),
        digests(),
    ));
}
