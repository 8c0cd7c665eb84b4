//! Properties of random event sequences: no harm is ever done, and without further events the refresher settles.

use proptest::prelude::*;

use super::world::{Event, Foreign, Mishap, SimCluster, SimPolicy, World, reason};
use crate::api::{AMIRefresherStatus, ImageId};
use crate::engine::{ObjectHealth, Pass};
use crate::refresher::outcome::ActErrorKind;

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        8 => Just(Mishap::None),
        1 => Just(Mishap::DiesBefore),
        2 => Just(Mishap::DiesAfter),
        2 => Just(Mishap::AnswerLost),
        1 => Just(Mishap::CallFails),
        1 => Just(Mishap::Blind),
        1 => Just(Mishap::Stale),
    ]
}

fn error_kind() -> impl Strategy<Value = ActErrorKind> {
    prop_oneof![
        Just(ActErrorKind::Other),
        Just(ActErrorKind::Uncertain),
        Just(ActErrorKind::MissingVersion),
        Just(ActErrorKind::NotVisible),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        30 => mishap().prop_map(Event::Pass),
        8 => (1..120_i64).prop_map(Event::Advance),
        3 => (300..700_i64).prop_map(Event::Advance),
        1 => (3600..9000_i64).prop_map(Event::Advance),
        1 => Just(Event::LoseStatus),
        3 => Just(Event::NewImage),
        1 => (0..9_usize).prop_map(Event::Name),
        1 => Just(Event::Unname),
        1 => any::<bool>().prop_map(Event::Suspend),
        2 => (0..4_usize).prop_map(Event::Spoil),
        2 => (0..4_usize).prop_map(Event::Foreign),
        1 => (0..4_usize).prop_map(Event::Degrade),
        1 => (0..4_usize).prop_map(Event::Delete),
        1 => Just(Event::Create),
        1 => any::<bool>().prop_map(Event::Lag),
        1 => (1..4_i32).prop_map(Event::MaxUnavailable),
        2 => (0..4_usize, error_kind()).prop_map(|(group, kind)| Event::Refuse(group, kind)),
        2 => (0..4_usize).prop_map(Event::Accept),
        1 => any::<bool>().prop_map(Event::DegradedAccepts),
        1 => (0..4_usize).prop_map(Event::Repair),
        1 => any::<bool>().prop_map(Event::Keeps),
        1 => Just(Event::Ask),
        1 => (0..9_usize).prop_map(Event::Release),
        1 => Just(Event::Restart),
    ]
}

pub fn policy() -> impl Strategy<Value = SimPolicy> {
    let soak = prop_oneof![1 => Just(None), 4 => (0..900_u64).prop_map(Some)];
    let freeze = prop_oneof![3 => Just(None), 1 => (60..7200_i64).prop_map(Some)];
    let limit = prop_oneof![2 => Just(None), 1 => (1..3_i32).prop_map(Some)];
    (soak, any::<bool>(), any::<bool>(), freeze, limit, any::<bool>(), any::<bool>()).prop_map(
        |(soak, approval, window, freeze, max_parallel, rolls_back, blocks)| SimPolicy {
            soak,
            approval,
            window,
            freeze,
            max_parallel,
            rolls_back,
            blocks,
        },
    )
}

/// The events of a refresher with waves, windows and freezes.
pub fn staged_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        16 => event(),
        2 => any::<bool>().prop_map(Event::Approve),
        1 => policy().prop_map(Event::Policy),
    ]
}

/// The events of a refresher that observes the nodes of its groups.
fn cluster_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => staged_event(),
        1 => any::<bool>().prop_map(Event::DenyNodes),
        1 => any::<bool>().prop_map(Event::ClusterDown),
        2 => (0..900_i64).prop_map(Event::SlowNodes),
        1 => (0..4_usize, any::<bool>()).prop_map(|(group, on)| Event::Build(group, on)),
        1 => (0..4_usize, any::<bool>()).prop_map(|(group, on)| Event::Budget(group, on)),
        1 => (0..4_usize).prop_map(Event::Agent),
    ]
}

/// The events of a cluster with self-managed groups, too.
fn event_with_own() -> impl Strategy<Value = Event> {
    let foreign = prop_oneof![
        2 => Just(Foreign::Refresh),
        2 => Just(Foreign::Cancel),
        1 => Just(Foreign::Follow),
    ];
    prop_oneof![
        16 => staged_event(),
        2 => (0..2_usize, foreign).prop_map(|(group, what)| Event::Own(group, what)),
        1 => (0..2_usize).prop_map(Event::SpoilOwn),
        1 => any::<bool>().prop_map(Event::Irreversible),
        3 => cluster_event(),
    ]
}

/// Without further events, every group is on the target, or the status tells a person why not.
fn expect_settled(world: &World, pass: &Pass<AMIRefresherStatus>) {
    match (pass.health, reason(pass).as_str()) {
        (ObjectHealth::Settled, _) => {
            assert_eq!(world.off(), Vec::<&str>::new(), "settled, but not on the target")
        }
        (ObjectHealth::Stalled, "UpdateFailed" | "ImageHeld") => {
            let target = world.target();
            let is_target = |image: &ImageId| *image == target || world.has_same_inputs(image, &target);
            let late = world.cluster.iter().flat_map(|cluster| &cluster.late);
            let mut wrong = world.bad.iter().chain(&world.refused).chain(late);
            let bad = wrong.any(|(_, image)| is_target(image)) || world.was_canceled;
            assert!(bad, "reported as failed, but nothing is wrong with the image");
        }
        (ObjectHealth::Stalled, "AnotherWriter") => assert!(!world.off().is_empty()),
        other => panic!("settles as {other:?}"),
    }
}

proptest! {
    // 256 cases; the environment variable PROPTEST_CASES sets another number (`make properties`).
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_event_sequence_does_harm_and_every_one_settles(
        groups in 1..4_usize,
        at_once in any::<bool>(),
        events in prop::collection::vec(event(), 1..120),
    ) {
        holds(groups, at_once, &events);
    }

    #[test]
    fn no_event_sequence_does_harm_where_reads_are_outdated(
        groups in 1..4_usize,
        at_once in any::<bool>(),
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new(groups, at_once);
        world.shares = true;
        holds_in(world, &events);
    }

    #[test]
    fn no_event_sequence_does_harm_to_self_managed_groups(
        groups in 1..3_usize,
        own in 1..3_usize,
        at_once in any::<bool>(),
        shares in any::<bool>(),
        policy in policy(),
        slow in prop::option::of(0..900_i64),
        events in prop::collection::vec(event_with_own(), 1..120),
    ) {
        let mut world = World::new(groups, at_once).with_own(own);
        world.shares = shares;
        world.cluster = slow.map(|slow| SimCluster { slow, mixes: slow % 2 == 0, ..SimCluster::default() });
        world.set_policy(policy);
        holds_in(world, &events);
    }

    #[test]
    fn no_group_starts_before_its_wave_its_approval_and_its_window(
        groups in 1..5_usize,
        at_once in any::<bool>(),
        shares in any::<bool>(),
        policy in policy(),
        events in prop::collection::vec(staged_event(), 1..120),
    ) {
        let mut world = World::new(groups, at_once);
        world.shares = shares;
        world.set_policy(policy);
        holds_in(world, &events);
    }

    #[test]
    fn no_group_starts_before_the_nodes_of_the_last_one_are_ready(
        groups in 1..5_usize,
        at_once in any::<bool>(),
        shares in any::<bool>(),
        policy in policy(),
        slow in 0..900_i64,
        events in prop::collection::vec(cluster_event(), 1..120),
    ) {
        let mut world = World::new(groups, at_once);
        world.shares = shares;
        world.set_policy(policy);
        world.cluster = Some(SimCluster { slow, mixes: slow % 2 == 0, ..SimCluster::default() });
        holds_in(world, &events);
    }
}

/// The world checks at every effect that it does no harm. This checks that the refresher settles and leaves nothing
/// behind.
fn holds(groups: usize, at_once: bool, events: &[Event]) {
    holds_in(World::new(groups, at_once), events);
}

fn holds_in(mut world: World, events: &[Event]) {
    events.iter().for_each(|event| world.happens(event));
    let pass = world.calm();
    expect_settled(&world, &pass);

    let effects = world.effects.len();
    let again = world.pass(Mishap::None);
    assert_eq!(again.status, pass.status, "a reconcile that changes nothing returns an equal status");
    assert_eq!(world.effects.len(), effects, "a settled reconcile has no effect");

    world.bad.clear();
    world.cluster.iter_mut().for_each(|cluster| cluster.slow = 0);
    world.advance(2 * 86_400);
    world.object.spec.ami = None;
    // The second of them is built from other inputs than the image that may be held.
    world.happens(&Event::NewImage);
    world.happens(&Event::NewImage);
    let flushed = world.calm();
    assert_eq!(flushed.health, ObjectHealth::Settled);
    assert_eq!(world.off(), Vec::<&str>::new());
    assert_eq!(world.leaked(), Vec::<i64>::new(), "launch template versions leaked");
}

/// A wave needs an approval from now on, after the turn of a group of it came and before its update was requested.
#[test]
fn a_group_whose_turn_came_waits_for_an_approval_that_is_required_since() {
    use Event::{Delete, NewImage, Pass, Policy};
    let policy = |approval| SimPolicy { soak: Some(0), approval, ..SimPolicy::default() };
    let pass = || Pass(Mishap::None);
    let turn = [NewImage, pass(), Delete(2), Pass(Mishap::AnswerLost), pass()];
    let mut world = World::new(2, false);
    world.set_policy(policy(false));
    holds_in(world, &[&turn[..], &[Policy(policy(true)), pass()]].concat());
}

/// Waves with an approval are declared after a group of the wave has started, whose record was lost.
#[test]
fn a_wave_that_has_begun_before_waves_were_declared_needs_no_approval() {
    use Event::{Create, Delete, NewImage, Pass, Policy};
    let staged = |approval| SimPolicy { soak: Some(0), approval, ..SimPolicy::default() };
    let pass = || Pass(Mishap::None);
    let begun = [NewImage, Create, Policy(staged(false)), Delete(0), pass(), pass()];
    let started = [Policy(SimPolicy::default()), pass(), Pass(Mishap::DiesAfter)];
    let mut world = World::new(3, false);
    world.set_policy(SimPolicy::default());
    world.cluster = Some(SimCluster { mixes: true, ..SimCluster::default() });
    holds_in(world, &[&begun[..], &started[..], &[Policy(staged(true))]].concat());
}

/// The nodes of a group that hosts a build are replaced by another writer, and have not all joined yet.
#[test]
fn a_build_is_found_on_a_group_whose_nodes_were_just_replaced() {
    use Event::{Advance, Build, NewImage, Own, Pass};
    let pass = || Pass(Mishap::None);
    let begun = [NewImage, pass(), Build(1, true), pass(), pass(), pass()];
    let replaced = [Own(0, Foreign::Refresh), Advance(300), pass(), pass(), pass()];
    let mut world = World::new(1, true).with_own(1);
    world.set_policy(SimPolicy::default());
    world.cluster = Some(SimCluster { slow: 276, mixes: true, ..SimCluster::default() });
    holds_in(world, &[&begun[..], &replaced[..]].concat());
}

/// Another writer lets a group follow `$Latest` while EC2 does not list the newest version yet.
#[test]
fn a_group_is_pinned_to_the_newest_version_that_is_listed() {
    use Event::{Lag, NewImage, Own, Pass, Refuse};
    let pass = || Pass(Mishap::None);
    let begun =
        [Refuse(0, ActErrorKind::Other), NewImage, pass(), Lag(true), pass(), pass(), pass(), pass(), pass()];
    let world = World::new(1, false).with_own(1);
    holds_in(world, &[&begun[..], &[Own(0, Foreign::Follow), pass()]].concat());
}

/// Another writer updates a group of the first wave, which still shows the target.
#[test]
fn a_later_wave_waits_for_an_update_of_another_writer() {
    use Event::{Advance, Create, Foreign, LoseStatus, Name, NewImage, Pass, Policy};
    let pass = || Pass(Mishap::None);
    let moved = [NewImage, pass(), pass(), pass(), pass(), Create, Name(1), Create, pass(), pass(), pass()];
    let staged = SimPolicy { soak: Some(0), ..SimPolicy::default() };
    let updated = [Advance(300), LoseStatus, Foreign(0), Policy(staged), pass(), pass(), pass(), pass()];
    holds(2, true, &[&moved[..], &updated[..]].concat());
}

/// The configuration changed while an update ran that then failed.
#[test]
fn a_failure_counts_against_the_configuration_it_started_with() {
    use Event::{Advance, LoseStatus, Name, NewImage, Spoil};
    let pass = || Event::Pass(Mishap::None);
    let start = [NewImage, pass(), pass(), pass(), pass(), Advance(195)];
    let change = [NewImage, LoseStatus, Spoil(0), Advance(105), pass(), Name(8)];
    holds(1, false, &[&start[..], &change[..]].concat());
}

/// Another writer starts an update between the turn of a group and the start of its update.
#[test]
fn a_group_waits_for_an_update_that_began_after_its_turn() {
    let pass = || Event::Pass(Mishap::None);
    let events =
        [Event::NewImage, Event::Pass(Mishap::AnswerLost), pass(), Event::Foreign(1), pass(), pass()];
    holds(3, false, &events);
}

/// A version was hidden and created again, and the record of the second start was lost.
#[test]
fn an_update_is_found_whichever_version_it_went_to() {
    use Event::{Advance, Delete, Lag, Name, NewImage, Pass, Spoil};
    use Mishap::{AnswerLost, DiesAfter};
    let before = [NewImage, Name(0), NewImage, Spoil(1), Delete(2), NewImage, Name(6), Lag(true)];
    let created = [Pass(AnswerLost), Pass(AnswerLost), Pass(Mishap::None), Pass(AnswerLost), Advance(300)];
    let hidden = [Pass(Mishap::None), Pass(DiesAfter), Lag(false), Pass(Mishap::None)];
    let lost = [Pass(DiesAfter), Pass(DiesAfter)];
    holds(3, true, &[&before[..], &created[..], &hidden[..], &lost[..]].concat());
}

/// A group was deleted while it was updated, and recreated with the same name.
#[test]
fn a_recreated_group_is_moved_again() {
    use Event::{Advance, Create, Delete, NewImage, Pass};
    let pass = || Pass(Mishap::None);
    let start =
        [Create, NewImage, pass(), Pass(Mishap::AnswerLost), pass(), Pass(Mishap::Stale), Advance(300)];
    let recreated = [pass(), pass(), pass(), pass(), Delete(1), Create];
    holds(1, false, &[&start[..], &recreated[..]].concat());
}

/// The version in force of a group failed on it, and then a newer image did, too: a rollback would repeat the first one.
#[test]
fn a_rollback_does_not_return_to_an_image_that_failed_on_the_group() {
    use Event::{NewImage, Own, Pass, Policy, SpoilOwn};
    let rolls_back = SimPolicy { rolls_back: true, ..SimPolicy::default() };
    let pass = || Pass(Mishap::None);
    let started = [NewImage, SpoilOwn(0), pass(), NewImage, pass(), Pass(Mishap::DiesAfter), SpoilOwn(0)];
    let changed = [Policy(rolls_back), Own(0, Foreign::Follow)];
    let mut world = World::new(1, false).with_own(1);
    world.set_policy(SimPolicy::default());
    holds_in(world, &[&started[..], &changed[..]].concat());
}
