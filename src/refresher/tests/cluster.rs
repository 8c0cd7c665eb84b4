//! Scenarios of a rollout in the cluster in which the agent runs: what is reported before an update, which groups wait,
//! and when the next one starts.

use super::driving::{events, is_settled, passes_until, wait};
use super::scenarios::{message, state_of, until_updating};
use super::world::{Event, Mishap, SimCluster, World, image_id, reason};
use crate::api::AMIRefresherStatus;
use crate::api::refresher::{GroupNodes, HealthCheck, RolloutPolicy};
use crate::engine::nodes::{Budget, NodePod};
use crate::engine::{ObjectHealth, Pass};
use crate::refresher::observed::Need;

/// A world with a cluster and a new image.
fn world(count: usize, cluster: SimCluster) -> World {
    let mut world = World::new(count, false);
    world.cluster = Some(cluster);
    world.happens(&Event::NewImage);
    world
}

/// A pod on the first node of a group.
fn pod(group: &str, budgets: Vec<Budget>) -> NodePod {
    NodePod {
        name: "shop/api-0".to_owned(),
        node: format!("{group}-0"),
        has_controller: true,
        is_ready: true,
        budgets,
        ..NodePod::default()
    }
}

pub fn held_pod(group: &str) -> NodePod {
    pod(group, vec![Budget { name: "shop/api".to_owned(), allows: false, spares_unready: false }])
}

const HELD: &str = "PodDisruptionBudget shop/api allows no disruption of pod shop/api-0";

fn cluster(world: &mut World) -> &mut SimCluster {
    world.cluster.as_mut().expect("there is a cluster")
}

pub fn nodes_of(pass: &Pass<AMIRefresherStatus>, group: &str) -> GroupNodes {
    let rollout = pass.status.rollout.clone().unwrap_or_default();
    let entry = rollout.groups.into_iter().flatten().find(|entry| entry.name == group);
    entry.and_then(|entry| entry.nodes).unwrap_or_default()
}

fn with_policy(world: &mut World, policy: RolloutPolicy) {
    world.object.spec.rollout = Some(policy);
}

fn blocking() -> RolloutPolicy {
    RolloutPolicy { preflight: Some("Block".to_owned()), ..RolloutPolicy::default() }
}

#[test]
fn what_holds_an_update_up_is_reported_once_before_it_starts() {
    let pods = [("group-1".to_owned(), vec![held_pod("group-1")])].into();
    let mut world = world(2, SimCluster { pods, ..SimCluster::default() });
    let passes = passes_until(&mut world, "settled", is_settled);
    let expected = format!("before the update of group-1: {HELD}");
    assert_eq!(events(&passes, "Preflight"), [expected]);
    let reported = passes.iter().position(|pass| !events(std::slice::from_ref(pass), "Preflight").is_empty());
    let started = passes.iter().rposition(|pass| !events(std::slice::from_ref(pass), "Waiting").is_empty());
    assert!(reported < started, "before its update starts");
    let last = passes.last().expect("some");
    assert_eq!(nodes_of(last, "group-1").preflight, Some(vec![HELD.to_owned()]));
    assert_eq!(nodes_of(last, "group-0").preflight, None);
    assert_eq!(nodes_of(last, "group-0").total, Some(2));
    assert_eq!(world.started, ["group-0", "group-1"]);
}

#[test]
fn with_block_the_group_waits_until_nothing_holds_it_up_and_delays_no_other() {
    let pods = [("group-0".to_owned(), vec![held_pod("group-0")])].into();
    let mut world = world(2, SimCluster { pods, ..SimCluster::default() });
    with_policy(&mut world, blocking());
    let passes = passes_until(&mut world, "held", |_, pass| reason(pass) == "PreflightFailed");
    let held = passes.last().expect("some");
    assert_eq!(message(held), format!("group-0 is not updated (rollout.preflight is Block): {HELD}"));
    assert_eq!(held.health, ObjectHealth::Waiting);
    assert_eq!((state_of(held, "group-0"), state_of(held, "group-1")), ("Pending".into(), "Current".into()));
    let again: Vec<_> = (0..5)
        .map(|_| {
            let pass = world.pass(Mishap::None);
            wait(&mut world, &pass);
            pass
        })
        .collect();
    assert_eq!(again.last().map(|pass| &pass.status), Some(&held.status), "the text is steady");
    let all = [passes, again].concat();
    assert_eq!(events(&all, "PreflightFailed"), [message(all.last().expect("some"))], "reported once");
    cluster(&mut world).pods.clear();
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started, ["group-1", "group-0"]);
}

#[test]
fn with_block_no_rollout_begins_while_every_group_is_held_up() {
    let pods = [("group-0".to_owned(), vec![held_pod("group-0")])].into();
    let mut world = world(1, SimCluster { pods, ..SimCluster::default() });
    with_policy(&mut world, blocking());
    let pass = world.pass(Mishap::None);
    assert_eq!((reason(&pass).as_str(), pass.status.rollout.is_some()), ("PreflightFailed", false));
    world.happens(&Event::DenyNodes(true));
    let pass = world.pass(Mishap::None);
    assert_eq!(reason(&pass), "PreflightFailed", "what may not be read is not known to be harmless");
    assert!(message(&pass).contains("may not list nodes"), "{}", message(&pass));
}

#[test]
fn the_group_of_the_agent_comes_last_and_degraded_groups_before_it() {
    let agent = Some("group-0".to_owned());
    let mut world = world(3, SimCluster { agent, ..SimCluster::default() });
    world.happens(&Event::Degrade(1));
    passes_until(&mut world, "settled", |world, _| world.off().is_empty());
    assert_eq!(world.started, ["group-2", "group-1", "group-0"]);
}

#[test]
fn a_group_with_a_build_waits_until_the_build_has_ended() {
    let builds = [("group-0".to_owned(), "base".to_owned())].into();
    let mut world = world(2, SimCluster { builds, ..SimCluster::default() });
    let passes = passes_until(&mut world, "held", |_, pass| reason(pass) == "WaitingForBuild");
    let held = passes.last().expect("some");
    let expected = "group-0 hosts a build of default/base: its update starts when the build has ended";
    assert_eq!((message(held).as_str(), state_of(held, "group-1").as_str()), (expected, "Current"));
    assert_eq!(events(&passes, "WaitingForBuild"), [expected]);
    cluster(&mut world).builds.clear();
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started, ["group-1", "group-0"]);
}

#[test]
fn the_next_group_starts_when_the_nodes_of_the_last_one_are_ready() {
    let mut world = world(2, SimCluster { slow: 240, ..SimCluster::default() });
    let passes = passes_until(&mut world, "waiting for nodes", |_, pass| {
        message(pass).contains("waits for its nodes")
    });
    let pass = passes.last().expect("some");
    let expected = format!(
        "group-0 is updated, and waits for its nodes: 0 of 2 nodes are Ready on {image} (group-0-0 runs an unknown \
         image, group-0-1 is not Ready (KubeletNotReady)) ({image})",
        image = image_id(1)
    );
    assert_eq!((message(pass), pass.health), (expected, ObjectHealth::Busy));
    assert_eq!((state_of(pass, "group-1").as_str(), world.started.len()), ("Pending", 1));
    let updated = nodes_of(pass, "group-0").updated_at.expect("recorded");
    let passes = passes_until(&mut world, "the second start", |world, _| world.started.len() == 2);
    assert!(world.now.duration_since(updated).as_secs() >= 180, "{updated} {}", world.now);
    assert_eq!(events(&passes, "NodesUnreadable"), Vec::<String>::new());
    passes_until(&mut world, "settled", is_settled);
}

#[test]
fn nodes_that_do_not_become_ready_fail_the_rollout() {
    let mut world = world(2, SimCluster { slow: 100_000, ..SimCluster::default() });
    let passes = passes_until(&mut world, "failed", |_, pass| pass.health == ObjectHealth::Stalled);
    let pass = passes.last().expect("some");
    assert_eq!(reason(pass), "UpdateFailed");
    assert!(
        message(pass).contains("its nodes were not ready within 10m: 0 of 2 nodes are Ready"),
        "{}",
        message(pass)
    );
    assert_eq!(
        (world.started.as_slice(), state_of(pass, "group-0").as_str()),
        (&["group-0".to_owned()][..], "Failed")
    );
    let record = &pass.status.history.as_ref().expect("a history")[0];
    assert!(
        record.result == "Failed" && record.failures.iter().flatten().any(|text| text.contains("not ready"))
    );
    world.advance(7200);
    assert_eq!(world.pass(Mishap::None).health, ObjectHealth::Stalled, "not repeated");
    assert_eq!(world.started.len(), 1);
}

#[test]
fn a_retry_updates_no_group_whose_nodes_became_ready_since() {
    let mut world = world(2, SimCluster { slow: 1200, ..SimCluster::default() });
    passes_until(&mut world, "failed", |_, pass| pass.health == ObjectHealth::Stalled);
    world.advance(1200);
    cluster(&mut world).slow = 0;
    world.happens(&Event::Ask);
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started, ["group-0", "group-1"]);
}

#[test]
fn the_limit_is_that_of_the_spec_and_zero_turns_it_off() {
    for (within, starts) in [("20m", 2), ("0s", 2), ("5m", 1)] {
        let mut world = world(2, SimCluster { slow: 900, ..SimCluster::default() });
        let check = HealthCheck { nodes_ready_within: Some(within.to_owned()), ..HealthCheck::default() };
        with_policy(&mut world, RolloutPolicy { health_check: Some(check), ..RolloutPolicy::default() });
        passes_until(&mut world, "at rest", |_, pass| {
            matches!(pass.health, ObjectHealth::Settled | ObjectHealth::Stalled)
        });
        assert_eq!(world.started.len(), starts, "{within}");
    }
}

#[test]
fn what_the_agent_may_not_read_is_reported_once_and_stops_nothing() {
    let agent = Some("group-0".to_owned());
    let mut world = world(3, SimCluster { agent, slow: 100_000, denied: true, ..SimCluster::default() });
    let passes = passes_until(&mut world, "settled", is_settled);
    let expected = "the nodes of node groups are not checked: the agent may not list nodes";
    assert_eq!(events(&passes, "NodesUnreadable"), [expected]);
    assert_eq!(world.started, ["group-0", "group-1", "group-2"]);
}

#[test]
fn nothing_starts_while_the_cluster_cannot_be_read() {
    let mut world = world(2, SimCluster { down: true, ..SimCluster::default() });
    for _ in 0..5 {
        let pass = world.pass(Mishap::None);
        assert_eq!((reason(&pass).as_str(), pass.health), ("EngineUnavailable", ObjectHealth::Busy));
        wait(&mut world, &pass);
    }
    cluster(&mut world).down = false;
    passes_until(&mut world, "settled", is_settled);
    assert_eq!(world.started.len(), 2);
}

#[test]
fn groups_of_another_cluster_are_rolled_out_without_it() {
    let elsewhere: std::collections::BTreeSet<_> = ["group-0".to_owned(), "group-1".to_owned()].into();
    let pods = [("group-0".to_owned(), vec![held_pod("group-0")])].into();
    let (agent, slow) = (Some("group-0".to_owned()), 100_000);
    let mut there = world(2, SimCluster { elsewhere, pods, agent, slow, ..SimCluster::default() });
    with_policy(&mut there, blocking());
    let passes = passes_until(&mut there, "settled", is_settled);
    assert_eq!(there.started, ["group-0", "group-1"]);
    let pass = passes.last().expect("some");
    assert_eq!(
        (nodes_of(pass, "group-0"), events(&passes, "Preflight")),
        (GroupNodes::default(), Vec::new())
    );
}

#[test]
fn an_update_that_hangs_names_the_budget_and_the_pod() {
    let pods = [("group-0".to_owned(), vec![held_pod("group-0")])].into();
    let mut world = world(1, SimCluster { pods, ..SimCluster::default() });
    until_updating(&mut world);
    let running = world.groups.get_mut("group-0").and_then(|sim| sim.running.as_mut()).expect("it updates");
    running.ends += jiff::SignedDuration::from_hours(1);
    let passes = passes_until(&mut world, "the blocker", |_, pass| message(pass).contains(HELD));
    let pass = passes.last().expect("some");
    let expected =
        format!("group-0 is being updated ({}), 2 of 2 nodes are not replaced yet: {HELD}", image_id(1));
    assert_eq!(message(pass), expected);
    let since = nodes_of(pass, "group-0").left_since.expect("counted");
    assert!(world.now.duration_since(since).as_secs() < 480);
    let further = passes_until(&mut world, "settled", is_settled);
    let blocked = events(&[passes, further].concat(), "UpdateBlocked");
    assert_eq!(blocked, [format!("the update of group-0 is blocked: {HELD}")], "reported once");
}

#[test]
fn a_budget_that_was_named_before_is_named_again_soon_after_the_drain_began() {
    let pods = [("group-0".to_owned(), vec![held_pod("group-0")])].into();
    let mut world = world(1, SimCluster { pods, ..SimCluster::default() });
    until_updating(&mut world);
    let running = world.groups.get_mut("group-0").and_then(|sim| sim.running.as_mut()).expect("it updates");
    running.ends += jiff::SignedDuration::from_hours(1);
    let starting = world.now;
    passes_until(&mut world, "a while", |world, _| world.now.duration_since(starting).as_secs() >= 120);
    assert!(!message(&world.pass(Mishap::None)).contains(HELD), "EKS starts new nodes first");
    cluster(&mut world).added = Some(image_id(1));
    let began = world.now;
    let passes = passes_until(&mut world, "the blocker", |_, pass| message(pass).contains(HELD));
    assert!(world.now.duration_since(began).as_secs() <= 80, "{began} {}", world.now);
    cluster(&mut world).pods.clear();
    let further = passes_until(&mut world, "going on", |_, pass| !message(pass).contains(HELD));
    assert_eq!(events(&[passes, further].concat(), "UpdateBlocked").len(), 1);
}

#[test]
fn nodes_are_read_only_around_a_start() {
    let mut world = world(1, SimCluster::default());
    let is_of_cluster = |need: &Need| matches!(need, Need::Cluster(_));
    until_updating(&mut world);
    for _ in 0..10 {
        let pass = world.pass(Mishap::None);
        assert!(!world.needs.iter().any(is_of_cluster), "{:?}", world.needs);
        world.advance(i64::try_from(pass.look.as_secs()).expect("short").min(20));
    }
    passes_until(&mut world, "settled", is_settled);
    for _ in 0..3 {
        world.pass(Mishap::None);
        assert_eq!(world.needs, Vec::new());
        world.advance(600);
    }
}
