//! Scenarios of a rollout in the simulated world.

use super::world::{Event, Mishap, World, image_id, reason};
use crate::api::{AMIRefresherStatus, Class};
use crate::engine::{ObjectHealth, Pass};
use crate::refresher::observed::Need;
use crate::refresher::outcome::{ActError, ActErrorKind};

pub fn starts(world: &World) -> usize {
    world.effects.iter().filter(|effect| **effect == "start update").count()
}

pub fn message(pass: &Pass<AMIRefresherStatus>) -> String {
    let conditions = pass.status.conditions.clone().unwrap_or_default();
    conditions.into_iter().find(|c| c.r#type == "Ready").and_then(|c| c.message).unwrap_or_default()
}

pub fn state_of(pass: &Pass<AMIRefresherStatus>, name: &str) -> String {
    let rows = pass.status.node_groups.clone().unwrap_or_default();
    rows.into_iter().find(|row| row.name == name).and_then(|row| row.state).unwrap_or_default()
}

/// Reconciles until an update is in progress.
pub fn until_updating(world: &mut World) {
    for _ in 0..20 {
        if world.groups.values().any(|group| group.running.is_some()) {
            return;
        }
        world.pass(Mishap::None);
    }
    panic!("no update was started: {:#?}", world.object.status);
}

#[test]
fn three_groups_go_one_by_one() {
    let mut world = World::new(3, false);
    world.happens(&Event::NewImage);
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Settled, "UpToDate"));
    assert_eq!(starts(&world), 3);
    assert_eq!(world.effects.iter().filter(|effect| **effect == "make version").count(), 3);
    let status = pass.status;
    assert_eq!(status.last_run_status.as_deref(), Some("Done"));
    assert_eq!(status.drifted, Some(0));
    assert_eq!(status.target_ami, Some(image_id(1).to_string()));
    assert_eq!(status.history.map(|history| history.len()), Some(1));
    assert_eq!(world.leaked(), Vec::<i64>::new());
}

#[test]
fn all_at_once_when_not_waiting_for_completion() {
    let mut world = World::new(3, true);
    world.happens(&Event::NewImage);
    for _ in 0..20 {
        world.pass(Mishap::None);
    }
    assert!(world.groups.values().all(|group| group.running.is_some()));
}

#[test]
fn a_settled_reconcile_reads_nothing_further() {
    let mut world = World::new(3, false);
    world.happens(&Event::NewImage);
    let rested = world.calm();
    let pass = world.pass(Mishap::None);
    assert_eq!(world.needs, Vec::new());
    assert_eq!(pass.status, rested.status);
    assert_eq!(pass.notes, Vec::new());
}

#[test]
fn only_the_group_whose_turn_it_is_is_read_again() {
    let mut world = World::new(4, false);
    world.shares = true;
    world.happens(&Event::NewImage);
    world.pass(Mishap::None);
    while starts(&world) < 4 {
        let pass = world.pass(Mishap::None);
        for need in &world.needs {
            if let Need::FreshGroups(names) = need {
                assert_eq!(names.len(), 1, "{:?}: {}", world.needs, message(&pass));
            }
        }
        world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
    }
    assert_eq!(world.calm().health, ObjectHealth::Settled);
}

#[test]
fn a_crash_at_any_point_leads_to_the_same_end() {
    for mishap in
        [Mishap::DiesBefore, Mishap::DiesAfter, Mishap::AnswerLost, Mishap::CallFails, Mishap::Stale]
    {
        for point in 0..25 {
            let mut world = World::new(2, false);
            world.happens(&Event::NewImage);
            for _ in 0..point {
                let pass = world.pass(Mishap::None);
                world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
            }
            world.pass(mishap);
            let pass = world.calm();
            assert_eq!(pass.health, ObjectHealth::Settled, "{mishap:?} at {point}");
            assert!(world.off().is_empty(), "{mishap:?} at {point}");
            assert_eq!(world.leaked(), Vec::<i64>::new(), "{mishap:?} at {point}");
            let updates = world.updates_to(&image_id(1));
            assert_eq!(updates, 2, "{mishap:?} at {point}: one update per group");
        }
    }
}

#[test]
fn a_failed_update_is_reported_remembered_and_not_repeated() {
    let mut world = World::new(3, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(1));
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    assert!(message(&pass).contains("group-1 could not be moved to ami-00000001"), "{}", message(&pass));
    assert!(message(&pass).contains("NodeCreationFailure: nodes did not join"), "{}", message(&pass));
    assert_eq!(state_of(&pass, "group-0"), "Current");
    assert_eq!(state_of(&pass, "group-1"), "Failed");
    assert_eq!(state_of(&pass, "group-2"), "Drifted", "the rest is not started");
    assert_eq!(pass.status.last_run_status.as_deref(), Some("Failed"));
    assert_eq!(starts(&world), 2);
    for _ in 0..10 {
        world.advance(3600);
        let again = world.pass(Mishap::None);
        assert_eq!(again.status, pass.status);
        assert_eq!(again.notes, Vec::new(), "reported once");
    }
    assert_eq!(starts(&world), 2);
}

#[test]
fn a_failed_update_is_retried_when_something_changes() {
    let changes: [fn(&mut World); 3] = [
        |world| {
            let config = world.object.spec.refresh_config.as_mut().expect("set");
            config.force = Some(true);
        },
        |world| world.happens(&Event::NewImage),
        |world| world.object.spec.exclude = Some(vec!["group-1".to_owned()]),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut world = World::new(3, false);
        world.happens(&Event::NewImage);
        world.happens(&Event::Spoil(1));
        world.calm();
        world.bad.clear();
        world.changed();
        change(&mut world);
        let pass = world.calm();
        assert_eq!(pass.health, ObjectHealth::Settled, "change {number}: {}", message(&pass));
        assert_eq!(state_of(&pass, "group-2"), "Current", "change {number}");
    }
}

#[test]
fn a_refused_update_leaves_no_version_behind() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.refuses = Some(ActError {
        class: Class::Invalid,
        message: "eks:UpdateNodegroupVersion: InvalidParameterException: no".to_owned(),
        kind: ActErrorKind::Other,
    });
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    assert!(message(&pass).contains("InvalidParameterException: no"), "{}", message(&pass));
    assert_eq!(world.versions_of_ours(), 0);
    assert_eq!(starts(&world), 1);
}

#[test]
fn suspending_finishes_what_runs_and_starts_nothing() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    until_updating(&mut world);
    world.object.spec.suspend = Some(true);
    let running = world.pass(Mishap::None);
    assert_eq!((running.health, reason(&running).as_str()), (ObjectHealth::Busy, "RollingOut"));
    world.advance(400);
    world.pass(Mishap::None);
    let pass = world.pass(Mishap::None);
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Waiting, "Suspended"));
    assert_eq!(state_of(&pass, "group-0"), "Current");
    assert_eq!(state_of(&pass, "group-1"), "Pending");
    assert_eq!(starts(&world), 1);
    assert_eq!(world.calm().health, ObjectHealth::Settled, "it continues once resumed");
}

#[test]
fn a_suspended_refresher_keeps_its_last_outcome_and_counts_what_drifts() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    let done = world.calm();
    let of = |pass: &Pass<AMIRefresherStatus>, kind: &str| {
        let found = pass.status.conditions.iter().flatten().find(|c| c.r#type == kind)?.clone();
        Some((found.status, found.reason?, found.message?))
    };
    world.object.spec.suspend = Some(true);
    world.happens(&Event::NewImage);
    let pass = world.pass(Mishap::None);
    assert_eq!((pass.health, of(&pass, "Ready")), (ObjectHealth::Waiting, of(&done, "Ready")));
    let message =
        "suspended by spec.suspend: 2 node groups not on the target image, nothing is changed".to_owned();
    assert_eq!(of(&pass, "Suspended"), Some(("True".to_owned(), "Spec".to_owned(), message)));
    let resumed = world.calm();
    assert_eq!((of(&resumed, "Suspended"), resumed.health), (None, ObjectHealth::Settled));
}

#[test]
fn disabled_reports_drift_and_changes_nothing() {
    let mut world = World::new(3, false);
    world.object.spec.refresh_config.as_mut().expect("set").enable = Some(false);
    world.happens(&Event::NewImage);
    let pass = world.pass(Mishap::None);
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Waiting, "Disabled"));
    assert_eq!(pass.status.drifted, Some(3));
    assert_eq!(pass.status.target_ami, Some(image_id(1).to_string()));
    assert_eq!(pass.status.rollout, None);
    assert!(world.effects.is_empty());
}

#[test]
fn a_newer_image_waits_until_the_rollout_is_done() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    until_updating(&mut world);
    world.happens(&Event::NewImage);
    let pass = world.pass(Mishap::None);
    assert_eq!(pass.status.target_ami, Some(image_id(1).to_string()));
    assert!(message(&pass).ends_with("; ami-00000002 is next"), "{}", message(&pass));
    let pass = world.calm();
    let targets: Vec<_> =
        pass.status.history.into_iter().flatten().map(|record| (record.target, record.result)).collect();
    let done = |number: usize| (image_id(number).to_string(), "Done".to_owned());
    assert_eq!(targets, [done(2), done(1)]);
    assert_eq!(starts(&world), 4);
}

#[test]
fn naming_another_image_replaces_the_rollout_once_its_update_ended() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    until_updating(&mut world);
    world.happens(&Event::Name(0));
    let pass = world.pass(Mishap::None);
    assert_eq!(pass.health, ObjectHealth::Busy, "an update in progress cannot be canceled");
    let pass = world.calm();
    assert_eq!(pass.health, ObjectHealth::Settled, "{}", message(&pass));
    assert!(world.off().is_empty());
    let results: Vec<_> = pass.status.history.into_iter().flatten().map(|record| record.result).collect();
    assert_eq!(results, ["Done", "Replaced"]);
    assert_eq!(starts(&world), 2, "group-1 was never moved away");
}

#[test]
fn a_group_deleted_halfway_is_dropped() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    until_updating(&mut world);
    world.happens(&Event::Delete(0));
    let pass = world.calm();
    assert_eq!(pass.health, ObjectHealth::Settled);
    assert_eq!(pass.status.node_groups.map(|rows| rows.len()), Some(1));
}

#[test]
fn an_update_by_another_writer_is_awaited() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Foreign(1));
    let pass = world.pass(Mishap::None);
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Busy, "WaitingForNodeGroup"));
    assert!(world.effects.is_empty());
    assert_eq!(world.calm().health, ObjectHealth::Settled);
}

#[test]
fn maxunavailable_is_set_before_the_move() {
    let mut world = World::new(1, false);
    world.happens(&Event::MaxUnavailable(3));
    world.happens(&Event::NewImage);
    assert_eq!(world.calm().health, ObjectHealth::Settled);
    assert_eq!(world.effects, ["configure", "make version", "start update"]);
    assert_eq!(world.groups["group-0"].seen.max_unavailable, Some(3));
}

#[test]
fn an_image_that_no_longer_exists_is_not_rolled_out() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    until_updating(&mut world);
    world.images.remove(&image_id(1));
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Waiting, "NoEligibleImage"));
    assert!(message(&pass).contains("ami-00000001 no longer exists"), "{}", message(&pass));
    assert_eq!(starts(&world), 1);
    assert_eq!(pass.status.last_run_status.as_deref(), Some("Failed"), "nothing replaced it");
}

#[test]
fn nothing_is_touched_when_nothing_can_be_read() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    let pass = world.pass(Mishap::Blind);
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Failing, "AwsUnavailable"));
    assert!(pass.failed.is_some());
    assert!(world.effects.is_empty());
}

#[test]
fn a_hundred_rollouts_leave_few_launch_template_versions() {
    let mut world = World::new(3, true);
    for _ in 0..100 {
        world.happens(&Event::NewImage);
        assert_eq!(world.calm().health, ObjectHealth::Settled);
    }
    let templates = world.templates.len();
    let most = 4 * templates + 1;
    assert!(
        world.versions_of_ours() <= most,
        "{} versions in {templates} templates",
        world.versions_of_ours()
    );
}
