//! What `opsy plan` says of a refresher is what the agent then does, in worlds after random events.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::property::{policy, staged_event};
use super::world::{Event, World};
use crate::refresher::memory::Memory;
use crate::refresher::observe::GroupsToRead;
use crate::refresher::plan::{PlanInput, plan};
use crate::refresher::preview::{GroupState, Intent, Preview, of_plan};
use crate::refresher::step::Plan;

/// The decision of `opsy plan`.
fn preview(world: &World) -> Preview {
    let spec = world.spec();
    let memory = Memory::read(world.object.status.as_ref());
    let to_read = GroupsToRead::of(&spec, &memory, false, world.now);
    let mut observed = world.observe(&spec, &to_read, false);
    loop {
        let input = PlanInput {
            spec: &spec,
            owner: &world.owner,
            memory: &memory,
            observed: &observed,
            now: world.now,
            retry_requested: false,
            retried: None,
        };
        match plan(input) {
            Plan::Read(need) => observed = world.read(observed, need, &spec, &memory),
            plan => return of_plan(input, &plan),
        }
    }
}

/// The groups that the plan says are moved.
fn planned(preview: &Preview) -> BTreeSet<String> {
    if !matches!(preview.intent, Intent::Move { .. } | Intent::Hold { .. }) {
        return BTreeSet::new();
    }
    let drifted = preview.groups.iter().filter(|group| matches!(group.state, GroupState::Drifted(_)));
    drifted.map(|group| group.name.clone()).collect()
}

fn change() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::NewImage),
        2 => (0..9_usize).prop_map(Event::Name),
        1 => Just(Event::Unname),
        1 => policy().prop_map(Event::Policy),
        1 => (1..4_i32).prop_map(Event::MaxUnavailable),
        1 => Just(Event::Create),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_groups_that_the_plan_names_are_the_groups_that_are_moved(
        groups in 1..5_usize,
        at_once in any::<bool>(),
        policy in policy(),
        events in prop::collection::vec(staged_event(), 0..60),
        changes in prop::collection::vec(change(), 0..3),
    ) {
        let mut world = World::new(groups, at_once);
        world.set_policy(policy);
        events.iter().for_each(|event| world.happens(event));
        world.calm();
        // Whether an update fails is not known before.
        world.bad.clear();
        changes.iter().for_each(|change| world.happens(change));
        let preview = preview(&world);
        let before = world.started.len();
        world.calm();
        let moved: BTreeSet<String> = world.started[before..].iter().cloned().collect();
        prop_assert_eq!(planned(&preview), moved, "{:?}", preview);
    }
}
