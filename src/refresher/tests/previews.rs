//! What `opsy plan` says of a refresher is what the agent then does, in worlds after random events.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::property::{policy, staged_event};
use super::world::{Event, SimPolicy, World};
use crate::api::builder::{InputsRecord, LaneImage};
use crate::api::tags;
use crate::refresher::BuilderImages;
use crate::refresher::memory::Memory;
use crate::refresher::observe::GroupsToRead;
use crate::refresher::plan::{PlanInput, plan};
use crate::refresher::preview::{
    Group, GroupState, ImageSource, Intent, Next, Preview, after_record, of_plan, recorded,
};
use crate::refresher::step::Plan;
use crate::refresher::target::Target;

/// The decision of `opsy plan`.
fn preview(world: &World) -> Preview {
    let (spec, retried) = (world.spec(), world.released.clone().map(Target::single));
    let mut memory = Memory::read(world.object.status.as_ref());
    let retry_requested = world.retry_requested;
    let to_read = GroupsToRead::of(&spec, &memory, retry_requested, world.now);
    let mut observed = world.observe(&spec, &to_read, false);
    let mut records = 0;
    loop {
        let (memory_now, observed_now, retried) = (&memory, &observed, retried.as_ref());
        let input = PlanInput {
            spec: &spec,
            owner: &world.owner,
            memory: memory_now,
            observed: observed_now,
            now: world.now,
            retry_requested,
            retried,
        };
        let plan = plan(input);
        if let Plan::Read(need) = plan {
            observed = world.read(observed, need, &spec, &memory);
            continue;
        }
        let Some(next) = after_record(&plan, &memory) else { return of_plan(input, &plan) };
        memory = next;
        records += 1;
        assert!(records < 20, "{plan:?}");
    }
}

/// The decision of `opsy plan --offline`.
fn preview_offline(world: &World) -> Preview {
    let (spec, retried) = (world.spec(), world.released.clone().map(Target::single));
    let memory = Memory::read(world.object.status.as_ref());
    let lane = |id: &crate::api::ImageId| LaneImage {
        region: spec.region.to_string(),
        architecture: "x86_64".to_owned(),
        id: id.to_string(),
        name: None,
        since: Some(world.now),
        gone: None,
        previous: None,
    };
    let lanes: Vec<LaneImage> = world.built.iter().map(lane).collect();
    let (images, inputs): (BuilderImages, _) = (Arc::new(move |_| Some(lanes.clone())), inputs(world));
    let built = recorded::Built { images: &images, inputs: &|_| Some(inputs.clone()) };
    let observed = recorded::observe(&world.object, &spec, &memory, &built, world.now);
    recorded::preview(PlanInput {
        spec: &spec,
        owner: &world.owner,
        memory: &memory,
        observed: &observed,
        now: world.now,
        retry_requested: world.retry_requested,
        retried: retried.as_ref(),
    })
}

/// The groups that the plan says are moved.
fn planned(preview: &Preview) -> BTreeSet<String> {
    if !matches!(preview.intent, Intent::Move { .. } | Intent::Hold { .. }) {
        return BTreeSet::new();
    }
    let drifted = preview.groups.iter().filter(|group| matches!(group.state, GroupState::Drifted(_)));
    drifted.map(|group| group.name.clone()).collect()
}

/// The groups that the plan says are moved, also by the rollout that follows the one in progress.
fn planned_until_rest(preview: &Preview) -> BTreeSet<String> {
    let mut names = planned(preview);
    if let Some(newer) = &preview.followed_by {
        let is_moved = |group: &&Group| group.is_movable() && group.current.as_ref() != Some(newer);
        names.extend(preview.groups.iter().filter(is_moved).map(|group| group.name.clone()));
    }
    names
}

/// The groups that are moved without further events.
fn moved(world: &mut World) -> BTreeSet<String> {
    let before = world.started.len();
    world.calm();
    world.started[before..].iter().cloned().collect()
}

/// What the newest image was built from.
fn inputs(world: &World) -> InputsRecord {
    let built = world.built.as_ref().and_then(|id| world.images.get(id)).expect("an image");
    let tag = |name: &str| built.tags.get(name).cloned();
    InputsRecord { base_ami: tag(tags::BASE), template: tag(tags::TEMPLATE), spec: tag(tags::SPEC) }
}

fn change() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::NewImage),
        2 => (0..9_usize).prop_map(Event::Name),
        1 => Just(Event::Unname),
        1 => policy().prop_map(Event::Policy),
        1 => (1..4_i32).prop_map(Event::MaxUnavailable),
        1 => Just(Event::Create),
        1 => Just(Event::Ask),
        1 => (0..9_usize).prop_map(Event::Release),
    ]
}

/// What has happened before.
#[derive(Clone, Debug)]
struct Past {
    groups: usize,
    at_once: bool,
    policy: SimPolicy,
    events: Vec<Event>,
}

impl Past {
    /// The world afterwards, at rest.
    fn world(self) -> World {
        let mut world = World::new(self.groups, self.at_once);
        world.set_policy(self.policy);
        self.events.iter().for_each(|event| world.happens(event));
        world.calm();
        // Whether an update fails is not known before.
        world.bad.clear();
        world
    }
}

fn past() -> impl Strategy<Value = Past> {
    let events = prop::collection::vec(staged_event(), 0..60);
    (1..5_usize, any::<bool>(), policy(), events).prop_map(|(groups, at_once, policy, events)| Past {
        groups,
        at_once,
        policy,
        events,
    })
}

#[test]
fn a_failed_rollback_that_is_requested_again_is_planned() {
    let policy = SimPolicy { rolls_back: true, ..SimPolicy::default() };
    let events = vec![Event::Spoil(0), Event::NewImage, Event::Spoil(0), Event::Policy(policy)];
    for at_once in [false, true] {
        let past = Past { groups: 1, at_once, policy: SimPolicy::default(), events: events.clone() };
        let mut world = past.world();
        world.happens(&Event::Ask);
        let preview = preview(&world);
        assert_eq!(planned(&preview), moved(&mut world), "{preview:?}");
    }
}

#[test]
fn an_image_that_waits_for_the_end_of_a_rollback_is_planned() {
    let policy = SimPolicy { rolls_back: true, ..SimPolicy::default() };
    let events = vec![Event::Spoil(0), Event::NewImage, Event::Spoil(0), Event::Policy(policy)];
    let past = Past { groups: 3, at_once: false, policy: SimPolicy::default(), events };
    let mut world = past.world();
    world.happens(&Event::Ask);
    world.happens(&Event::NewImage);
    let preview = preview(&world);
    assert_eq!(preview.followed_by, world.built.as_ref().map(ToString::to_string));
    assert_eq!(planned(&preview), BTreeSet::from(["group-0".to_owned()]));
    assert_eq!(moved(&mut world).len(), 3, "{preview:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_global_rejects: u32::MAX, ..ProptestConfig::default() })]

    #[test]
    fn the_groups_that_the_plan_names_are_the_groups_that_are_moved(
        past in past(),
        changes in prop::collection::vec(change(), 0..3),
    ) {
        let mut world = past.world();
        changes.iter().for_each(|change| world.happens(change));
        let preview = preview(&world);
        let moved = moved(&mut world);
        prop_assert_eq!(planned_until_rest(&preview), moved, "{:?}", preview);
    }

    /// The groups of the status are all that is known, so none appears.
    #[test]
    fn a_plan_by_the_published_status_names_the_same_groups(
        past in past(),
        changes in prop::collection::vec(change(), 0..3),
    ) {
        let mut world = past.world();
        let changes = changes.iter().filter(|change| !matches!(change, Event::Create));
        changes.for_each(|change| world.happens(change));
        let (live, offline) = (preview(&world), preview_offline(&world));
        prop_assert_eq!(planned(&offline), planned(&live), "{:?}\n{:?}", offline, live);
        let is_held = |preview: &Preview| matches!(preview.intent, Intent::Hold { .. });
        let is_stalled = |preview: &Preview| matches!(preview.intent, Intent::Stalled { .. });
        prop_assert_eq!(is_held(&offline), is_held(&live), "{:?}\n{:?}", offline, live);
        prop_assert_eq!(is_stalled(&offline), is_stalled(&live), "{:?}\n{:?}", offline, live);
    }

    /// A build comes first: the plan does not know its image yet.
    #[test]
    fn the_next_image_is_rolled_out_if_and_only_if_the_plan_says_so(past in past()) {
        let mut world = past.world();
        let preview = preview(&world);
        prop_assume!(preview.source != ImageSource::Fixed);
        world.happens(&Event::NewImage);
        let expected = match preview.next(&[&inputs(&world)]) {
            Next::RollsOut => {
                let movable = preview.groups.iter().filter(|group| group.is_movable());
                movable.map(|group| group.name.clone()).collect()
            }
            Next::Stays(_) => BTreeSet::new(),
            Next::Unknown(why) => panic!("everything can be read: {why}"),
        };
        let moved = moved(&mut world);
        prop_assert_eq!(expected, moved, "{:?}", preview);
    }
}
