//! Scenarios in the simulated world with obstacles from outside: refusals, DEGRADED groups, other writers, updates
//! whose result differs from what the group shows.

use super::scenarios::{message, starts, state_of, until_updating};
use super::world::{Event, Mishap, World, image_id, reason};
use crate::api::AMIRefresherStatus;
use crate::engine::{ObjectHealth, Pass};
use crate::refresher::outcome::ActErrorKind;

/// Reconciles, each when the previous one requested it, while `goes_on` returns true.
fn reconcile_while(
    world: &mut World,
    goes_on: impl Fn(&Pass<AMIRefresherStatus>) -> bool,
) -> Pass<AMIRefresherStatus> {
    for _ in 0..600 {
        let pass = world.pass(Mishap::None);
        if !goes_on(&pass) {
            return pass;
        }
        world.advance(i64::try_from(pass.look.as_secs()).expect("short").max(1));
    }
    panic!("does not end: {:#?}", world.object.status);
}

fn busy(pass: &Pass<AMIRefresherStatus>) -> bool {
    pass.health == ObjectHealth::Busy
}

fn results(pass: &Pass<AMIRefresherStatus>) -> Vec<String> {
    pass.status.history.iter().flatten().map(|record| record.result.clone()).collect()
}

#[test]
fn a_refused_group_does_not_delay_the_others_and_becomes_a_failure_after_15_minutes() {
    let mut world = World::new(3, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, ActErrorKind::Uncertain));
    let first = reconcile_while(&mut world, busy);
    assert_eq!(
        (first.health, reason(&first).as_str()),
        (ObjectHealth::Failing, "UpdateRefused"),
        "{}",
        message(&first)
    );
    assert!(
        message(&first).contains("group-0") && message(&first).contains("too small"),
        "{}",
        message(&first)
    );
    assert_eq!(
        (state_of(&first, "group-0"), state_of(&first, "group-1")),
        ("Pending".into(), "Current".into())
    );
    assert_eq!(state_of(&first, "group-2"), "Current");
    let last =
        reconcile_while(&mut world, |pass| matches!(pass.health, ObjectHealth::Busy | ObjectHealth::Failing));
    assert_eq!((last.health, reason(&last).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    assert!(message(&last).contains("group-0 could not be moved to ami-00000001"), "{}", message(&last));
    assert!(message(&last).contains("ami.opsy.dev/retry: ami-00000001"), "{}", message(&last));
    let tries = starts(&world);
    assert!((4..=14).contains(&tries), "{tries} calls");
    world.advance(86_400);
    world.pass(Mishap::None);
    assert_eq!(starts(&world), tries, "not retried");
    assert_eq!(world.versions_of_ours(), 2, "the version of the refused update is deleted");
}

#[test]
fn a_template_that_was_fixed_while_a_group_was_blocked_keeps_the_fix() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, ActErrorKind::Other));
    let blocked = reconcile_while(&mut world, busy);
    assert_eq!(reason(&blocked), "AwsDenied");
    // Another writer moves the group to a version that was created by hand, with the same image.
    world.happens(&Event::Foreign(0));
    world.advance(1200);
    world.happens(&Event::Accept(0));
    reconcile_while(&mut world, |pass| state_of(pass, "group-0") != "Current");
    let version = world.groups["group-0"].seen.launch_template.clone().expect("a template").version;
    let source = world.sources[&version.parse::<i64>().expect("a number")].clone();
    let number: i64 = source.parse().expect("a number");
    let source = world.templates.values().flatten().find(|(_, version)| version.number == number);
    assert_eq!(source.expect("it exists").1.description.as_deref(), Some("by hand"));
}

#[test]
fn a_denied_group_is_named_and_delays_no_other() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, ActErrorKind::Other));
    let pass = reconcile_while(&mut world, busy);
    assert_eq!(
        (pass.health, reason(&pass).as_str()),
        (ObjectHealth::Failing, "AwsDenied"),
        "{}",
        message(&pass)
    );
    assert_eq!(state_of(&pass, "group-1"), "Current");
    let tries = starts(&world);
    world.happens(&Event::Accept(0));
    assert_eq!(world.calm().health, ObjectHealth::Settled, "it continues once it is allowed");
    assert_eq!(starts(&world), tries + 1);
}

#[test]
fn a_version_that_eks_does_not_find_yet_is_awaited() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, ActErrorKind::MissingVersion));
    for _ in 0..8 {
        let pass = world.pass(Mishap::None);
        assert_eq!(pass.health, ObjectHealth::Busy, "{}", message(&pass));
    }
    assert_eq!(world.calm().health, ObjectHealth::Settled);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, ActErrorKind::MissingVersion));
    let pass = reconcile_while(&mut world, busy);
    assert_eq!(
        (pass.health, reason(&pass).as_str()),
        (ObjectHealth::Stalled, "UpdateFailed"),
        "it never becomes visible"
    );
}

#[test]
fn a_newer_image_replaces_a_rollout_with_only_refused_or_degraded_groups_left() {
    for degraded in [false, true] {
        let mut world = World::new(2, false);
        world.degraded_accepts = false;
        world.happens(&Event::NewImage);
        world.happens(&if degraded { Event::Degrade(0) } else { Event::Refuse(0, ActErrorKind::Uncertain) });
        let stuck = reconcile_while(&mut world, busy);
        let word = if degraded { "NodeGroupDegraded" } else { "UpdateRefused" };
        assert_eq!(reason(&stuck), word, "{}", message(&stuck));
        world.happens(&Event::NewImage);
        world.happens(&Event::Accept(0));
        world.happens(&Event::Repair(0));
        if degraded {
            world.happens(&Event::Degrade(0));
        }
        let pass =
            reconcile_while(&mut world, |pass| pass.status.target_ami != Some(image_id(2).to_string()));
        assert_eq!(results(&pass).first().map(String::as_str), Some("Replaced"), "degraded {degraded}");
        let pass = world.calm();
        assert_eq!(pass.health, ObjectHealth::Settled, "{}", message(&pass));
        assert!(world.off().is_empty());
    }
}

#[test]
fn a_degraded_group_is_tried_last_and_delays_no_other() {
    let mut world = World::new(3, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Degrade(0));
    let pass = reconcile_while(&mut world, busy);
    assert_eq!(
        (pass.health, reason(&pass).as_str()),
        (ObjectHealth::Settled, "UpToDate"),
        "{}",
        message(&pass)
    );
    let order: Vec<&str> = world.started.iter().map(String::as_str).collect();
    assert_eq!(order, ["group-1", "group-2", "group-0"]);
}

#[test]
fn a_degraded_group_that_eks_does_not_update_is_named_when_all_others_are_done() {
    let mut world = World::new(2, false);
    world.degraded_accepts = false;
    world.happens(&Event::NewImage);
    world.happens(&Event::Degrade(0));
    let pass = reconcile_while(&mut world, busy);
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "NodeGroupDegraded"));
    let words = message(&pass);
    assert!(words.contains("group-0 (AsgInstanceLaunchFailures: no capacity)"), "{words}");
    assert_eq!(state_of(&pass, "group-1"), "Current");
    let tries = starts(&world);
    for _ in 0..48 {
        world.advance(1800);
        world.pass(Mishap::None);
    }
    assert!(starts(&world) - tries <= 26, "retried about once per hour");
    assert_eq!(world.calm().health, ObjectHealth::Settled, "it continues once repaired");
}

#[test]
fn a_degraded_group_on_the_target_is_reported_and_stops_nothing() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.calm();
    world.happens(&Event::Degrade(0));
    let pass = world.pass(Mishap::None);
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Settled, "UpToDate"));
    assert!(message(&pass).contains("group-0 is DEGRADED: AsgInstanceLaunchFailures"), "{}", message(&pass));
}

#[test]
fn an_update_that_failed_is_a_failure_even_where_eks_shows_the_new_version() {
    let mut world = World::new(1, false);
    world.keeps = true;
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(0));
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    assert!(message(&pass).contains("nodes may be mixed"), "{}", message(&pass));
    assert_eq!(state_of(&pass, "group-0"), "Failed");
    world.bad.clear();
    world.happens(&Event::Ask);
    let pass = world.calm();
    assert_eq!(pass.health, ObjectHealth::Settled, "{}", message(&pass));
    assert_eq!(starts(&world), 2);
}

#[test]
fn a_requested_retry_is_tried_once() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(0));
    assert_eq!(reason(&world.calm()), "UpdateFailed");
    world.happens(&Event::Ask);
    assert_eq!(reason(&world.calm()), "UpdateFailed", "the cause persists");
    assert_eq!(starts(&world), 2, "once");
    world.bad.clear();
    world.happens(&Event::Ask);
    assert_eq!(world.calm().health, ObjectHealth::Settled);
}

#[test]
fn a_requested_retry_ends_the_pause_after_a_refusal() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, ActErrorKind::Other));
    reconcile_while(&mut world, busy);
    world.happens(&Event::Accept(0));
    world.happens(&Event::Ask);
    let pass = reconcile_while(&mut world, |pass| pass.look.as_secs() == 0);
    assert_eq!(
        (pass.health, reason(&pass).as_str()),
        (ObjectHealth::Busy, "RollingOut"),
        "{}",
        message(&pass)
    );
}

/// Another writer restores its own version, and its update ends.
fn undo(world: &mut World, after: i64) {
    world.advance(after);
    world.happens(&Event::Foreign(0));
    world.advance(400);
}

#[test]
fn another_writer_is_reported_at_once_and_the_second_time_in_a_day_the_refresher_stalls() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.calm();
    let tags = &mut world.groups.get_mut("group-0").expect("a group").seen.tags;
    tags.insert("aws:cloudformation:stack-name".to_owned(), "nodes".to_owned());
    undo(&mut world, 400);
    let first = world.pass(Mishap::None);
    let note =
        first.notes.iter().find(|note| note.reason == "AnotherWriter").expect("reported the first time");
    for part in
        ["ami-00000001 (launch template version 2)", "back on ami-00000000 (version 3)", "stack nodes"]
    {
        assert!(note.message.contains(part), "{part}: {}", note.message);
    }
    assert_eq!(world.calm().health, ObjectHealth::Settled, "it is moved again");
    undo(&mut world, 25 * 3600);
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "AnotherWriter"));
    let words = message(&pass);
    assert!(words.contains("back on ami-00000000 (version 5)") && words.contains("found 2 times"), "{words}");
    assert_eq!(starts(&world), 2);
    world.advance(27 * 3600);
    assert_eq!(world.calm().health, ObjectHealth::Settled, "a day later it is moved again");
}

#[test]
fn another_writer_every_other_night_is_reported_each_time_and_stalls_it_within_a_week() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.calm();
    let mut notes = 0;
    for night in 0..3 {
        undo(&mut world, 40 * 3600);
        let pass = world.pass(Mishap::None);
        notes += pass.notes.iter().filter(|note| note.reason == "AnotherWriter").count();
        let stalled = world.calm().health == ObjectHealth::Stalled;
        assert_eq!(stalled, night == 2, "night {night}");
    }
    assert_eq!((notes, starts(&world)), (3, 3));
    world.happens(&Event::Ask);
    assert_eq!(world.calm().health, ObjectHealth::Settled, "a person confirmed that it is resolved");
}

#[test]
fn an_overdue_update_is_reported_once_with_its_id() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    until_updating(&mut world);
    let group = world.groups.get_mut("group-0").expect("a group");
    group.running.as_mut().expect("it runs").ends += std::time::Duration::from_secs(100 * 3600);
    let mut notes = Vec::new();
    for _ in 0..26 {
        world.advance(3600);
        let pass = world.pass(Mishap::None);
        notes.extend(pass.notes.into_iter().filter(|note| note.reason == "UpdateOverdue"));
    }
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].message.contains("update-1") && notes[0].message.contains("since 2026-01-01T00:00"),
        "{notes:?}"
    );
    let pass = world.pass(Mishap::None);
    assert!(message(&pass).contains("longer than expected (update update-1)"), "{}", message(&pass));
}

#[test]
fn while_an_update_runs_only_its_group_is_read() {
    let mut world = World::new(3, false);
    world.happens(&Event::NewImage);
    until_updating(&mut world);
    world.advance(10);
    let pass = world.pass(Mishap::None);
    assert_eq!(world.needs, Vec::new(), "nothing further was read");
    assert_eq!(pass.status.node_groups.map(|rows| rows.len()), Some(3), "the rows of the others stay");
}
