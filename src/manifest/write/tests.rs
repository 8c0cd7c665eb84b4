//! Status files and `amis.json` as they are rendered and parsed.

mod read_back;

use insta::assert_snapshot;

use super::*;
use crate::api::builder::{InputsRecord, JobFacts, RunRecord, SweepRecord};
use crate::api::conditions::{self, NOTIFIED, PUBLISHED, Phase, set_phase};
use crate::api::notifier::Notification;
use crate::api::refresher::{Rollout, RolloutGroup, RolloutWave};

fn key() -> Key {
    Key { namespace: "default".to_owned(), name: "node".to_owned() }
}

fn at(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_750_000_000 + second).unwrap()
}

fn conditions(phase: Phase, second: i64) -> Option<Vec<Condition>> {
    let mut all = Vec::new();
    set_phase(&mut all, phase, "Because", "text that changes", Some(second), at(second));
    conditions::set(&mut all, PUBLISHED, "True", "Pushed", "", None, at(second));
    Some(all)
}

fn image(region: &str, architecture: &str, id: &str) -> LaneImage {
    LaneImage {
        region: region.to_owned(),
        architecture: architecture.to_owned(),
        id: id.to_owned(),
        ..LaneImage::default()
    }
}

fn built(phase: Phase, second: i64) -> PackerBuilderStatus {
    PackerBuilderStatus {
        state: Some("present".to_owned()),
        build_id: Some("0123456789abcdef".to_owned()),
        conditions: conditions(phase, second),
        job_name: Some("run".to_owned()),
        last_run: Some(at(0)),
        last_run_built_image_id: Some("ami-0123456789abcdef0".to_owned()),
        observed_generation: Some(second),
        images: Some(vec![image("us-east-1", "x86_64", "ami-0123456789abcdef0")]),
        inputs: Some(InputsRecord { base_ami: Some("ami-00000000".to_owned()), ..Default::default() }),
        history: Some(vec![RunRecord {
            id: "0123456789abcdef".to_owned(),
            result: "Succeeded".to_owned(),
            ended_at: Some(at(0)),
            ..Default::default()
        }]),
        sweeps: Some(vec![SweepRecord { id: "x".to_owned(), due: Some(at(second)), ..Default::default() }]),
        ..Default::default()
    }
}

fn file(status: PackerBuilderStatus, previous: Option<&str>) -> String {
    status_file(&key(), &ObjectStatus::PackerBuilder(Box::new(status)), previous).unwrap()
}

#[test]
fn a_builder_file_holds_outcomes() {
    assert_snapshot!(file(built(Phase::Ready, 0), None), @r##"
    # Written by Opsy. Changes are overwritten.
    apiVersion: ami.opsy.dev/v1alpha1
    kind: PackerBuilder
    metadata:
      namespace: default
      name: node
    status:
      state: present
      conditions:
      - type: Ready
        status: "True"
        reason: Because
      lastRun: "2025-06-15T15:06:40Z"
      lastRunBuiltImageID: ami-0123456789abcdef0
      images:
      - region: us-east-1
        architecture: x86_64
        id: ami-0123456789abcdef0
      inputs:
        baseAMI: ami-00000000
      history:
      - id: 0123456789abcdef
        result: Succeeded
        endedAt: "2025-06-15T15:06:40Z"
    "##);
}

#[test]
fn a_builder_file_changes_with_outcomes_only() {
    let first = file(built(Phase::Ready, 0), None);
    assert_eq!(file(built(Phase::Ready, 60), Some(&first)), first, "time passes");
    let mut busy = built(Phase::Reconciling, 60);
    busy.state = Some("running".to_owned());
    busy.build_id = Some("fedcba9876543210".to_owned());
    assert_eq!(file(busy, Some(&first)), first, "a build runs");
    let mut blind = built(Phase::NotReady, 90);
    blind.images = None;
    assert_eq!(file(blind, Some(&first)), first, "a read failed");
    let mut failed = built(Phase::NotReady, 100);
    for condition in failed.conditions.iter_mut().flatten() {
        condition.reason = Some("BuildFailed".to_owned());
    }
    let failed = file(failed, Some(&first));
    assert!(failed.contains("status: \"False\"\n    reason: BuildFailed"), "a build failed: {failed}");
    assert!(!failed.contains("text that changes") && failed.contains("ami-0123456789abcdef0"), "{failed}");
    let stalled = file(built(Phase::Stalled, 120), Some(&first));
    assert!(stalled.contains("type: Stalled") && stalled.contains("text that changes"), "{stalled}");
    assert_eq!(file(built(Phase::Ready, 180), Some(&stalled)), first, "and recovered");
}

#[test]
fn a_refresher_file_keeps_its_rollout_and_not_its_progress() {
    let group = |name: &str, state: &str| NodeGroupStatus {
        name: name.to_owned(),
        current_ami: Some("ami-11111111".to_owned()),
        state: Some(state.to_owned()),
        update_id: Some("u-1".to_owned()),
        started_at: Some(at(0)),
        ..Default::default()
    };
    let rollout = Rollout {
        id: "r1".to_owned(),
        target: "ami-22222222".to_owned(),
        groups: Some(vec![RolloutGroup {
            name: "a".to_owned(),
            previous_version: Some("3".to_owned()),
            ..Default::default()
        }]),
        waves: Some(vec![RolloutWave { name: "canary".to_owned(), ..Default::default() }]),
        ..Default::default()
    };
    let status = AMIRefresherStatus {
        conditions: conditions(Phase::Reconciling, 0),
        target_ami: Some("ami-22222222".to_owned()),
        drifted: Some(2),
        node_groups: Some(vec![group("a", "Updating"), group("b", "Current")]),
        rollout: Some(rollout),
        ..Default::default()
    };
    let write = |status: &AMIRefresherStatus, previous: Option<&str>| {
        status_file(&key(), &ObjectStatus::AMIRefresher(Box::new(status.clone())), previous).unwrap()
    };
    let first = write(&status, None);
    assert_snapshot!(first, @r##"
    # Written by Opsy. Changes are overwritten.
    apiVersion: ami.opsy.dev/v1alpha1
    kind: AMIRefresher
    metadata:
      namespace: default
      name: node
    status:
      targetAMI: ami-22222222
      drifted: 2
      nodeGroups:
      - name: a
        currentAMI: ami-11111111
      - name: b
        currentAMI: ami-11111111
        state: Current
        startedAt: "2025-06-15T15:06:40Z"
      rollout:
        id: r1
        target: ami-22222222
        groups:
        - name: a
          previousVersion: "3"
    "##);
    let mut ended = status.clone();
    ended.rollout.as_mut().expect("a rollout").finished_at = Some(at(60));
    assert!(write(&ended, Some(&first)).ends_with("    waves:\n    - name: canary\n"));
    let mut blind = status.clone();
    blind.node_groups = Some(vec![NodeGroupStatus { current_ami: None, ..group("b", "Unknown") }]);
    assert!(write(&blind, Some(&first)).contains("currentAMI: ami-11111111"));
    blind.node_groups = None;
    assert_eq!(write(&blind, Some(&first)), first);
}

#[test]
fn an_unchanged_file_that_is_not_parsed_is_what_it_would_be_if_it_were() {
    let group = |state: &str| NodeGroupStatus {
        name: "a".to_owned(),
        state: Some(state.to_owned()),
        ..NodeGroupStatus::default()
    };
    let refresher = |phase: Phase, state: &str, target: Option<&str>| AMIRefresherStatus {
        conditions: conditions(phase, 1),
        node_groups: Some(vec![group(state), NodeGroupStatus { name: "b".to_owned(), ..group(UNKNOWN) }]),
        target_ami: target.map(str::to_owned),
        ..AMIRefresherStatus::default()
    };
    let builders = [
        PackerBuilderStatus::default(),
        built(Phase::Ready, 1),
        built(Phase::Reconciling, 2),
        PackerBuilderStatus { images: None, ..built(Phase::Reconciling, 3) },
        PackerBuilderStatus { images: None, history: None, ..built(Phase::Stalled, 4) },
    ];
    let refreshers = [
        AMIRefresherStatus::default(),
        refresher(Phase::Ready, "Current", Some("ami-1")),
        refresher(Phase::Reconciling, GroupState::Updating.as_str(), None),
        refresher(Phase::Reconciling, UNKNOWN, None),
    ];
    let all = builders.into_iter().map(|status| ObjectStatus::PackerBuilder(Box::new(status)));
    let all = all.chain(refreshers.into_iter().map(|status| ObjectStatus::AMIRefresher(Box::new(status))));
    let all: Vec<_> = all.collect();
    for now in &all {
        for before in &all {
            let previous = status_file(&key(), before, None).unwrap();
            let parsed = read_status_file(&previous).unwrap().1;
            let file = status_file(&key(), now, Some(&previous)).unwrap();
            assert_eq!(file, render(&key(), now, Some(parsed)).unwrap());
            assert_eq!(status_file(&key(), now, Some(&file)).unwrap(), file, "it stays as it is");
        }
        let alone = status_file(&key(), now, None).unwrap();
        assert_eq!(status_file(&key(), now, Some("not a status file")).unwrap(), alone);
    }
}

#[test]
fn what_was_told_to_whom_is_no_outcome() {
    let told = |ts: &str| {
        let thread = "build/0123456789abcdef".to_owned();
        let to = "slack/C0123456789".to_owned();
        Some(vec![Notification { to, thread, message_id: Some(ts.to_owned()), ..Default::default() }])
    };
    let untold = |conditions: &mut Option<Vec<Condition>>| {
        let conditions = conditions.get_or_insert_default();
        conditions::set(conditions, NOTIFIED, "False", "SlackChannelArchived", "words", None, at(9));
    };
    let quiet = file(built(Phase::Ready, 0), None);
    for ts in ["1700000000.000100", "1700000000.000200"] {
        let mut status = PackerBuilderStatus { notifications: told(ts), ..built(Phase::Ready, 0) };
        untold(&mut status.conditions);
        assert_eq!(file(status.clone(), Some(&quiet)), quiet);
        assert_eq!(file(status, None), quiet);
    }
    let refresher = AMIRefresherStatus {
        conditions: conditions(Phase::Ready, 0),
        target_ami: Some("ami-22222222".to_owned()),
        ..Default::default()
    };
    let write = |status: &AMIRefresherStatus, previous: Option<&str>| {
        status_file(&key(), &ObjectStatus::AMIRefresher(Box::new(status.clone())), previous).unwrap()
    };
    let quiet = write(&refresher, None);
    let mut status = AMIRefresherStatus { notifications: told("1700000000.000100"), ..refresher };
    untold(&mut status.conditions);
    assert_eq!((write(&status, None), write(&status, Some(&quiet))), (quiet.clone(), quiet));
}

#[test]
fn amis_are_merged_builder_by_builder() {
    let previous = br#"{"z/other": {"eu-west-1": {"arm64": "ami-9"}}, "default/gone": {}, "default/node": {"old": {"x86_64": "ami-1"}}, "default/blind": {"a": {"b": "c"}}}"#;
    let updates = BTreeMap::from([
        (
            key(),
            AmiUpdate::Images(vec![
                image("us-east-1", "x86_64", "ami-2"),
                image("us-east-1", "arm64", "ami-3"),
                image("eu-west-1", "arm64", "ami-4"),
            ]),
        ),
        (Key { name: "gone".to_owned(), ..key() }, AmiUpdate::Removed),
        (Key { name: "blind".to_owned(), ..key() }, AmiUpdate::Images(Vec::new())),
    ]);
    let text = amis_json(Some(previous), &updates).unwrap();
    assert_snapshot!(String::from_utf8(text.clone()).unwrap(), @r#"
    {
      "default/blind": {
        "a": {
          "b": "c"
        }
      },
      "default/node": {
        "eu-west-1": {
          "arm64": "ami-4"
        },
        "us-east-1": {
          "arm64": "ami-3",
          "x86_64": "ami-2"
        }
      },
      "z/other": {
        "eu-west-1": {
          "arm64": "ami-9"
        }
      }
    }
    "#);
    assert_eq!(amis_json(Some(&text), &updates).unwrap(), text, "a repeated update changes nothing");
    assert_eq!(amis_json(None, &BTreeMap::new()).unwrap(), b"{}\n");
}

#[test]
fn a_broken_amis_file_is_never_overwritten() {
    for text in ["", "[", "[]", "5", "{\"a\": 1,}"] {
        assert!(amis_json(Some(text.as_bytes()), &BTreeMap::new()).is_err(), "{text}");
    }
}
