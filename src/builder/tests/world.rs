//! The property-based simulation: the invariants hold after any events in any order, and once no more events arrive,
//! the builder settles on one active image per lane with the newest inputs.

use proptest::prelude::*;

use super::simulation::{Blind, Fate, Mishap, World};
use super::*;
use crate::api::tags;
use crate::builder::located::Lane;
use crate::builder::{history, inputs, judge, wait};

/// Number of cases; each has up to `EVENTS` events.
const CASES: u32 = 256;
const EVENTS: usize = 60;
/// A builder that has not settled after this many reconciles without events never will.
const MAX_RECONCILES: usize = 400;

#[derive(Clone, Copy, Debug)]
pub enum Event {
    Reconcile { blind: Blind, mishap: Mishap, stale: bool },
    Wait { minutes: u16 },
    EndRun(Fate),
    Template(u8),
    Spec(u8),
    NewBase,
    Suspend(bool),
    Break(bool),
    BrokenFile(bool),
    SettleImages,
    DeleteActive,
    DisableActive,
    LoseStatus,
    Cancel,
    Ask,
}

fn blind() -> impl Strategy<Value = Blind> {
    let seldom = || prop::bool::weighted(0.04);
    (seldom(), seldom(), seldom(), seldom(), seldom(), prop::bool::weighted(0.2)).prop_map(
        |(runs, images, base, template, live, tags)| Blind { runs, images, base, template, live, tags },
    )
}

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        12 => Just(Mishap::None),
        1 => Just(Mishap::DiesBefore),
        1 => Just(Mishap::DiesAfter),
        1 => Just(Mishap::Refused),
        1 => Just(Mishap::AnswerLost),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Success),
        2 => Just(Fate::TwoLanes),
        1 => Just(Fate::TwoResults),
        1 => Just(Fate::Forced),
        1 => Just(Fate::LateImage),
        1 => Just(Fate::BadImage),
        2 => Just(Fate::Failure),
        2 => Just(Fate::NoCapacity),
        1 => Just(Fate::Partial),
        1 => Just(Fate::TaggedActive),
        1 => Just(Fate::TimedOut),
        1 => any::<bool>().prop_map(|image| Fate::Lost { image }),
    ]
}

pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => (blind(), mishap(), prop::bool::weighted(0.2))
            .prop_map(|(blind, mishap, stale)| Event::Reconcile { blind, mishap, stale }),
        6 => (1..3000u16).prop_map(|minutes| Event::Wait { minutes }),
        10 => fate().prop_map(Event::EndRun),
        3 => (0..3u8).prop_map(Event::Template),
        2 => (0..3u8).prop_map(Event::Spec),
        1 => Just(Event::NewBase),
        1 => any::<bool>().prop_map(Event::Suspend),
        1 => any::<bool>().prop_map(Event::Break),
        1 => any::<bool>().prop_map(Event::BrokenFile),
        4 => Just(Event::SettleImages),
        1 => Just(Event::DeleteActive),
        1 => Just(Event::DisableActive),
        1 => Just(Event::LoseStatus),
        1 => Just(Event::Cancel),
        1 => Just(Event::Ask),
    ]
}

pub fn happen(world: &mut World, event: Event) {
    match event {
        Event::Reconcile { blind, mishap, stale } => {
            let before = world.active_lanes();
            world.reconcile(blind, mishap, stale);
            let after = world.active_lanes();
            // Only a lane for which a finished build made no image may lose its active image.
            let made = world.lanes_just_made();
            let given_up = |lane: &Lane| made.as_ref().is_some_and(|made| !made.contains(lane));
            let lost = before.difference(&after).find(|lane| !given_up(lane));
            assert_eq!(lost, None, "a reconcile removed the last active image of a lane");
        }
        Event::Wait { minutes } => world.advance(Duration::from_secs(u64::from(minutes) * 60)),
        Event::EndRun(fate) => world.end_run(fate),
        Event::Template(number) => world.template = format!("v1-{number}"),
        Event::Spec(number) => world.change_spec(number),
        Event::NewBase => world.new_base(),
        Event::Suspend(on) => world.object.spec.suspend = Some(on),
        Event::Break(on) => world.object.spec.rebuild_on = on.then(|| vec!["Sunday".into()]),
        Event::BrokenFile(on) => world.complete = !on,
        Event::SettleImages => world.settle_images(),
        Event::DeleteActive => world.delete_active(),
        Event::DisableActive => world.disable_active(),
        Event::LoseStatus => world.lose_status(),
        Event::Ask => world.ask(),
        Event::Cancel => world.cancel = world.runs.last().map(|run| run.facts.build.to_string()),
    }
}

/// Checks the invariants that hold after every event.
fn check(world: &World) {
    assert!(world.live() <= 1, "two live runs");
    let history = world.status().history.as_deref().unwrap_or_default();
    let mut ids: Vec<&str> = history.iter().map(|record| record.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), history.len(), "a run counts twice");
    for inputs in history.iter().filter_map(|record| record.inputs.as_ref()) {
        let failures = history::streak(history, inputs).failures;
        assert!(failures <= valid().failures.limit, "{failures} failures of the same inputs");
    }
    let named = world.status().images.iter().flatten();
    let never = named.filter(|image| world.never_promoted.iter().any(|id| id.as_str() == image.id));
    assert_eq!(never.count(), 0, "an image of a failed build counts");
    // The image of a successful run is never garbage-collected before the result is recorded.
    for run in &world.runs {
        let RunState::Succeeded(artifacts) = &run.state else { continue };
        for artifact in artifacts {
            let there = world.images.iter().any(|image| image.located.image.id == artifact.image);
            let promoted = history.iter().any(|record| record.id == run.facts.build.as_str());
            assert!(there || promoted || world.deleted_by_hand(&artifact.image), "{artifact:?} was swept");
        }
    }
}

/// Removes all causes of trouble and changes the template, so that earlier failures do not count.
fn calm(world: &mut World) {
    world.object.spec.suspend = Some(false);
    world.object.spec.rebuild_on = None;
    world.complete = true;
    world.cancel = None;
    world.template = "v1-calm".into();
}

/// Reconciles until nothing is left to do, including builds and garbage collection.
fn settle(world: &mut World) -> Vec<Located> {
    for _ in 0..MAX_RECONCILES {
        world.settle_images();
        match world.reconcile(Blind::default(), Mishap::None, false) {
            Some(Plan::Done { images, .. }) if world.status().sweeps.is_none() => return images,
            Some(Plan::Done { requeue, .. } | Plan::Wait { requeue, .. }) => world.advance(requeue),
            Some(Plan::Act { .. }) => world.advance(wait::NEXT_STEP),
            other => panic!("nothing is wrong, but the plan is {other:?}"),
        }
        world.end_run(Fate::Success);
    }
    panic!("nothing is wrong, but it does not settle: {:#?}", world.status());
}

/// Checks that every lane in status has one active image with the newest inputs, and that no orphans are left.
fn check_settled(world: &World, good: &[Located]) {
    let observed = world.observe(Blind::default());
    let spec = observed.spec.as_ref().expect("calm is valid");
    let (template, base) =
        (observed.template.known().expect("observed"), observed.base.known().expect("observed"));
    let wanted = judge::wanted(&observed, spec, template, base).expect("the base exists");
    for image in good {
        let lane: Lane = image.lane();
        let active: Vec<_> = world
            .images
            .iter()
            .filter(|other| other.located.is_active() && other.located.lane() == lane)
            .collect();
        assert_eq!(active.len(), 1, "more than one active image in {lane:?}");
        let from = observed.subject.built_from(image, &observed.status).expect("ours");
        assert_eq!(inputs::out_of_date(image, &from, &wanted, spec, world.now), None);
    }
    assert!(good.iter().any(|image| image.region == spec.region));
    let named: Vec<_> = good.iter().map(|image| image.image.id.to_string()).collect();
    let status = world.status().images.iter().flatten();
    assert_eq!(status.map(|image| image.id.clone()).collect::<Vec<_>>(), named);
    assert!(world.status().images.iter().flatten().all(|image| image.gone.is_none()));
    // Only the lanes for which the last build made an image are active.
    let lanes: std::collections::BTreeSet<Lane> = good.iter().map(Located::lane).collect();
    if world.status().history.as_ref().is_some_and(|history| history[0].result == "Succeeded") {
        assert_eq!(world.active_lanes(), lanes, "a lane that is not built any more is active");
    }
    assert!(world.runs.is_empty(), "ended runs are forgotten");
    let left = world.images.iter().filter(|image| image.located.tag(tags::STATUS).is_none());
    let left: Vec<_> = left.map(|image| (&image.located.region, &image.located.image.id)).collect();
    assert!(left.is_empty() || world.forgot, "left in some region: {left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_is_lost_and_calm_settles(events in prop::collection::vec(event(), 0..EVENTS)) {
        let mut world = World::new();
        for event in events {
            happen(&mut world, event);
            check(&world);
        }
        calm(&mut world);
        let good = settle(&mut world);
        check_settled(&world, &good);
        // A settled builder does not change in another reconcile.
        let before = world.status().clone();
        world.reconcile(Blind::default(), Mishap::None, false);
        prop_assert_eq!(&before, world.status());
    }

    /// Every observation has a plan, and its report does not panic.
    #[test]
    fn the_plan_is_total(events in prop::collection::vec(event(), 0..EVENTS), blind in blind(), hours in 0..2000u64, deleting: bool) {
        let mut world = World::new();
        for event in events {
            happen(&mut world, event);
        }
        let mut observed = world.observe(blind);
        (observed.deleting, observed.now) = (deleting, at_hour(hours));
        let decided = plan::plan(&observed, observed.now);
        let nothing = crate::builder::outcome::Outcome::Nothing;
        let pass = crate::builder::report::pass(&observed, &decided, &nothing, observed.now);
        prop_assert!(pass.look > Duration::ZERO || matches!(decided, Plan::Wait { .. }), "{:?}", decided);
    }
}

/// After half an hour without capacity, the image is built without a commit, under the default policy.
#[test]
fn half_an_hour_without_capacity_ends_in_an_image() {
    let mut world = World::new();
    world.settle_images();
    let end = time::after(world.now, HOUR / 2).expect("in range");
    let mut tries = 0;
    for _ in 0..MAX_RECONCILES {
        match world.reconcile(Blind::default(), Mishap::None, false) {
            Some(Plan::Done { images, .. }) => {
                assert_eq!((images.len(), world.status().failed_job_count), (1, Some(0)));
                assert!(tries > 2, "{tries} tries");
                return;
            }
            Some(Plan::Wait { requeue, .. }) => world.advance(requeue),
            Some(Plan::Act { .. }) => world.advance(wait::NEXT_STEP),
            other => panic!("{other:?}"),
        }
        tries += usize::from(world.live() > 0);
        world.end_run(if world.now < end { Fate::NoCapacity } else { Fate::Success });
        world.settle_images();
    }
    panic!("no image: {:#?}", world.status());
}
