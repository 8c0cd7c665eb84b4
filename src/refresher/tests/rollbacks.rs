//! Scenarios of failed rollouts that are rolled back, and of held images, in the simulated world.

use super::driving::until_started;
use super::scenarios::{message, state_of};
use super::world::{Event, Mishap, SimCluster, SimPolicy, World, image_id, reason};
use crate::api::refresher::HeldAmi;
use crate::api::{AMIRefresherStatus, ImageId};
use crate::engine::{ObjectHealth, Pass};

fn rolls_back() -> SimPolicy {
    SimPolicy { rolls_back: true, ..SimPolicy::default() }
}

/// Three groups, of which the last one fails with the new image.
fn failing(policy: SimPolicy) -> World {
    let mut world = World::new(3, false);
    world.set_policy(policy);
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(2));
    world
}

/// Group and image of every group.
fn shown(world: &World) -> Vec<&str> {
    world.groups.values().map(|sim| sim.seen.release_version.as_deref().expect("an image")).collect()
}

fn history(pass: &Pass<AMIRefresherStatus>) -> Vec<(String, String)> {
    let history = pass.status.history.iter().flatten();
    history.map(|record| (record.result.clone(), record.target.clone())).collect()
}

#[test]
fn every_changed_group_returns_to_its_version_and_the_image_is_held() {
    let mut world = failing(rolls_back());
    let before: Vec<_> = world.groups.values().map(|sim| sim.seen.launch_template.clone()).collect();
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "ImageHeld"));
    let after: Vec<_> = world.groups.values().map(|sim| sim.seen.launch_template.clone()).collect();
    assert_eq!(before, after, "each group is on the launch template version that it had");
    // EKS shows the former version of group-2 again, but its nodes are not known.
    assert_eq!(world.started, ["group-0", "group-1", "group-2", "group-0", "group-1", "group-2"]);
    let (old, new) = (image_id(0).to_string(), image_id(1).to_string());
    assert_eq!(history(&pass), [("RolledBack".into(), old), ("Failed".into(), new)]);
    let failure = "group-2: update update-3 failed: NodeCreationFailure: nodes did not join";
    let held = pass.status.held.clone().expect("held");
    assert_eq!((held.len(), held[0].ami.as_str()), (1, image_id(1).as_str()));
    assert!(held[0].reason.as_deref().is_some_and(|reason| reason.starts_with(failure)), "{held:?}");
    let expected = "; its node groups were rolled back to ami-00000000; it stays held until the template, spec or base \
                    image changes; to roll it out anyway, set the annotation ami.opsy.dev/retry: ami-00000001";
    assert!(message(&pass).ends_with(expected), "{}", message(&pass));
    let record = &pass.status.history.as_ref().expect("a history")[0];
    assert_eq!(record.rollback_of.as_deref(), pass.status.history.as_ref().map(|all| all[1].id.as_str()));
    let groups: Vec<_> = record.groups.iter().flatten().map(|group| group.name.as_str()).collect();
    assert_eq!(groups, ["group-0", "group-1", "group-2"]);
    let duration = record.groups.as_ref().expect("groups")[0].duration.clone();
    assert!(duration.as_deref().is_some_and(|duration| duration.starts_with("5m")), "{duration:?}");
}

#[test]
fn without_rollback_the_rollout_stops_as_it_is() {
    let mut world = failing(SimPolicy::default());
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Stalled, "UpdateFailed"));
    let (old, new) = (image_id(0), image_id(1));
    assert_eq!(shown(&world), [new.as_str(), new.as_str(), old.as_str()]);
    assert_eq!(pass.status.held, None);
}

#[test]
fn a_rollback_ignores_freezes_and_windows() {
    let mut world = failing(rolls_back());
    until_started(&mut world, 3);
    world.set_policy(SimPolicy { freeze: Some(86_400), window: true, soak: Some(600), ..rolls_back() });
    let since = world.now;
    let pass = world.calm();
    assert_eq!(reason(&pass), "ImageHeld");
    assert_eq!(shown(&world), [image_id(0).as_str(); 3]);
    assert!(world.now.duration_since(since).as_secs() < 3600, "it does not wait for the end of the freeze");
}

#[test]
fn an_image_from_the_same_inputs_is_held_and_one_from_others_is_rolled_out() {
    let mut world = World::new(3, false);
    world.set_policy(rolls_back());
    world.happens(&Event::NewImage);
    world.calm();
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(0));
    assert_eq!(reason(&world.calm()), "ImageHeld");
    world.happens(&Event::NewImage);
    let pass = world.calm();
    assert_eq!((reason(&pass).as_str(), world.off().len()), ("ImageHeld", 3), "{}", message(&pass));
    assert!(
        message(&pass).contains("ami-00000003 is held: it was built from the same inputs as ami-00000002")
    );
    world.happens(&Event::NewImage);
    let pass = world.calm();
    assert_eq!((pass.health, world.off().len()), (ObjectHealth::Settled, 0), "{}", message(&pass));
}

#[test]
fn a_person_releases_a_held_image_by_annotation_or_by_naming_it() {
    for release in [Event::Release(1), Event::Name(1)] {
        let mut world = failing(rolls_back());
        assert_eq!(reason(&world.calm()), "ImageHeld");
        world.happens(&Event::Ask);
        assert_eq!(
            reason(&world.calm()),
            "ImageHeld",
            "a reconcile is no request to roll the image out again"
        );
        world.bad.clear();
        world.happens(&release);
        let pass = world.calm();
        assert_eq!((pass.health, world.off().len()), (ObjectHealth::Settled, 0), "{}", message(&pass));
        assert_eq!(pass.status.held, None);
    }
}

#[test]
fn a_request_to_roll_an_image_out_again_waits_until_it_can_be_looked_at() {
    let mut world = failing(rolls_back());
    assert_eq!(reason(&world.calm()), "ImageHeld");
    // It is built from the same inputs as image 2, which fails next, and EC2 does not return it at first.
    world.happens(&Event::NewImage);
    world.happens(&Event::Spoil(0));
    assert_eq!(reason(&world.calm()), "ImageHeld");
    world.happens(&Event::NewImage);
    assert_eq!(reason(&world.calm()), "ImageHeld");
    let (hidden, facts) = world.images.remove_entry(&image_id(3)).expect("an image");
    world.happens(&Event::Release(2));
    world.released = Some(hidden.clone());
    for mishap in [Mishap::None, Mishap::Blind, Mishap::None] {
        world.pass(mishap);
        assert_eq!(world.released.as_ref(), Some(&hidden), "the request stays");
    }
    world.images.insert(hidden, facts);
    let pass = world.calm();
    assert_eq!((pass.health, world.off().len()), (ObjectHealth::Settled, 0), "{}", message(&pass));
    assert_eq!(world.released, None);
    // Nothing holds this one, so that the request has no effect.
    world.happens(&Event::Release(0));
    world.pass(Mishap::None);
    assert_eq!(world.released, None);
}

#[test]
fn an_image_that_ami_names_is_held_until_ami_changes() {
    let mut world = failing(rolls_back());
    world.happens(&Event::Name(1));
    assert_eq!(reason(&world.calm()), "ImageHeld");
    assert_eq!(shown(&world), [image_id(0).as_str(); 3]);
    world.happens(&Event::Name(0));
    assert_eq!(reason(&world.calm()), "UpToDate");
    world.bad.clear();
    world.happens(&Event::Name(1));
    let pass = world.calm();
    assert_eq!((pass.health, world.off().len()), (ObjectHealth::Settled, 0), "{}", message(&pass));
}

#[test]
fn a_rollback_that_fails_goes_on_with_the_other_groups_and_says_so() {
    let mut world = failing(rolls_back());
    world.bad.insert(("group-0".to_owned(), image_id(0)));
    let pass = world.calm();
    assert_eq!(reason(&pass), "ImageHeld");
    assert!(
        message(&pass).contains("; group-0 could not be rolled back: update update-4 failed: "),
        "{}",
        message(&pass)
    );
    assert_eq!(shown(&world), [image_id(1).as_str(), image_id(0).as_str(), image_id(0).as_str()]);
    assert_eq!(history(&pass)[0].0, "Failed");
    assert_eq!(state_of(&pass, "group-0"), "Failed");

    world.bad.clear();
    world.happens(&Event::Ask);
    let pass = world.calm();
    assert_eq!(reason(&pass), "ImageHeld", "{}", message(&pass));
    assert_eq!(shown(&world), [image_id(0).as_str(); 3], "a person has the rollback tried again");
    assert_eq!(history(&pass)[0].0, "RolledBack");
}

#[test]
fn a_rollback_also_returns_to_an_image_that_a_person_holds() {
    let mut world = failing(rolls_back());
    until_started(&mut world, 3);
    world.object.spec.held = Some(vec![HeldAmi { ami: Some(image_id(0).to_string()), reason: None }]);
    let pass = world.calm();
    assert_eq!(history(&pass)[0].0, "RolledBack", "{}", message(&pass));
    assert_eq!(shown(&world), [image_id(0).as_str(); 3]);
}

#[test]
fn a_rollback_creates_the_version_again_if_another_writer_deleted_it() {
    let mut world = failing(rolls_back());
    until_started(&mut world, 3);
    let first = world.templates.values().flatten().map(|(_, version)| version.number).min();
    world
        .templates
        .values_mut()
        .for_each(|versions| versions.retain(|(_, version)| Some(version.number) != first));
    let pass = world.calm();
    assert_eq!(shown(&world), [image_id(0).as_str(); 3], "{}", message(&pass));
}

#[test]
fn an_image_that_a_person_holds_is_not_rolled_out() {
    let mut world = World::new(2, false);
    world.happens(&Event::NewImage);
    let held = |ami: &ImageId, reason: Option<&str>| {
        Some(vec![HeldAmi { ami: Some(ami.to_string()), reason: reason.map(str::to_owned) }])
    };
    world.object.spec.held = held(&image_id(1), Some("slow disks"));
    let pass = world.calm();
    assert_eq!((pass.health, reason(&pass).as_str()), (ObjectHealth::Waiting, "NoEligibleImage"));
    assert_eq!(message(&pass), "ami-00000001 is held: slow disks");
    world.object.spec.held = None;
    while world.started.is_empty() {
        let pass = world.pass(Mishap::None);
        world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
    }
    world.object.spec.held = held(&image_id(1), None);
    let pass = world.calm();
    assert_eq!(history(&pass), [("Held".into(), image_id(1).to_string())]);
    assert_eq!(
        shown(&world),
        [image_id(1).as_str(), image_id(0).as_str()],
        "an update that has started is finished"
    );
    assert_eq!(message(&pass), "ami-00000001 is held by spec.held");
    world.object.spec.held = None;
    assert_eq!(world.calm().health, ObjectHealth::Settled);
    world.object.spec.held = held(&image_id(0), None);
    assert_eq!(world.calm().health, ObjectHealth::Settled, "another image is held");
}

#[test]
fn a_group_that_shows_its_former_version_is_rolled_back_unless_its_nodes_are() {
    let unknown = "group-2 is rolled back although EKS shows its former version: its update failed, and which image its \
                   nodes run is not known";
    let mixed = "group-2 is rolled back although EKS shows its former version: group-2-1 runs ami-00000001";
    let denied = "its update failed, and its nodes cannot be read (the agent may not list nodes)";
    let cluster = |mixes, denied| Some(SimCluster { mixes, denied, ..SimCluster::default() });
    for (cluster, remark) in [
        (None, Some(unknown)),
        (cluster(true, false), Some(mixed)),
        (cluster(false, false), None),
        (cluster(true, true), Some(denied)),
    ] {
        let mut world = failing(rolls_back());
        world.cluster = cluster;
        let pass = world.calm();
        assert_eq!((reason(&pass).as_str(), shown(&world)), ("ImageHeld", vec![image_id(0).as_str(); 3]));
        assert_eq!(world.started.len(), 5 + usize::from(remark.is_some()), "{remark:?}");
        let found = message(&pass);
        match remark {
            Some(remark) => assert!(found.contains(remark), "{found}"),
            None => assert!(!found.contains("group-2 is rolled back"), "{found}"),
        }
        let left = world.cluster.map(|cluster| cluster.mixed);
        assert_eq!(left.unwrap_or_default(), Default::default(), "no node runs the failed image");
    }
}

#[test]
fn a_group_that_was_moved_twice_returns_to_the_version_before_the_first_move() {
    let mut world = failing(rolls_back());
    let before: Vec<_> = world.groups.values().map(|sim| sim.seen.launch_template.clone()).collect();
    until_started(&mut world, 2);
    world.advance(150);
    world.happens(&Event::Foreign(0));
    until_started(&mut world, 3);
    assert_eq!(world.started[2], "group-0", "it is moved again");
    let pass = world.pass(Mishap::None);
    let rollout = pass.status.rollout.expect("a rollout");
    let entry = rollout.groups.iter().flatten().find(|entry| entry.name == "group-0").expect("an entry");
    let version = before[0].as_ref().map(|version| version.version.clone());
    assert_eq!((&entry.previous_version, entry.previous_ami.as_deref()), (&version, Some("ami-00000000")));
    assert!(entry.source_version.is_some() && entry.source_version != version, "{entry:?}");
    let pass = world.calm();
    assert_eq!(reason(&pass), "ImageHeld");
    let after: Vec<_> = world.groups.values().map(|sim| sim.seen.launch_template.clone()).collect();
    assert_eq!(before, after);
}

#[test]
fn a_crash_at_any_point_of_a_rollback_leads_to_the_same_end() {
    for mishap in
        [Mishap::DiesBefore, Mishap::DiesAfter, Mishap::AnswerLost, Mishap::CallFails, Mishap::Stale]
    {
        for point in 0..60 {
            let mut world = failing(rolls_back());
            for _ in 0..point {
                let pass = world.pass(Mishap::None);
                world.advance(i64::try_from(pass.look.as_secs()).expect("short"));
            }
            world.pass(mishap);
            world.restart();
            let pass = world.calm();
            assert_eq!(reason(&pass), "ImageHeld", "{mishap:?} at {point}: {}", message(&pass));
            assert_eq!(shown(&world), [image_id(0).as_str(); 3], "{mishap:?} at {point}");
            let started = ["group-0", "group-1", "group-2", "group-0", "group-1", "group-2"];
            assert_eq!(world.started, started, "{mishap:?} at {point}");
        }
    }
}
