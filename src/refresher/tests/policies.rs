//! Tables of `spec.rollout`: what is invalid, which wave a group belongs to, how many may be updated, and what is
//! approved.

use serde_json::{Value, json};

use super::tables::{object, parsed, target};
use crate::api::Class;
use crate::api::annotations::APPROVE;
use crate::aws::{ManagedNodegroup, Tags};
use crate::refresher::node_group::{Lifecycle, NodeGroup};
use crate::refresher::spec;

fn rollout(policy: Value) -> Value {
    json!({ "rollout": policy })
}

/// The only problem of a policy, without `spec.rollout.`, and its message.
fn problem(policy: &Value) -> (String, String) {
    let problems = spec::parse(&object(rollout(policy.clone()))).expect_err(&policy.to_string());
    let [(path, why)] = problems.as_slice() else { panic!("{policy}: {problems:?}") };
    (path.trim_start_matches("spec.rollout.").to_owned(), why.clone())
}

fn expect_problems(cases: &[(Value, &str, &str)]) {
    for (policy, path, message) in cases {
        let (found, why) = problem(policy);
        assert_eq!(found, *path, "{policy}: {why}");
        assert!(why.contains(message), "{policy}: {why}");
    }
}

#[test]
fn every_problem_of_a_wave_is_named_with_its_field_and_remedy() {
    let waves = |fields: Value| json!({ "waves": [fields] });
    let named = |name: &str| waves(json!({ "name": name, "nodeGroups": ["*"] }));
    let with = |field: &str, value: Value| waves(json!({ "name": "a", "nodeGroups": ["x"], field: value }));
    let twice =
        json!({ "waves": [{ "name": "a", "nodeGroups": ["x"] }, { "name": "a", "nodeGroups": ["y"] }] });
    expect_problems(&[
        (twice, "waves[1].name", "another wave is named \"a\" too: rename one of them"),
        (named(""), "waves[0].name", "is required"),
        (named("remaining"), "waves[0].name", "choose another name"),
        (named("a=b"), "waves[0].name", "\"a=b\" is not valid"),
        (waves(json!({ "name": "a" })), "waves[0]", "selects no node group: set nodeGroups, labels or tags"),
        (with("nodeGroups", json!(["[x"])), "waves[0].nodeGroups[0]", "is not a valid glob"),
        (with("soak", json!("1")), "waves[0].soak", "is not a duration"),
        (with("soak", json!("8d")), "waves[0].soak", "must be at most 7d"),
        (with("soak", json!("18446744073709551615s")), "waves[0].soak", "must be at most 7d"),
        (with("approval", json!("required")), "waves[0].approval", "did you mean Required?"),
        (with("maxParallel", json!(0)), "waves[0].maxParallel", "must be at least 1, but is 0"),
        (json!({ "maxParallel": -1 }), "maxParallel", "must be at least 1, but is -1"),
    ]);
}

#[test]
fn a_policy_has_no_more_entries_than_a_person_can_follow() {
    let freeze = json!({ "from": "2026-12-18", "to": "2026-12-20" });
    let window = json!({ "schedule": "0 9 * * *", "duration": "8h" });
    let waves: Vec<Value> =
        (0..51).map(|n| json!({ "name": format!("w{n}"), "nodeGroups": ["*"] })).collect();
    expect_problems(&[
        (json!({ "waves": waves }), "waves", "has 51 entries, but at most 50 are allowed"),
        (json!({ "windows": vec![window; 21] }), "windows", "has 21 entries"),
        (json!({ "freezes": vec![freeze; 101] }), "freezes", "has 101 entries"),
    ]);
}

#[test]
fn every_problem_of_a_window_or_freeze_is_named_with_its_field_and_remedy() {
    let window = |schedule: &str, duration: &str, zone: &str| json!({ "windows": [{ "schedule": schedule, "duration": duration, "timeZone": zone }] });
    let freeze = |from: &str, to: &str| json!({ "freezes": [{ "from": from, "to": to }] });
    let no_cron = "is not a cron expression";
    expect_problems(&[
        (window("", "1h", ""), "windows[0].schedule", "is required: for example 0 9 * * MON-FRI"),
        (window("0 9 * * *", "", ""), "windows[0].duration", "is required: for example 8h"),
        (window("0 9 * *", "1h", ""), "windows[0].schedule", "\"0 9 * *\" is not a cron expression"),
        (window("0 0 9 * * *", "1h", ""), "windows[0].schedule", no_cron),
        (window("0 25 * * *", "1h", ""), "windows[0].schedule", no_cron),
        (window("0 0 31 2 *", "1h", ""), "windows[0].schedule", "never occurs"),
        (window("0 9 * * *", "0s", ""), "windows[0].duration", "must be longer than zero"),
        (window("0 9 * * *", "-1h", ""), "windows[0].duration", "is not a duration"),
        (window("0 9 * * *", "1h", "Europe/Berln"), "windows[0].timeZone", "did you mean Europe/Berlin?"),
        (
            freeze("2026-12-20", "2026-12-18"),
            "freezes[0].to",
            "\"2026-12-18\" is not after `from` (2026-12-20)",
        ),
        (freeze("2026-12-20T10:00:00Z", "2026-12-20T10:00:00Z"), "freezes[0].to", "is not after `from`"),
        (freeze("Christmas", "2026-12-18"), "freezes[0].from", "\"Christmas\" is not a time: write one like"),
        (freeze("2026-12-20T10:00:00", "2026-12-21"), "freezes[0].from", "is not a time"),
        (freeze("2026-12-18", ""), "freezes[0].to", "is required"),
    ]);
}

#[test]
fn a_limit_comes_from_the_wave_then_the_rollout_then_wait_for_completion() {
    let wave = |limit: Option<i32>| json!({ "name": "a", "nodeGroups": ["a"], "maxParallel": limit });
    let all = usize::MAX;
    for (rollout, waits, expected) in [
        (json!({}), None, vec![1]),
        (json!({}), Some(true), vec![1]),
        (json!({}), Some(false), vec![all]),
        (json!({ "maxParallel": 3 }), Some(false), vec![3]),
        (json!({ "waves": [wave(None)] }), None, vec![1, 1]),
        (json!({ "waves": [wave(Some(2))] }), None, vec![2, 1]),
        (json!({ "waves": [wave(Some(2))] }), Some(false), vec![2, all]),
        (json!({ "maxParallel": 3, "waves": [wave(None)] }), None, vec![3, 3]),
    ] {
        let spec = parsed(json!({ "rollout": rollout, "refreshConfig": { "waitForCompletion": waits } }));
        let limits: Vec<usize> = spec.policy.waves.iter().map(|wave| wave.max_parallel).collect();
        assert_eq!(limits, expected, "{rollout} {waits:?}");
    }
}

fn group(name: &str, labels: &[(&str, &str)], tags: &[(&str, &str)]) -> NodeGroup {
    let pairs = |pairs: &[(&str, &str)]| -> Tags {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let read = ManagedNodegroup {
        name: name.to_owned(),
        labels: pairs(labels),
        tags: pairs(tags),
        ..ManagedNodegroup::default()
    };
    NodeGroup::managed(&read, true)
}

#[test]
fn a_group_belongs_to_the_first_wave_that_selects_it() {
    let spec = parsed(rollout(json!({ "waves": [
        { "name": "canary", "nodeGroups": ["canary", "web-?"], "labels": { "tier": "web" } },
        { "name": "tagged", "tags": { "env": "test", "team": "a" } },
        { "name": "web", "nodeGroups": ["web-*"] },
    ] })));
    let unreadable =
        |name: &str| NodeGroup::name_only(name, Lifecycle::Unreadable(Class::TRANSIENT, "no".into()));
    for (group, wave) in [
        (group("canary", &[("tier", "web")], &[]), "canary"),
        (group("web-1", &[("tier", "web"), ("x", "y")], &[]), "canary"),
        (group("web-1", &[("tier", "db")], &[]), "web"),
        (group("web-10", &[("tier", "web")], &[]), "web"),
        (group("db", &[], &[("env", "test"), ("team", "a")]), "tagged"),
        (group("db", &[], &[("env", "test")]), "remaining"),
        (group("db", &[("env", "test"), ("team", "a")], &[]), "remaining"),
        // A group that cannot be read may have any labels and tags.
        (unreadable("web-1"), "canary"),
        (unreadable("db"), "tagged"),
    ] {
        assert_eq!(spec.policy.wave_name(&group), Some(wave), "{group:?}");
    }
    assert_eq!(parsed(json!({})).policy.wave_name(&group("db", &[], &[])), None);
}

#[test]
fn each_image_of_a_target_must_be_approved() {
    let waves = json!({ "waves": [
        { "name": "canary", "nodeGroups": ["canary"] },
        { "name": "prod", "nodeGroups": ["prod"], "approval": "Required" },
    ] });
    let both = target(&[1, 2]);
    for (annotation, approved) in [
        ("", false),
        ("prod=ami-00000001", false),
        ("prod=ami-00000001,canary=ami-00000002", false),
        ("prod=ami-00000001, prod=ami-00000002", true),
        ("nonsense,prod=ami-00000001,prod=ami-00000002,prod=ami-00000003", true),
    ] {
        let mut object = object(rollout(waves.clone()));
        object.metadata.annotations = Some([(APPROVE.to_owned(), annotation.to_owned())].into());
        let policy = spec::parse(&object).expect("valid").policy;
        let all: Vec<bool> = policy.waves.iter().map(|wave| policy.is_approved(wave, &both)).collect();
        assert_eq!(all, [true, approved, true], "{annotation}");
    }
}
