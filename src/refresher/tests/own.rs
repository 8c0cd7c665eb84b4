//! Scenarios of self-managed groups in the simulated world.

use super::driving::until_started;
use super::scenarios::{message, state_of};
use super::world::{Event, Foreign, Mishap, SimPolicy, World, image_id, reason};
use crate::aws::autoscaling::RefreshStatus;
use crate::engine::ObjectHealth;

/// A world with one managed group, one self-managed group on its launch template, and one on `$Latest` of its own.
fn world() -> World {
    let mut world = World::new(1, false).with_own(2);
    world.happens(&Event::NewImage);
    world
}

/// Reconciles until the refresh of this group is in progress.
fn until_refreshing(world: &mut World, name: &str) {
    for _ in 0..100 {
        if world.own[name].running.is_some() {
            return;
        }
        let pass = world.pass(Mishap::None);
        world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
    }
    panic!("no refresh was started: {:#?}", world.object.status);
}

fn results(world: &World, name: &str) -> Vec<RefreshStatus> {
    world.own[name].refreshes.iter().map(|refresh| refresh.status.clone()).collect()
}

#[test]
fn both_kinds_go_one_by_one_and_an_alias_is_pinned_first() {
    let mut world = world();
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Settled, "UpToDate"));
    assert_eq!(world.started, ["group-0", "own-0", "own-1"]);
    let of_own_1 = ["pin", "make version", "start refresh"];
    assert_eq!(world.effects[world.effects.len() - 3..], of_own_1, "{:?}", world.effects);
    assert_eq!(results(&world, "own-0"), [RefreshStatus::Successful]);
    assert_eq!(world.leaked(), Vec::<i64>::new());
    let again = world.pass(Mishap::None);
    assert_eq!(
        (again.status, world.needs.len()),
        (pass.status, 0),
        "a settled reconcile reads nothing further"
    );
}

#[test]
fn a_crash_at_any_point_starts_no_second_refresh() {
    for mishap in
        [Mishap::DiesBefore, Mishap::DiesAfter, Mishap::AnswerLost, Mishap::CallFails, Mishap::Stale]
    {
        for point in 0..35 {
            let mut world = world();
            for _ in 0..point {
                let pass = world.pass(Mishap::None);
                world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
            }
            world.pass(mishap);
            let pass = world.calm();
            assert_eq!(pass.health, ObjectHealth::Settled, "{mishap:?} at {point}: {}", message(&pass));
            assert!(world.off().is_empty(), "{mishap:?} at {point}");
            assert_eq!(world.leaked(), Vec::<i64>::new(), "{mishap:?} at {point}");
            for name in ["own-0", "own-1"] {
                assert_eq!(
                    results(&world, name),
                    [RefreshStatus::Successful],
                    "{mishap:?} at {point}: {name}"
                );
            }
        }
    }
}

#[test]
fn a_failed_refresh_is_not_repeated_and_its_group_is_mixed() {
    let mut world = world();
    world.happens(&Event::SpoilOwn(0));
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    assert!(message(&pass).contains("own-0 could not be moved to ami-00000001"), "{}", message(&pass));
    assert!(message(&pass).contains("failed: as told"), "{}", message(&pass));
    assert_eq!((state_of(&pass, "own-0").as_str(), state_of(&pass, "own-1").as_str()), ("Failed", "Drifted"));
    for _ in 0..10 {
        world.advance(3600);
        assert_eq!(world.pass(Mishap::None).status, pass.status);
    }
    assert_eq!(results(&world, "own-0"), [RefreshStatus::Failed]);

    // The former image is the target again: only the node that was replaced has to go back, to the version in force.
    let versions = world.templates.values().flatten().count();
    world.happens(&Event::Name(0));
    let pass = world.calm();
    assert_eq!(pass.health, ObjectHealth::Settled, "{}", message(&pass));
    assert_eq!(results(&world, "own-0"), [RefreshStatus::Successful, RefreshStatus::Failed]);
    let created = world.templates.values().flatten().count() - versions;
    assert!(
        created <= 1,
        "no version was created for own-0, whose version in force has the image: {created}"
    );
}

#[test]
fn a_refresh_of_another_writer_is_awaited_and_one_that_it_cancels_is_a_failure() {
    let mut world = world();
    world.happens(&Event::Own(0, Foreign::Refresh));
    let pass = world.pass(Mishap::None);
    assert_eq!(pass.health, ObjectHealth::Busy);
    assert!(world.effects.is_empty());
    assert_eq!(world.calm().health, ObjectHealth::Settled);

    let mut world = self::world();
    until_refreshing(&mut world, "own-0");
    world.happens(&Event::Own(0, Foreign::Cancel));
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    assert!(message(&pass).contains("was canceled: as told"), "{}", message(&pass));
}

#[test]
fn naming_the_former_image_rolls_the_refresh_back() {
    let mut world = world();
    until_refreshing(&mut world, "own-0");
    world.pass(Mishap::None);
    world.happens(&Event::Name(0));
    let pass = world.calm();
    assert_eq!(pass.health, ObjectHealth::Settled, "{}", message(&pass));
    assert_eq!(results(&world, "own-0"), [RefreshStatus::RollbackSuccessful]);
    assert_eq!(world.own_off(&image_id(0)), Vec::<&str>::new());
}

/// Two self-managed groups at once, of which the first fails while the second is refreshed, and is then rolled back.
fn failing_at_once() -> World {
    let mut world = World::new(1, true).with_own(2);
    world.set_policy(SimPolicy { rolls_back: true, ..SimPolicy::default() });
    world.happens(&Event::NewImage);
    world.happens(&Event::SpoilOwn(0));
    until_refreshing(&mut world, "own-1");
    until_refreshing(&mut world, "own-0");
    let running = world.own.get_mut("own-1").and_then(|own| own.running.as_mut()).expect("it runs");
    running.ends += jiff::SignedDuration::from_hours(5);
    world
}

#[test]
fn a_refresh_is_turned_back_as_soon_as_the_rollout_has_failed() {
    let mut world = failing_at_once();
    let began = world.now;
    let pass = world.calm();
    assert_eq!(reason(&pass), "ImageHeld", "{}", message(&pass));
    assert!(world.now.duration_since(began).as_secs() < 3 * 3600, "it does not wait for the end");
    assert_eq!(results(&world, "own-1"), [RefreshStatus::RollbackSuccessful]);
    assert_eq!(results(&world, "own-0"), [RefreshStatus::Successful, RefreshStatus::Failed]);
    assert_eq!(world.own_off(&image_id(0)), Vec::<&str>::new());
    assert_eq!(world.groups["group-0"].seen.release_version.as_deref(), Some(image_id(0).as_str()));
}

#[test]
fn a_refresh_that_cannot_be_rolled_back_is_canceled_and_its_nodes_return() {
    let mut world = failing_at_once();
    world.happens(&Event::Irreversible(true));
    let pass = world.calm();
    assert_eq!(reason(&pass), "ImageHeld", "{}", message(&pass));
    let turned: Vec<_> =
        world.effects.iter().filter(|effect| ["turn back", "cancel refresh"].contains(effect)).collect();
    assert_eq!(turned, [&"turn back", &"cancel refresh"], "each is requested once");
    assert_eq!(results(&world, "own-1"), [RefreshStatus::Successful, RefreshStatus::Cancelled]);
    assert_eq!(world.own_off(&image_id(0)), Vec::<&str>::new());
    assert!(message(&pass).contains("was canceled: as told (the rollout has failed)"), "{}", message(&pass));
}

#[test]
fn without_rollback_a_refresh_goes_on_when_the_rollout_has_failed() {
    let mut world = failing_at_once();
    world.set_policy(SimPolicy::default());
    let pass = world.calm();
    assert_eq!(reason(&pass), "UpdateFailed", "{}", message(&pass));
    assert_eq!(results(&world, "own-1"), [RefreshStatus::Successful]);
}

#[test]
fn a_managed_update_that_is_not_wanted_any_more_says_that_it_cannot_be_canceled() {
    let mut world = World::new(2, true);
    world.set_policy(SimPolicy { rolls_back: true, ..SimPolicy::default() });
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(0));
    until_started(&mut world, 2);
    let running = world.groups.get_mut("group-1").and_then(|sim| sim.running.as_mut()).expect("it runs");
    running.ends += jiff::SignedDuration::from_mins(10);
    let expected = "; the rollout has failed, and EKS cannot cancel an update: it has to end first";
    let expected = format!("group-1 is being updated ({}){expected}", image_id(1));
    for _ in 0..200 {
        let pass = world.pass(Mishap::None);
        if message(&pass).contains(&expected) {
            return;
        }
        world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
    }
    panic!("never said: {:#?}", world.object.status);
}

/// The way back to a version that a move recorded: no other version is created for it.
#[test]
fn a_move_to_a_recorded_version_uses_it_again() {
    let mut world = world();
    world.calm();
    let status = world.object.status.as_mut().expect("a status");
    let rollout = status.rollout.as_mut().expect("a rollout");
    let now = world.now;
    (rollout.finished_at, rollout.target) = (None, image_id(0).to_string());
    let groups = rollout.groups.as_mut().expect("groups");
    groups.retain(|group| group.name.starts_with("own-"));
    let mut recorded = Vec::new();
    for group in groups.iter_mut() {
        recorded.push((group.name.clone(), group.previous_version.clone().expect("a version")));
        let moved_to = group.version.take();
        group.version = std::mem::replace(&mut group.previous_version, moved_to);
        group.target_ami = group.previous_ami.replace(image_id(1).to_string());
        (group.update_id, group.finished_at, group.started_at) = (None, None, Some(now));
        group.moved_at = None;
    }
    world.object.spec.ami = Some(image_id(0).to_string());
    world.happens(&Event::Suspend(false));
    let made = world.effects.iter().filter(|effect| **effect == "make version").count();
    for _ in 0..200 {
        let pass = world.pass(Mishap::None);
        let done = |name: &str| results(&world, name).len() == 2 && world.own[name].running.is_none();
        if done("own-0") && done("own-1") {
            break;
        }
        world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
    }
    for (name, version) in recorded {
        let own = &world.own[&name];
        assert_eq!(world.own_in_force(own).version, version, "{name}");
        assert_eq!(world.image_of(&world.own_in_force(own)), Some(image_id(0)));
    }
    let made_now = world.effects.iter().filter(|effect| **effect == "make version").count();
    assert!(made_now - made <= 1, "only the managed group needs a version: {:?}", world.effects);
}
