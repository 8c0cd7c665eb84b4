//! What stands in a rollout's way from outside, told one story at a time: refusals, DEGRADED groups, other
//! writers, updates that end otherwise than they look.

use super::scenarios::{message, starts, state_of, until_updating};
use super::world::{Event, Mishap, World, image_id, reason};
use crate::api::AMIRefresherStatus;
use crate::engine::{Pass, Standing};
use crate::refresher::act::Failure;

/// Passes with time going by as each asks, as long as `goes_on` says.
fn while_(
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
    panic!("goes on for ever: {:#?}", world.object.status);
}

fn busy(pass: &Pass<AMIRefresherStatus>) -> bool {
    pass.standing == Standing::Busy
}

fn results(pass: &Pass<AMIRefresherStatus>) -> Vec<String> {
    pass.status.history.iter().flatten().map(|record| record.result.clone()).collect()
}

#[test]
fn a_refused_group_does_not_delay_the_others_and_becomes_a_failure_after_15_minutes() {
    let mut world = World::new(3, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, Failure::Unsure));
    let first = while_(&mut world, busy);
    assert_eq!(
        (first.standing, reason(&first).as_str()),
        (Standing::Failing, "UpdateRefused"),
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
    let last = while_(&mut world, |pass| matches!(pass.standing, Standing::Busy | Standing::Failing));
    assert_eq!((last.standing, reason(&last).as_str()), (Standing::Stalled, "UpdateFailed"));
    assert!(message(&last).contains("group-0 could not be moved to ami-00000001"), "{}", message(&last));
    assert!(message(&last).contains("ami.opsy.dev/retry: ami-00000001"), "{}", message(&last));
    let tries = starts(&world);
    assert!((4..=14).contains(&tries), "{tries} calls");
    world.advance(86_400);
    world.pass(Mishap::None);
    assert_eq!(starts(&world), tries, "not tried again");
    assert_eq!(world.versions_of_ours(), 2, "the version of the refused update is deleted");
}

#[test]
fn a_template_that_was_fixed_while_a_group_was_held_keeps_the_fix() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, Failure::Other));
    let held = while_(&mut world, busy);
    assert_eq!(reason(&held), "AwsDenied");
    // The group goes to a version of its own template that somebody made, and that has the same image.
    world.happens(&Event::Foreign(0));
    world.advance(1200);
    world.happens(&Event::Accept(0));
    while_(&mut world, |pass| state_of(pass, "group-0") != "Current");
    let version = world.groups["group-0"].seen.launch_template.clone().expect("a template").version;
    let source = world.sources[&version.parse::<i64>().expect("a number")].clone();
    let number: i64 = source.parse().expect("a number");
    let made =
        world.templates.values().flatten().find(|(_, made)| made.number == number).expect("it is there");
    assert_eq!(made.1.description.as_deref(), Some("by hand"));
}

#[test]
fn a_denied_group_is_named_and_delays_no_other() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, Failure::Other));
    let pass = while_(&mut world, busy);
    assert_eq!(
        (pass.standing, reason(&pass).as_str()),
        (Standing::Failing, "AwsDenied"),
        "{}",
        message(&pass)
    );
    assert_eq!(state_of(&pass, "group-1"), "Current");
    let tries = starts(&world);
    world.happens(&Event::Accept(0));
    assert_eq!(world.calm().standing, Standing::Settled, "it goes on once it is allowed");
    assert_eq!(starts(&world), tries + 1);
}

#[test]
fn a_version_that_eks_does_not_see_yet_is_waited_for() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, Failure::MissingVersion));
    for _ in 0..8 {
        let pass = world.pass(Mishap::None);
        assert_eq!(pass.standing, Standing::Busy, "{}", message(&pass));
    }
    assert_eq!(world.calm().standing, Standing::Settled);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, Failure::MissingVersion));
    let pass = while_(&mut world, busy);
    assert_eq!(
        (pass.standing, reason(&pass).as_str()),
        (Standing::Stalled, "UpdateFailed"),
        "it never comes"
    );
}

#[test]
fn a_newer_image_replaces_a_rollout_of_which_only_refused_and_degraded_groups_are_left() {
    for degraded in [false, true] {
        let mut world = World::new(2, false);
        world.degraded_accepts = false;
        world.happens(&Event::NewImage);
        world.happens(&if degraded { Event::Degrade(0) } else { Event::Refuse(0, Failure::Unsure) });
        let stuck = while_(&mut world, busy);
        let word = if degraded { "NodeGroupDegraded" } else { "UpdateRefused" };
        assert_eq!(reason(&stuck), word, "{}", message(&stuck));
        world.happens(&Event::NewImage);
        world.happens(&Event::Accept(0));
        world.happens(&Event::Repair(0));
        if degraded {
            world.happens(&Event::Degrade(0));
        }
        let pass = while_(&mut world, |pass| pass.status.target_ami != Some(image_id(2).to_string()));
        assert_eq!(results(&pass).first().map(String::as_str), Some("Replaced"), "degraded {degraded}");
        let pass = world.calm();
        assert_eq!(pass.standing, Standing::Settled, "{}", message(&pass));
        assert!(world.off().is_empty());
    }
}

#[test]
fn a_degraded_group_is_tried_last_and_delays_no_other() {
    let mut world = World::new(3, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Degrade(0));
    let pass = while_(&mut world, busy);
    assert_eq!(
        (pass.standing, reason(&pass).as_str()),
        (Standing::Settled, "UpToDate"),
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
    let pass = while_(&mut world, busy);
    assert_eq!((pass.standing, reason(&pass).as_str()), (Standing::Stalled, "NodeGroupDegraded"));
    let words = message(&pass);
    assert!(words.contains("group-0 (AsgInstanceLaunchFailures: no capacity)"), "{words}");
    assert_eq!(state_of(&pass, "group-1"), "Current");
    let tries = starts(&world);
    for _ in 0..48 {
        world.advance(1800);
        world.pass(Mishap::None);
    }
    assert!(starts(&world) - tries <= 26, "tried about once an hour");
    assert_eq!(world.calm().standing, Standing::Settled, "it goes on once repaired");
}

#[test]
fn a_degraded_group_on_the_target_is_reported_and_stops_nothing() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.calm();
    world.happens(&Event::Degrade(0));
    let pass = world.pass(Mishap::None);
    assert_eq!((pass.standing, reason(&pass).as_str()), (Standing::Settled, "UpToDate"));
    assert!(message(&pass).contains("group-0 is DEGRADED: AsgInstanceLaunchFailures"), "{}", message(&pass));
}

#[test]
fn an_update_that_failed_is_a_failure_even_where_eks_shows_the_new_version() {
    let mut world = World::new(1, false);
    world.keeps = true;
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(0));
    let pass = world.calm();
    assert_eq!((pass.standing, reason(&pass).as_str()), (Standing::Stalled, "UpdateFailed"));
    assert!(message(&pass).contains("nodes may be mixed"), "{}", message(&pass));
    assert_eq!(state_of(&pass, "group-0"), "Failed");
    world.bad.clear();
    world.happens(&Event::Ask);
    let pass = world.calm();
    assert_eq!(pass.standing, Standing::Settled, "{}", message(&pass));
    assert_eq!(starts(&world), 2);
}

#[test]
fn what_failed_is_tried_again_once_when_a_person_asks() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(0));
    assert_eq!(reason(&world.calm()), "UpdateFailed");
    world.happens(&Event::Ask);
    assert_eq!(reason(&world.calm()), "UpdateFailed", "the cause is still there");
    assert_eq!(starts(&world), 2, "once");
    world.bad.clear();
    world.happens(&Event::Ask);
    assert_eq!(world.calm().standing, Standing::Settled);
}

#[test]
fn asking_again_ends_the_wait_after_a_refusal() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.happens(&Event::Refuse(0, Failure::Other));
    while_(&mut world, busy);
    world.happens(&Event::Accept(0));
    world.happens(&Event::Ask);
    let pass = while_(&mut world, |pass| pass.look.as_secs() == 0);
    assert_eq!((pass.standing, reason(&pass).as_str()), (Standing::Busy, "RollingOut"), "{}", message(&pass));
}

/// Another writer puts its own version back, and its update ends.
fn undo(world: &mut World, after: i64) {
    world.advance(after);
    world.happens(&Event::Foreign(0));
    world.advance(400);
}

#[test]
fn who_undoes_a_move_is_named_at_once_and_the_second_time_in_a_day_it_stalls() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.calm();
    let tags = &mut world.groups.get_mut("group-0").expect("a group").seen.tags;
    tags.insert("aws:cloudformation:stack-name".to_owned(), "nodes".to_owned());
    undo(&mut world, 400);
    let first = world.pass(Mishap::None);
    let note =
        first.notes.iter().find(|note| note.reason == "AnotherWriter").expect("told at the first time");
    for part in
        ["ami-00000001 (launch template version 2)", "back on ami-00000000 (version 3)", "stack nodes"]
    {
        assert!(note.message.contains(part), "{part}: {}", note.message);
    }
    assert_eq!(world.calm().standing, Standing::Settled, "it is moved again");
    undo(&mut world, 25 * 3600);
    let pass = world.calm();
    assert_eq!((pass.standing, reason(&pass).as_str()), (Standing::Stalled, "AnotherWriter"));
    let words = message(&pass);
    assert!(words.contains("back on ami-00000000 (version 5)") && words.contains("found 2 times"), "{words}");
    assert_eq!(starts(&world), 2);
    world.advance(27 * 3600);
    assert_eq!(world.calm().standing, Standing::Settled, "a day later it is tried again");
}

#[test]
fn who_undoes_a_move_every_other_night_is_told_each_time_and_stalls_within_the_week() {
    let mut world = World::new(1, false);
    world.happens(&Event::NewImage);
    world.calm();
    let mut notes = 0;
    for night in 0..3 {
        undo(&mut world, 40 * 3600);
        let pass = world.pass(Mishap::None);
        notes += pass.notes.iter().filter(|note| note.reason == "AnotherWriter").count();
        let stalled = world.calm().standing == Standing::Stalled;
        assert_eq!(stalled, night == 2, "night {night}");
    }
    assert_eq!((notes, starts(&world)), (3, 3));
    world.happens(&Event::Ask);
    assert_eq!(world.calm().standing, Standing::Settled, "a person says that it is settled");
}

#[test]
fn an_update_that_does_not_end_is_told_once_with_its_id() {
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
    assert_eq!(world.asked, Vec::new(), "nothing further was read");
    assert_eq!(pass.status.node_groups.map(|rows| rows.len()), Some(3), "the rows of the others stay");
}
