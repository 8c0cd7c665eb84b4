//! A snapshot of every message: statuses in the order in which they follow each other, with the stories made from each.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::api::builder::{PackerBuilderSpec, PackerBuilderStatus};
use crate::api::git_host::commit_url;
use crate::api::refresher::{AMIRefresherSpec, AMIRefresherStatus};
use crate::api::status::{BrokenFile, RepositoryStatus};
use crate::api::{Key, Kind, ObjectKey, conditions::Condition};

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

fn repository_is(kind: &str, reason: &str, words: &str) -> RepositoryStatus {
    let condition = json!([{"type": kind, "status": "False", "reason": reason, "message": words,
        "lastTransitionTime": "2026-03-01T11:59:00Z"}]);
    let conditions = serde_json::from_value(condition).expect("conditions");
    RepositoryStatus { conditions: Some(conditions), ..RepositoryStatus::default() }
}

fn repository() -> String {
    let images = Subject::Repository("images".to_owned());
    let show = |what: &str, status: &RepositoryStatus| {
        show(what, &in_context(|context| repository::stories(&images, status, context)))
    };
    let report =
        |what: &str, kind: &str, reason: &str, words: &str| show(what, &repository_is(kind, reason, words));
    let file = |path: &str, words: &str, commit: &str| BrokenFile {
        file: path.to_owned(),
        words: words.to_owned(),
        commit: commit.to_owned(),
    };
    let web = "builders/web.yaml:7: unknown field `regoin`; did you mean region?";
    let node = "builders/node.yaml:3: is not valid YAML";
    let mut broken = repository_is("Applied", "ManifestBroken", web);
    broken.broken = Some(vec![file("builders/web.yaml", web, "4f2d1c0a9b8c7d")]);
    let mut two = repository_is("Applied", "ManifestBroken", &format!("{web}; {node}"));
    two.broken = Some(vec![
        file("builders/web.yaml", web, "4f2d1c0a9b8c7d"),
        file("builders/node.yaml", node, "5a3e2d1b0c9d8e"),
    ]);
    let over = resolved(&images, "trouble/ManifestBroken/1772366340", &[]);
    [
        show("A file is broken", &broken),
        show("Another commit breaks another file", &two),
        format!("## They are fixed\n\n{}", shown(&over)),
        report(
            "Objects would be pruned",
            "Pruned",
            "PruneRefused",
            "3 of 4 objects retained although they are not in Git",
        ),
        report(
            "The remote is unavailable",
            "Synced",
            "RepositoryUnavailable",
            "git.example.com does not respond",
        ),
        report("The remote denies access", "Synced", "RepositoryDenied", "the credentials are refused"),
        report("The branch does not exist", "Synced", "RepositoryUnreadable", "there is no branch main"),
        report("No commit can be loaded", "TakenOver", "CommitNotTaken", "the API server does not respond"),
        report(
            "Objects are refused",
            "Accepted",
            "ObjectsRefused",
            "PackerBuilder/ops/web: namespace ops does not exist",
        ),
        report("Nothing can be pushed", "Published", "PushRefused", "protected branch"),
    ]
    .concat()
}

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

fn digests() -> String {
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

#[test]
fn what_may_go_away_by_itself_is_held_back() {
    let conditions = json!([ready("False", "AwsUnavailable", "no response")]);
    let stories = builder(json!({ "conditions": conditions }));
    assert!(!stories[0].hold.is_zero());
    assert!(news(&[], &stories).is_empty(), "an Event reports it at once");
    let suspended = json!({"type": "Suspended", "status": "True", "reason": "Spec"});
    let stalled = json!({"type": "Stalled", "status": "True", "reason": "RetryLimit"});
    let paused = json!({"conditions": [ready("False", "RetryLimit", "no"), stalled, suspended]});
    assert!(builder(paused).is_empty(), "what people asked for is not a problem");
}

#[test]
fn a_recovery_is_one_whatever_came_between() {
    let history = [
        run("b4", "Succeeded", "Template"),
        run("b3", "Superseded", "Spec"),
        run("b2", "Cancelled", "Spec"),
        run("b1", "Failed", "Template"),
    ];
    let stories = builder(json!({ "history": history }));
    assert_eq!(stories[0].replies[0].weight, Weight::Loud, "{:?}", stories[0].replies);
}

#[test]
fn a_cause_is_the_same_for_objects_that_fail_alike() {
    let of = |object: &str, words: &str| cause(object, "BuildFailed", words);
    assert_eq!(
        of("a1", "no subnet for a1 in vpc-0a1b, request 77"),
        of("b2", "no subnet for b2 in vpc-0a1b, request 78")
    );
    assert_ne!(of("a1", "no subnet"), of("a1", "no key"));
}

#[test]
fn news_are_messages_that_were_not_there() {
    let ids = |before: &[Story], after: &[Story]| -> Vec<String> {
        news(before, after).iter().map(|message| message.id.clone()).collect()
    };
    let running = builder(live("b1", "Missing", "Running"));
    assert_eq!(ids(&[], &running), ["head"]);
    assert_eq!(ids(&running, &running), [""; 0]);
    let failed = builder(json!({"history": [run("b1", "Failed", "Missing")]}));
    assert_eq!(ids(&running, &failed), ["failed/1"]);
    assert_eq!(ids(&[], &failed), ["failed/1"], "the result is reported once");
    let again =
        builder(with(live("b2", "Retry", "Running"), json!({"history": [run("b1", "Failed", "Missing")]})));
    assert_eq!(ids(&failed, &again), ["started/2"]);
}

/// The first failure is announced to the channel, every other one to the thread, and none of them twice, whatever
/// follows.
#[test]
fn a_failure_is_one_message() {
    let ids = |before: &[Story], after: &[Story]| -> Vec<String> {
        let news = news(before, after);
        let failures = news.iter().filter(|message| message.id.contains("failed"));
        failures.map(|message| message.id.clone()).collect()
    };
    let both = two_failures();
    let first = rollout(json!([group("batch", json!({})), both["groups"][1]]), json!({}));
    let [first, both] = [first, both].map(|rollout| refresher(json!({"drifted": 2, "rollout": rollout})));
    assert_eq!(ids(&[], &first), ["failed"]);
    assert_eq!(ids(&first, &both), ["group/batch/1/failed"]);
    for result in ["Failed", "Replaced", "Held"] {
        let record = json!({"id": "r1", "target": "ami-0123456789abcdef0", "result": result,
            "failures": ["batch: NodeCreationFailure: not ready", "web: NodeCreationFailure: not ready"]});
        let ended = refresher(json!({"rollout": two_failures(), "history": [record]}));
        assert_eq!(ids(&both, &ended), [""; 0], "{result}");
        let next = json!({"id": "r2", "target": "ami-0fedcba9876543210", "groups": []});
        let next = refresher(json!({"rollout": next, "history": [record]}));
        assert_eq!(ids(&ended, &next), [""; 0], "{result}");
    }
}

#[test]
fn bad_news_carry_the_runbook() {
    let mut stories = builder(json!({"history": [run("b1", "Failed", "Missing")]}));
    with_runbook(&mut stories, Some("https://wiki.example.com/eks-node"));
    assert!(stories[0].head.links.iter().any(|link| link.label == "Runbook"));
    let mut stories = builder(live("b1", "Missing", "Running"));
    with_runbook(&mut stories, Some("https://wiki.example.com/eks-node"));
    assert!(stories[0].head.links.iter().all(|link| link.label != "Runbook"));
}
