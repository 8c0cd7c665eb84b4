//! Tests of what the view says, line by line.

use serde_json::{Value, json};

use super::*;
use crate::api::Kind;

const NOW: &str = "2026-01-02T00:01:30Z";

fn object(kind: Kind, namespace: &str) -> ObjectKey {
    ObjectKey { kind, key: Key { namespace: namespace.to_owned(), name: "node".to_owned() } }
}

fn ready(status: &str, message: &str) -> Value {
    json!({"type": READY, "status": status, "reason": "R", "message": message})
}

fn frame_of_build(status: Value, progress: Option<Progress>) -> Frame {
    let object = object(Kind::PackerBuilder, "default");
    let progress = progress.map(|progress| (object.key.clone(), progress)).into_iter().collect();
    let mut frame = Frame::default();
    frame.add_builder(&object, &serde_json::from_value(status).expect("a status"), &progress, None);
    frame
}

fn frame_of_rollout(status: Value) -> Frame {
    let mut frame = Frame::default();
    let status = serde_json::from_value(status).expect("a status");
    frame.add_refresher(&object(Kind::AMIRefresher, "team"), &status, None);
    frame
}

fn lines(frame: &Frame, lines: usize, columns: usize) -> Vec<String> {
    frame.lines(NOW.parse().expect("a time"), Size { lines, columns })
}

/// The line of the only object.
fn line(frame: &Frame) -> String {
    lines(frame, 10, 120).pop().expect("a line")
}

fn building(phase: &str, command: Option<&str>) -> Value {
    let run = |result: &str, minutes: u32| {
        let ended = format!("2026-01-01T00:{minutes:02}:00Z");
        json!({"id": "a", "result": result, "startedAt": "2026-01-01T00:00:00Z", "endedAt": ended})
    };
    let facts = json!({"build": "a", "region": "r", "why": "Missing", "commit": "c", "createdAt": "2026-01-02T00:00:00Z"});
    json!({
        "jobStatus": phase, "jobFacts": facts, "command": command,
        "conditions": [ready("False", "waits\nfor a node"), {"type": "Reconciling", "status": "True"}],
        "history": [run("Failed", 1), run("Succeeded", 59), run("Succeeded", 10), run("Succeeded", 12)],
    })
}

#[test]
fn a_build_has_its_step_its_time_and_what_packer_prints() {
    let progress = |command: &str, line: &str| {
        Some(Progress { command: command.to_owned(), line: line.to_owned(), ..Progress::default() })
    };
    let time = "90 s (usually 12 min)";
    let rows = [
        ("Pending", None, None, format!("pb/node  pending  {time}  waits for a node")),
        ("Pending", None, progress("init", "Installing"), format!("pb/node  init  {time}  Installing")),
        ("Running", Some("init"), progress("init", ""), format!("pb/node  init  {time}")),
        ("Running", Some("init"), progress("validate", "x"), format!("pb/node  validate  {time}  x")),
        (
            "Running",
            Some("build"),
            progress("build", "==> amazon-ebs.node: Copying AMI (ami-1) to other regions..."),
            format!("pb/node  build  {time}  amazon-ebs.node: Copying AMI (ami-1) to other regions..."),
        ),
        ("Running", Some("build"), None, format!("pb/node  build  {time}")),
        ("Running", None, progress("", ""), format!("pb/node  running  {time}")),
        ("Stopping", Some("build"), progress("build", "Terminating"), format!("pb/node  stopping  {time}")),
        (
            "Running",
            Some("build"),
            progress("build", "a\u{1b}[2J\r\u{202e}b"),
            format!("pb/node  build  {time}  a\\u{{1b}}[2J \\u{{202e}}b"),
        ),
    ];
    for (phase, command, progress, expected) in rows {
        let frame = frame_of_build(building(phase, command), progress);
        assert_eq!(line(&frame), expected);
        assert_eq!(lines(&frame, 10, 120)[0], "1 in progress");
    }
    let mut first = building("Running", Some("build"));
    first["history"] = Value::Null;
    assert_eq!(line(&frame_of_build(first, None)), "pb/node  build  90 s");
    let ended = frame_of_build(building("Succeeded", Some("build")), None);
    assert_eq!(lines(&ended, 10, 120), ["1 in progress"], "the run has ended");
}

#[test]
fn a_rollout_has_its_groups_its_nodes_and_what_it_waits_for() {
    let group = |name: &str, wave: &str, state: &str| json!({"name": name, "wave": wave, "state": state});
    let rolling = |state: &str, waves: Value, further: Value| {
        let nodes = json!([{"name": "web", "nodes": {"total": 5, "left": 2}}]);
        let mut rollout = json!({
            "id": "r", "target": "ami-1", "startedAt": "2026-01-02T00:00:00Z", "groups": nodes, "waves": waves,
        });
        rollout.as_object_mut().expect("a map").extend(further.as_object().expect("a map").clone());
        let groups =
            [group("a", "canary", "Current"), group("web", "prod", state), group("x", "prod", "Excluded")];
        json!({"conditions": [ready("False", "outside of its window until 22:00")], "nodeGroups": groups, "rollout": rollout})
    };
    let waves = |first: &str, second: &str, reason: Option<&str>| json!([{"name": "canary", "state": first}, {"name": "prod", "state": second, "reason": reason}]);
    let (none, back) = (json!({}), json!({"rollback": {"of": "q", "target": "ami-0"}}));
    let soak = r#"wave "canary" soaks until 12:00"#;
    let rows = [
        (
            rolling("Updating", waves("Done", "Updating", None), none.clone()),
            "updating  90 s  1/2 node groups, wave prod, web 3/5 nodes",
        ),
        (
            rolling("Updating", waves("Done", "Updating", None), back),
            "updating  90 s  rolling back, 1/2 node groups, wave prod, web 3/5 nodes",
        ),
        (
            rolling("Pending", waves("Soaking", "Waiting", Some(soak)), none.clone()),
            r#"soaking  90 s  1/2 node groups, wave "canary" soaks until 12:00"#,
        ),
        (
            rolling("Pending", waves("Done", "Waiting", Some("needs an approval")), none.clone()),
            "waiting  90 s  1/2 node groups, needs an approval",
        ),
        (
            rolling("Pending", Value::Null, none.clone()),
            "pending  90 s  1/2 node groups, outside of its window until 22:00",
        ),
    ];
    for (status, expected) in rows {
        assert_eq!(line(&frame_of_rollout(status)), format!("ar/team/node  {expected}"));
    }
    let mut blocked = rolling("Updating", Value::Null, none.clone());
    blocked["nodeGroups"][1]["reason"] = "budget default/web".into();
    blocked["rollout"]["groups"] = Value::Null;
    assert!(
        line(&frame_of_rollout(blocked)).ends_with("1/2 node groups, wave prod, web: budget default/web")
    );
    let ended = rolling("Current", Value::Null, json!({"finishedAt": NOW}));
    assert_eq!(lines(&frame_of_rollout(ended), 10, 120), ["1 not ready"]);
}

#[test]
fn objects_at_rest_are_one_line_and_one_that_needs_attention_has_its_own() {
    let mut frame = Frame::default();
    let suspended = json!({"type": "Suspended", "status": "True"});
    let rows = [
        (vec![ready("True", "")], None),
        (vec![ready("True", ""), suspended.clone()], None),
        (vec![ready("False", "m")], None),
        (vec![], None),
        (vec![ready("False", "")], Some(ObjectHealth::Failing)),
        (vec![ready("False", "")], Some(ObjectHealth::Waiting)),
        (vec![ready("True", ""), suspended], Some(ObjectHealth::Waiting)),
        (vec![ready("False", "no such\nregion"), json!({"type": "Stalled", "status": "True"})], None),
    ];
    for (conditions, health) in rows {
        let status = serde_json::from_value(json!({"conditions": conditions})).expect("a status");
        frame.add_builder(&object(Kind::PackerBuilder, "default"), &status, &BTreeMap::new(), health);
    }
    frame.count(ObjectHealth::Settled.into());
    let all = "2 in sync, 2 suspended, 1 waiting on purpose, 1 not ready, 1 failing, will be retried, \
               1 needing attention, 1 without status";
    assert_eq!(lines(&frame, 10, 200), [all, "pb/node  stalled  no such region"]);
    assert_eq!(lines(&Frame::default(), 10, 200), ["no objects yet"]);
    let end = summary([ObjectHealth::Settled, ObjectHealth::Stalled, ObjectHealth::Settled]);
    assert_eq!(end, "2 in sync, 1 needing attention (opsy status shows why)");
    assert_eq!(summary([]), "no objects in the repository");
}

#[test]
fn lines_are_aligned_and_fit_the_terminal() {
    let mut frame = Frame::default();
    let status = |phase: &str, command| serde_json::from_value(building(phase, command)).expect("a status");
    for (name, phase) in
        [("a", "Running"), ("a-very-long-name-of-a-builder", "Pending"), ("日本語", "Running")]
    {
        let object = ObjectKey {
            kind: Kind::PackerBuilder,
            key: Key { namespace: String::new(), name: name.to_owned() },
        };
        frame.add_builder(&object, &status(phase, Some("build")), &BTreeMap::new(), None);
    }
    let narrow = lines(&frame, 24, 57);
    let expected = [
        "3 in progress",
        "pb/a                 build    90 s (usually 12 min)",
        "pb/a-very-long-nam…  pending  90 s (usually 12 min)  wai…",
        "pb/日本語            build    90 s (usually 12 min)",
    ];
    assert_eq!(narrow, expected);
    assert!(narrow.iter().all(|line| measure_text_width(line) <= 57));
    assert_eq!(lines(&frame, 3, 57)[1..], ["pb/a  build  90 s (usually 12 min)", "… and 2 more"]);
    assert_eq!(lines(&frame, 2, 57), ["3 in progress", "… and 3 more"]);
    assert_eq!(lines(&frame, 1, 57), ["3 in progress"]);
    assert!(lines(&frame, 24, 5).iter().all(|line| measure_text_width(line) <= 5));
}
