//! Scenarios of waves, soaks, approvals, windows and freezes in the simulated world.

use std::time::Duration;

use super::driving::until;
use super::scenarios::{message, starts, state_of, until_updating};
use super::world::{Event, Mishap, SimPolicy, World, image_id, reason};
use crate::api::refresher::RolloutWave;
use crate::api::{AMIRefresherStatus, Class};
use crate::engine::{ObjectHealth, Pass};
use crate::refresher::outcome::{ActError, ActErrorKind};

/// Waves canary (group-0) and prod (group-1 and group-3); group-2 is in the last one.
fn staged() -> SimPolicy {
    SimPolicy { soak: Some(600), ..SimPolicy::default() }
}

/// A world with this policy and a new image.
fn world(count: usize, policy: SimPolicy) -> World {
    let mut world = World::new(count, false);
    world.set_policy(policy);
    world.happens(&Event::NewImage);
    world
}

fn waves(pass: &Pass<AMIRefresherStatus>) -> Vec<RolloutWave> {
    pass.status.rollout.clone().and_then(|rollout| rollout.waves).unwrap_or_default()
}

/// Name and state of every wave, with the number of updated groups and of all.
fn states(pass: &Pass<AMIRefresherStatus>) -> Vec<String> {
    let word = |wave: &RolloutWave| {
        let (updated, total) = (wave.updated.expect("counted"), wave.total.expect("counted"));
        format!("{} {} {updated}/{total}", wave.name, wave.state.as_deref().expect("a state"))
    };
    waves(pass).iter().map(word).collect()
}

#[test]
fn the_canary_is_moved_and_soaks_before_the_next_wave_starts() {
    let mut world = world(4, staged());
    until_updating(&mut world);
    let pass = world.pass(Mishap::None);
    assert_eq!(states(&pass), ["canary Updating 0/1", "prod Pending 0/2", "remaining Pending 0/1"]);
    let pass = until(&mut world, "Soaking");
    assert_eq!(pass.health, ObjectHealth::Waiting);
    assert_eq!(states(&pass), ["canary Soaking 1/1", "prod Waiting 0/2", "remaining Pending 0/1"]);
    let canary = &waves(&pass)[0];
    let ends = canary.soak_until.expect("it soaks");
    assert_eq!(message(&pass), format!("wave \"canary\" soaks until {ends} before wave \"prod\" starts"));
    assert!(ends >= canary.finished_at.expect("moved") + Duration::from_secs(600));
    assert!(pass.look <= Duration::from_secs(601) && pass.look > Duration::from_secs(590), "{:?}", pass.look);
    assert_eq!(waves(&pass)[1].reason, Some(message(&pass)));
    assert_eq!(
        (state_of(&pass, "group-0"), state_of(&pass, "group-1")),
        ("Current".into(), "Pending".into())
    );
    assert_eq!(starts(&world), 1);
    let pass = world.calm();
    assert_eq!(pass.health, ObjectHealth::Settled);
    assert_eq!(world.started, ["group-0", "group-1", "group-3", "group-2"]);
    assert_eq!(states(&pass), ["canary Done 1/1", "prod Done 2/2", "remaining Done 1/1"]);
    let row = pass.status.node_groups.iter().flatten().find(|row| row.name == "group-3");
    assert_eq!(row.and_then(|row| row.wave.clone()).as_deref(), Some("prod"));
}

#[test]
fn a_wave_waits_for_the_approval_of_this_image() {
    let mut world = world(2, SimPolicy { approval: true, ..staged() });
    let pass = until(&mut world, "Soaking");
    assert!(
        message(&pass).contains("; then wave \"prod\" waits for approval of ami-00000001"),
        "{}",
        message(&pass)
    );
    world.approve(Some(&image_id(0)));
    let pass = until(&mut world, "WaitingForApproval");
    let expected = "wave \"prod\" waits for approval of ami-00000001 (approved: ami-00000000): run `opsy approve \
                    ar/nodes prod ami-00000001`, or set the annotation ami.opsy.dev/approve: prod=ami-00000001";
    assert_eq!(message(&pass), expected);
    assert_eq!(states(&pass), ["canary Done 1/1", "prod Waiting 0/1"]);
    assert_eq!(waves(&pass)[1].approved, Some(false));
    assert_eq!((pass.health, pass.look), (ObjectHealth::Waiting, Duration::from_secs(600)));
    world.approve(Some(&image_id(1)));
    until_updating(&mut world);
    world.approve(None);
    let pass = world.calm();
    assert_eq!(pass.health, ObjectHealth::Settled);
    assert_eq!(waves(&pass)[1].approved, Some(true), "it was approved when it started");
}

#[test]
fn a_wave_that_has_started_goes_on_without_its_approval() {
    let mut world = world(4, SimPolicy { approval: true, soak: Some(0), ..staged() });
    world.approve(Some(&image_id(1)));
    while world.started.len() < 2 {
        let pass = world.pass(Mishap::None);
        world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
    }
    world.approve(None);
    let pass = world.calm();
    assert_eq!(pass.health, ObjectHealth::Settled, "{}", message(&pass));
    assert_eq!(world.started, ["group-0", "group-1", "group-3", "group-2"]);
}

#[test]
fn a_newer_image_waits_and_is_named_while_a_wave_waits_for_approval() {
    let mut world = world(2, SimPolicy { approval: true, soak: Some(0), ..staged() });
    until(&mut world, "WaitingForApproval");
    world.happens(&Event::NewImage);
    let pass = world.pass(Mishap::None);
    assert!(message(&pass).ends_with("prod=ami-00000001; ami-00000002 is next"), "{}", message(&pass));
    let pass = world.calm();
    assert_eq!(pass.status.target_ami, Some(image_id(2).to_string()));
    assert_eq!(world.started, ["group-0", "group-1", "group-0", "group-1"]);
}

#[test]
fn waves_without_a_group_to_move_are_skipped_without_soak() {
    let mut world = world(3, staged());
    world.object.spec.exclude = Some(vec!["group-0".to_owned()]);
    let pass = world.calm();
    assert_eq!(world.started, ["group-1", "group-2"]);
    assert_eq!(states(&pass), ["canary Skipped 0/0", "prod Done 1/1", "remaining Done 1/1"]);
    let history = pass.status.history.expect("a record");
    let took = history[0].finished_at.expect("ended").duration_since(history[0].started_at.expect("began"));
    assert!(took.as_secs() < 1300, "{took:?}: two updates and no soak");
}

#[test]
fn the_soak_of_a_group_that_was_deleted_still_counts() {
    let mut world = world(2, staged());
    until(&mut world, "Soaking");
    world.happens(&Event::Delete(0));
    world.advance(60);
    let pass = world.pass(Mishap::None);
    assert_eq!(reason(&pass), "Soaking", "{}", message(&pass));
    assert_eq!(world.calm().health, ObjectHealth::Settled);
}

#[test]
fn a_failed_canary_stops_the_rollout() {
    let mut failing = world(2, staged());
    failing.happens(&Event::Spoil(0));
    let pass = failing.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    assert_eq!(states(&pass), ["canary Failed 0/1", "prod Pending 0/1"]);
    assert_eq!(failing.started, ["group-0"]);

    let mut refused = world(2, staged());
    refused.refuses = Some(ActError {
        class: Class::Invalid,
        message: "eks:UpdateNodegroupVersion: InvalidParameterException: no".to_owned(),
        kind: ActErrorKind::Other,
    });
    let pass = refused.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    assert_eq!(starts(&refused), 1, "a refused canary is not moved either");
}

#[test]
fn a_newer_image_replaces_one_with_which_the_canary_is_stuck() {
    let mut world = world(3, staged());
    world.happens(&Event::Degrade(0));
    world.degraded_accepts = false;
    let pass = until(&mut world, "NodeGroupDegraded");
    assert_eq!(pass.health, ObjectHealth::Stalled);
    world.happens(&Event::NewImage);
    for _ in 0..3 {
        world.pass(Mishap::None);
    }
    let status = world.object.status.clone().expect("a status");
    assert_eq!(status.history.expect("a record")[0].result, "Replaced");
    assert_eq!(world.calm().health, ObjectHealth::Settled);
}

#[test]
fn outside_of_the_window_no_rollout_begins_and_the_next_opening_is_named() {
    let mut world = world(1, SimPolicy { window: true, ..SimPolicy::default() });
    world.advance(2 * 3600 - 300);
    let pass = world.pass(Mishap::None);
    let expected = "waits for the window \"0 */2 * * *\" UTC, which opens at 2026-01-01T02:00:00+00:00";
    assert_eq!((reason(&pass).as_str(), message(&pass).as_str()), ("WaitingForWindow", expected));
    assert_eq!((pass.health, pass.status.rollout, pass.look.as_secs()), (ObjectHealth::Waiting, None, 301));
    assert_eq!(state_of(&world.pass(Mishap::None), "group-0"), "Drifted");
    // The agent was away when the window opened.
    world.advance(300 + 3000);
    until_updating(&mut world);
    assert_eq!(world.calm().health, ObjectHealth::Settled);
}

#[test]
fn an_update_ends_after_its_window_and_no_other_starts() {
    let mut world = world(2, SimPolicy { window: true, ..SimPolicy::default() });
    world.advance(3590);
    until_updating(&mut world);
    world.advance(20);
    assert_eq!(reason(&world.pass(Mishap::None)), "RollingOut", "the update in progress is awaited");
    let pass = until(&mut world, "WaitingForWindow");
    assert_eq!(state_of(&pass, "group-0"), "Current");
    assert_eq!(state_of(&pass, "group-1"), "Pending");
    assert_eq!(starts(&world), 1);
    assert_eq!(world.calm().health, ObjectHealth::Settled);
}

#[test]
fn a_group_whose_turn_came_does_not_start_after_its_window() {
    for reconciles in 1..6 {
        let mut world = world(1, SimPolicy { window: true, ..SimPolicy::default() });
        world.advance(3595);
        for _ in 0..reconciles {
            world.pass(Mishap::CallFails);
        }
        world.advance(10);
        let before = starts(&world);
        let pass = until(&mut world, "WaitingForWindow");
        assert_ne!(state_of(&pass, "group-0"), "Updating", "{reconciles}");
        assert_eq!(starts(&world), before, "{reconciles}");
        assert_eq!(world.calm().health, ObjectHealth::Settled, "{reconciles}");
    }
}

#[test]
fn a_freeze_is_stricter_than_a_window() {
    let mut world = world(1, SimPolicy { window: true, freeze: Some(9000), ..SimPolicy::default() });
    let pass = world.pass(Mishap::None);
    let expected = "frozen from 2026-01-01T00:00:00Z to 2026-01-01T02:30:00Z: the next update may start at \
                    2026-01-01T02:30:00Z";
    assert_eq!((reason(&pass).as_str(), message(&pass).as_str()), ("Frozen", expected));
    world.advance(3700);
    let pass = world.pass(Mishap::None);
    assert_eq!(reason(&pass), "Frozen");
    assert_eq!(world.calm().health, ObjectHealth::Settled);
}

#[test]
fn a_crash_at_any_point_of_a_staged_rollout_leads_to_the_same_end() {
    let policy = SimPolicy { window: true, approval: true, soak: Some(3000), ..SimPolicy::default() };
    for mishap in
        [Mishap::DiesBefore, Mishap::DiesAfter, Mishap::AnswerLost, Mishap::CallFails, Mishap::Stale]
    {
        for point in 0..40 {
            let mut world = world(3, policy.clone());
            world.approve(Some(&image_id(1)));
            for _ in 0..point {
                let pass = world.pass(Mishap::None);
                world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
            }
            world.pass(mishap);
            world.restart();
            let pass = world.calm();
            assert_eq!(pass.health, ObjectHealth::Settled, "{mishap:?} at {point}");
            assert_eq!(world.started, ["group-0", "group-1", "group-2"], "{mishap:?} at {point}");
            assert_eq!(world.leaked(), Vec::<i64>::new(), "{mishap:?} at {point}");
        }
    }
}
