//! What `opsy plan` says of a builder is what the agent then does, in worlds after random events.

use proptest::prelude::*;

use super::simulation::{Blind, Fate, Mishap, World};
use super::world::{Event, event, happen};
use super::*;
use crate::api::words::Trigger;
use crate::builder::preview::{Intent, of_observed};
use crate::builder::wait;

const EVENTS: usize = 40;
/// Reconciles until what was in progress has ended.
const MAX_RECONCILES: usize = 100;

/// Ends what is in progress: a plan is about what follows from a commit.
fn finish(world: &mut World) {
    for _ in 0..MAX_RECONCILES {
        world.settle_images();
        let is_busy =
            matches!(world.reconcile(Blind::default(), Mishap::None, false), Some(Plan::Act { .. }));
        if !is_busy && world.runs.is_empty() {
            return;
        }
        world.end_run(Fate::Success);
        world.advance(wait::NEXT_STEP);
    }
}

/// The reason with which a build starts before anything else happens, and its inputs, if one does.
fn started(world: &mut World) -> Option<(Trigger, InputsRecord)> {
    for _ in 0..MAX_RECONCILES {
        match world.reconcile(Blind::default(), Mishap::None, false) {
            Some(Plan::Act { step: Step::Start { request, .. }, .. }) => {
                return Some((Trigger::parse(&request.facts.why)?, request.facts.inputs));
            }
            Some(Plan::Act { .. }) => world.advance(wait::NEXT_STEP),
            _ => return None,
        }
    }
    panic!("it never rests: {:#?}", world.status());
}

fn change() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..3u8).prop_map(Event::Template),
        (0..3u8).prop_map(Event::Spec),
        (1..30_000u16).prop_map(|minutes| Event::Wait { minutes }),
        Just(Event::NewBase),
        Just(Event::DeleteActive),
        Just(Event::DisableActive),
        any::<bool>().prop_map(Event::Suspend),
        any::<bool>().prop_map(Event::Break),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_build_starts_if_and_only_if_the_plan_says_so(
        events in prop::collection::vec(event(), 0..EVENTS),
        changes in prop::collection::vec(change(), 0..3),
    ) {
        let mut world = World::new();
        for event in events {
            happen(&mut world, event);
        }
        finish(&mut world);
        prop_assume!(world.runs.is_empty());
        world.settle_images();
        for change in changes {
            happen(&mut world, change);
        }
        let intent = of_observed(world.observe(Blind::default()), Vec::new(), false).intent;
        let planned = match &intent {
            Intent::Build { trigger, inputs, .. } => Some((*trigger, inputs.clone())),
            _ => None,
        };
        let started = started(&mut world);
        prop_assert_eq!(planned, started, "{:?}", intent);
    }
}
