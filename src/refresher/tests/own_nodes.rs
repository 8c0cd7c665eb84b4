//! Scenarios of the nodes of self-managed groups in the cluster in which the agent runs. They are recognized by the
//! instances of the group.

use super::cluster::{held_pod, nodes_of};
use super::driving::{events, is_settled, passes_until, wait};
use super::scenarios::{message, state_of};
use super::world::{Event, Mishap, SimCluster, World, image_id, reason};
use crate::api::refresher::{GroupNodes, InstanceRefreshConfig, RolloutPolicy};
use crate::engine::ObjectHealth;
use crate::refresher::observed::Need;

const HELD: &str = "PodDisruptionBudget shop/api allows no disruption of pod shop/api-0";

/// A world with one managed group, two self-managed ones, and a new image.
fn world(cluster: SimCluster) -> World {
    let mut world = World::new(1, false).with_own(2);
    world.cluster = Some(cluster);
    world.happens(&Event::NewImage);
    world
}

fn with_pod(group: &str) -> SimCluster {
    SimCluster { pods: [(group.to_owned(), vec![held_pod(group)])].into(), ..SimCluster::default() }
}

#[test]
fn what_holds_a_refresh_up_is_reported_before_it_starts_whatever_force_says() {
    let mut world = world(with_pod("own-0"));
    world.object.spec.refresh_config.as_mut().expect("set").force = Some(true);
    let passes = passes_until(&mut world, "settled", is_settled);
    assert_eq!(events(&passes, "Preflight"), [format!("before the update of own-0: {HELD}")]);
    let last = passes.last().expect("some");
    assert_eq!(nodes_of(last, "own-0").preflight, Some(vec![HELD.to_owned()]));
    assert_eq!((nodes_of(last, "own-0").total, nodes_of(last, "own-1").total), (Some(2), Some(2)));
    assert_eq!(world.started, ["group-0", "own-0", "own-1"]);
}

#[test]
fn with_block_a_self_managed_group_waits_and_delays_no_other() {
    let mut world = world(with_pod("own-0"));
    world.object.spec.rollout =
        Some(RolloutPolicy { preflight: Some("Block".to_owned()), ..RolloutPolicy::default() });
    let passes = passes_until(&mut world, "held", |_, pass| reason(pass) == "PreflightFailed");
    let held = passes.last().expect("some");
    assert_eq!(message(held), format!("own-0 is not updated (rollout.preflight is Block): {HELD}"));
    assert_eq!(state_of(held, "own-1"), "Current");
    world.cluster.as_mut().expect("a cluster").pods.clear();
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started, ["group-0", "own-1", "own-0"]);
}

#[test]
fn the_group_of_the_agent_comes_last_and_one_with_a_build_waits_among_both_kinds() {
    let mut world = world(SimCluster { agent: Some("own-0".to_owned()), ..SimCluster::default() });
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started, ["group-0", "own-1", "own-0"]);

    let builds = [("own-0".to_owned(), "base".to_owned())].into();
    let mut world = self::world(SimCluster { builds, ..SimCluster::default() });
    let passes = passes_until(&mut world, "held", |_, pass| reason(pass) == "WaitingForBuild");
    let expected = "own-0 hosts a build of default/base: its update starts when the build has ended";
    assert_eq!(message(passes.last().expect("some")), expected);
    world.cluster.as_mut().expect("a cluster").builds.clear();
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started, ["group-0", "own-1", "own-0"]);
}

#[test]
fn the_next_group_starts_when_all_instances_have_joined_and_are_ready() {
    let mut world = world(SimCluster { slow: 240, ..SimCluster::default() });
    let expected = format!(
        "own-0 is updated, and waits for its nodes: 0 of 2 nodes are Ready on {image} (i-0-0 is not Ready (it has not \
         joined yet), own-0-1 is not Ready (KubeletNotReady)) ({image})",
        image = image_id(1)
    );
    let passes = passes_until(&mut world, "waiting", |_, pass| message(pass) == expected);
    assert_eq!(passes.last().expect("some").health, ObjectHealth::Busy);
    assert_eq!(world.started, ["group-0", "own-0"]);
    let refreshed = world.now;
    passes_until(&mut world, "the next start", |world, _| world.started.len() == 3);
    assert!(world.now.duration_since(refreshed).as_secs() >= 180);
    passes_until(&mut world, "settled", is_settled);
}

#[test]
fn instances_that_never_become_nodes_fail_the_rollout_and_are_not_refreshed_once_they_did() {
    let mut world = world(SimCluster::default());
    passes_until(&mut world, "the start", |world, _| world.started.len() == 2);
    world.happens(&Event::SlowNodes(1200));
    let passes = passes_until(&mut world, "failed", |_, pass| pass.health == ObjectHealth::Stalled);
    let pass = passes.last().expect("some");
    assert!(
        message(pass)
            .contains("own-0 could not be moved to ami-00000001: its nodes were not ready within 10m"),
        "{}",
        message(pass)
    );
    assert_eq!((state_of(pass, "own-0"), state_of(pass, "own-1")), ("Failed".into(), "Drifted".into()));
    world.happens(&Event::SlowNodes(0));
    world.advance(1200);
    world.happens(&Event::Ask);
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started, ["group-0", "own-0", "own-1"]);
}

#[test]
fn a_node_that_the_settings_leave_alone_need_not_run_the_new_image() {
    let mut world = world(SimCluster::default());
    let config = world.object.spec.refresh_config.as_mut().expect("set");
    config.instance_refresh = Some(InstanceRefreshConfig {
        scale_in_protected_instances: Some("Ignore".to_owned()),
        ..InstanceRefreshConfig::default()
    });
    world.own.get_mut("own-0").expect("a group").seen.instances[1].is_protected = true;
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started.len(), 3);
    let kept = world.own["own-0"].seen.instances[1].version.clone().expect("a version");
    assert_eq!(world.image_of(&kept), Some(image_id(0)));
}

#[test]
fn a_refresh_that_hangs_names_what_holds_the_drain_of_a_terminating_instance_up() {
    let mut world = world(with_pod("own-0"));
    passes_until(&mut world, "the refresh", |world, _| world.own["own-0"].running.is_some());
    let own = world.own.get_mut("own-0").expect("a group");
    own.running.as_mut().expect("it runs").ends += jiff::SignedDuration::from_hours(1);
    for _ in 0..60 {
        let pass = world.pass(Mishap::None);
        assert!(!message(&pass).contains(HELD), "no instance is being terminated: {}", message(&pass));
        wait(&mut world, &pass);
    }
    world.own.get_mut("own-0").expect("a group").seen.instances[0].state = "Terminating:Wait".to_owned();
    let passes = passes_until(&mut world, "the blocker", |_, pass| message(pass).contains(HELD));
    let left = "2 of 2 nodes are not replaced yet";
    let expected = format!("own-0 is being updated ({}), {left}: {HELD}", image_id(1));
    assert!(message(passes.last().expect("some")).ends_with(&expected), "{:?}", passes.last().map(message));
    world.own.get_mut("own-0").expect("a group").seen.instances[0].state = "InService".to_owned();
    let passes = [passes, passes_until(&mut world, "settled", is_settled)].concat();
    assert_eq!(events(&passes, "UpdateBlocked"), [format!("the update of own-0 is blocked: {HELD}")]);
}

#[test]
fn a_self_managed_group_of_another_cluster_is_rolled_out_without_it() {
    let elsewhere = ["own-0".to_owned(), "own-1".to_owned()].into();
    let mut world = world(SimCluster { elsewhere, slow: 60, ..with_pod("own-0") });
    let passes = passes_until(&mut world, "settled", is_settled);
    let last = passes.last().expect("some");
    assert_eq!((nodes_of(last, "own-0"), events(&passes, "Preflight")), (GroupNodes::default(), Vec::new()));
}

#[test]
fn nodes_are_looked_for_on_the_instances_that_the_group_has_now() {
    let mut world = world(SimCluster::default());
    world.shares = true;
    let mut asked = 0;
    for _ in 0..200 {
        let pass = world.pass(Mishap::None);
        let read = world.needs.iter().position(|need| matches!(need, Need::FreshGroups(_)));
        let nodes = world.needs.iter().position(|need| format!("{need:?}").contains("NodesOn"));
        if let Some(nodes) = nodes {
            asked += 1;
            assert!(read.is_none_or(|read| read < nodes), "{:?}", world.needs);
        }
        if is_settled(&world, &pass) {
            break;
        }
        wait(&mut world, &pass);
    }
    assert!(asked >= 4, "{asked}");
}
