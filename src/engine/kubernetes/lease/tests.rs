//! Decisions about a record, without a server.

use proptest::prelude::*;

use super::record::{Verdict, acquired, holder, judge, of_one_deployment, released, renewed, same_tenure};
use super::*;

const DURATION: Duration = Duration::from_secs(15);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn record() -> LeaseSpec {
    acquired(None, "one", DURATION, at(1_000_000))
}

#[test]
fn a_held_lease_is_acquired_only_after_its_whole_duration() {
    let nearly = DURATION.saturating_sub(Duration::from_millis(1));
    assert_eq!(judge(&record(), Duration::ZERO, DURATION), Verdict::Wait(DURATION));
    assert_eq!(judge(&record(), nearly, DURATION), Verdict::Wait(Duration::from_millis(1)));
    assert_eq!(judge(&record(), DURATION, DURATION), Verdict::Acquire);
}

#[test]
fn the_longer_duration_counts_when_two_replicas_differ() {
    let long = acquired(None, "one", Duration::from_secs(60), at(0));
    assert_eq!(judge(&long, DURATION, DURATION), Verdict::Wait(Duration::from_secs(45)));
    let short = acquired(None, "one", Duration::from_secs(1), at(0));
    assert_eq!(judge(&short, Duration::from_secs(1), DURATION), Verdict::Wait(Duration::from_secs(14)));
}

#[test]
fn a_lease_without_a_holder_is_acquired_at_once() {
    let free = released(&record(), at(1_000_001));
    assert_eq!(holder(&free), None);
    assert_eq!(judge(&free, Duration::ZERO, DURATION), Verdict::Acquire);
    assert_eq!(judge(&LeaseSpec::default(), Duration::ZERO, DURATION), Verdict::Acquire);
    let empty = LeaseSpec { holder_identity: Some(String::new()), ..record() };
    assert_eq!(judge(&empty, Duration::ZERO, DURATION), Verdict::Acquire);
}

#[test]
fn an_acquisition_is_a_transition_and_a_new_tenure() {
    let first = record();
    assert_eq!(first.lease_transitions, Some(0));
    let second = acquired(Some(&first), "two", DURATION, at(1_000_100));
    assert_eq!((second.lease_transitions, holder(&second)), (Some(1), Some("two")));
    assert!(!same_tenure(&first, &second));
    let again = acquired(Some(&first), "one", DURATION, at(1_000_000));
    assert!(!same_tenure(&first, &again), "the same identity twice within one second");
    assert!(same_tenure(&first, &renewed(&first, at(1_000_005))));
}

#[test]
fn fractions_of_a_second_are_rounded_up() {
    let seconds = |duration| acquired(None, "one", duration, at(0)).lease_duration_seconds;
    assert_eq!(seconds(Duration::from_millis(200)), Some(1));
    assert_eq!(seconds(Duration::from_millis(1500)), Some(2));
    assert_eq!(seconds(DURATION), Some(15));
}

#[test]
fn pods_of_one_deployment_are_recognized_by_their_names() {
    for (one, other, expected) in [
        ("opsy-7d9c6b5f4-x2x4z_00", "opsy-5b8f7d9c66-b5b6w_11", true),
        ("opsy-7d9c6b5f4-x2x4z", "opsy-7d9c6b5f4-zzzzz_11", true),
        ("opsy-7d9c6b5f4-x2x4z_00", "opsy-b-7d9c6b5f4-x2x4z_00", false),
        ("images-opsy-7d9c6b5f4-x2x4z_00", "opsy-7d9c6b5f4-x2x4z_00", false),
        ("host_00", "host_11", false),
        ("opsy-0_00", "opsy-0_11", false),
        ("-7d9c6b5f4-x2x4z", "-7d9c6b5f4-x2x4z", false),
    ] {
        assert_eq!(of_one_deployment(one, other), expected, "{one} {other}");
    }
}

proptest! {
    #[test]
    fn a_renewal_always_changes_the_record_and_keeps_the_tenure(clock in prop::collection::vec(0i64..3, 1..20)) {
        let mut record = record();
        for second in clock {
            let next = renewed(&record, at(1_000_000 + second));
            prop_assert!(next.renew_time.as_ref().map(|t| t.0) > record.renew_time.as_ref().map(|t| t.0));
            prop_assert!(same_tenure(&record, &next));
            record = next;
        }
    }

    #[test]
    fn wall_clocks_do_not_matter(renewed_at in -4_000_000i64..4_000_000, acquired_at in -4_000_000i64..4_000_000) {
        let mut other = record();
        other.renew_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(at(renewed_at)));
        other.acquire_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(at(acquired_at)));
        let half = DURATION / 2;
        prop_assert_eq!(judge(&other, half, DURATION), judge(&record(), half, DURATION));
    }
}
