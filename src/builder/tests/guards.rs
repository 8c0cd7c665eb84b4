//! Tables: what keeps a build from starting: earlier failures, a mass loss, a wrong account.

use super::*;
use crate::api::builder::SweepRecord;
use crate::api::tags;
use crate::api::words::RunResult;
use crate::builder::history;

#[test]
fn failures_pause_longer_each_time_and_stop_at_the_limit() {
    let failed = |records: Vec<RunRecord>, hour: u64| {
        altered(observed(), |observed| {
            observed.status.history = Some(records);
            observed.now = at_hour(hour);
        })
    };
    let one = || record(1, RunResult::Failed, at_hour(1));
    let lost = || record(2, RunResult::Lost, at_hour(1));
    let timed_out = || record(3, RunResult::TimedOut, at_hour(1));
    let good = || record(4, RunResult::Succeeded, at_hour(1));
    let cancelled = || record(5, RunResult::Cancelled, at_hour(1));
    let others =
        || RunRecord { inputs: Some(InputsRecord::default()), ..record(6, RunResult::Failed, at_hour(1)) };
    let five = || vec![one(), lost(), timed_out(), one(), lost()];
    let cases: Vec<(&str, Observed)> = vec![
        ("wait Backoff", failed(vec![one()], 1)),
        ("start Retry", failed(vec![one()], 2)),
        ("wait Backoff", failed(vec![one(), lost(), timed_out(), one()], 1)),
        ("start Retry", failed(vec![one(), lost(), timed_out(), one()], 2)),
        ("stalled RetryLimit", failed(five(), 99)),
        ("start Missing", failed(vec![good(), one(), one(), one(), one(), one()], 1)),
        ("start Missing", failed(vec![others(), others(), others(), others(), others()], 1)),
        ("wait Backoff", failed(vec![cancelled()], 1)),
        (
            "start Missing",
            failed(vec![cancelled(), cancelled(), cancelled(), cancelled(), cancelled(), cancelled()], 2),
        ),
        (
            "wait Cancelled",
            altered(failed(vec![cancelled()], 99), |observed| observed.cancel = Some(format!("{:016x}", 5))),
        ),
    ];
    for (expected, observed) in cases {
        assert_eq!(planned(&observed), expected, "{:?}", observed.status.history);
    }
    let changed = altered(failed(five(), 1), |observed| {
        observed.template = Seen::Is(resolved("v1-bbbb".into()));
    });
    assert_eq!(planned(&changed), "start Missing", "other inputs are built at once");
}

#[test]
fn a_failure_of_times_to_come_delays_nothing() {
    let policy = spec::Failures { limit: 10, backoff: HOUR / 12, max_backoff: HOUR };
    let due = |ended| {
        let last = record(1, RunResult::Failed, ended);
        let streak = history::Streak { failures: 1, attempts: 1, last: Some(&last) };
        history::next_attempt(&streak, &policy, at_hour(0)).is_some()
    };
    assert!(due(at_hour(0)));
    assert!(!due(at_hour(24)), "the clock was set back by a day since");
}

#[test]
fn pauses_double_to_their_limit_and_depend_on_the_build_alone() {
    let policy = spec::Failures { limit: 10, backoff: HOUR / 12, max_backoff: HOUR };
    let wait = |failures: usize, id: u64| {
        let last = record(id, RunResult::Failed, at_hour(0));
        let streak = history::Streak { failures, attempts: failures, last: Some(&last) };
        time::between(
            at_hour(0),
            history::next_attempt(&streak, &policy, at_hour(0)).expect("there was a failure"),
        )
    };
    for (failures, minutes) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (10, 60)] {
        let pause = Duration::from_secs(minutes * 60);
        let waited = wait(failures, 1);
        assert!(pause <= waited && waited <= pause + pause / 10, "{failures}: {waited:?}");
        assert_eq!(waited, wait(failures, 1));
    }
    assert!((1..20).any(|id| wait(1, id) != wait(1, 0)), "builders that failed together spread out");
}

#[test]
fn many_images_gone_at_once_are_not_built_again() {
    let gone = |fleet: FleetView| {
        altered(settled(), |observed| {
            images_of(observed).clear();
            observed.fleet = fleet;
        })
    };
    let view = |lost, builders| FleetView { builders, lost, ..FleetView::default() };
    assert_eq!(planned(&gone(view(2, 3))), "start Missing");
    assert_eq!(planned(&gone(view(3, 6))), "start Missing");
    assert_eq!(planned(&gone(view(3, 5))), "stalled MassBuildRefused");
    assert_eq!(
        planned(&altered(gone(view(3, 5)), |observed| observed.allow_mass_build = true)),
        "start Missing"
    );
    let others = FleetView { builders: 3, lost: 1, outstanding: vec![key()], ..FleetView::default() };
    assert_eq!(planned(&gone(others.clone())), "wait Fleet");
    assert_eq!(
        planned(&altered(observed(), |observed| observed.fleet = others)),
        "start Missing",
        "a new builder lost nothing"
    );
}

#[test]
fn images_that_are_there_without_their_tags_are_no_reason_to_build_everything() {
    let all = |lost| FleetView { builders: 3, lost, ..FleetView::default() };
    let without = |tag: &'static str| {
        altered(settled(), |observed| drop(images_of(observed)[0].image.tags.remove(tag)))
    };
    for tag in [tags::STATUS, tags::OWNER] {
        let observed = without(tag);
        assert_eq!(observed.lost(), Some(true), "{tag}");
        assert_eq!(
            planned(&altered(observed.clone(), |observed| observed.fleet = all(3))),
            "stalled MassBuildRefused",
            "{tag}"
        );
        assert_eq!(planned(&observed), "start Missing", "a single image is rebuilt: {tag}");
    }
    let deprecated = altered(settled(), |observed| {
        images_of(observed)[0].image.tags.insert(tags::STATUS.into(), tags::DEPRECATED.into());
        observed.fleet = all(0);
    });
    assert_eq!((planned(&deprecated).as_str(), deprecated.lost()), ("start Missing", Some(false)));
    let stale = altered(without(tags::STATUS), |observed| {
        observed.status.images.as_mut().expect("one")[0].since = Some(observed.now);
    });
    assert_eq!(stale.lost(), Some(false), "EC2 may show tags late");
}

#[test]
fn images_of_another_owner_are_not_built_again() {
    let moved =
        altered(settled(), |observed| observed.subject.owner = Owner::parse("agent-2").expect("an owner"));
    assert_eq!(planned(&moved), "stalled AnotherOwner");
    assert_eq!(moved.lost(), Some(true));
    let deprecated = altered(moved, |observed| {
        images_of(observed)[0].image.tags.insert(tags::STATUS.into(), tags::DEPRECATED.into());
    });
    assert_eq!(planned(&deprecated), "start Missing", "a person requested a new image");
}

#[test]
fn an_account_that_is_not_named_is_never_touched() {
    let in_account = |account: Option<Seen<String>>, mut observed: Observed| {
        observed.accounts = Some(vec!["111111111111".into()]);
        observed.account = account;
        planned(&observed)
    };
    let other = || Some(Seen::Is("222222222222".to_owned()));
    assert_eq!(in_account(Some(Seen::Is("111111111111".into())), observed()), "start Missing");
    assert_eq!(in_account(other(), observed()), "stalled AccountNotAllowed");
    assert_eq!(in_account(Some(unknown()), observed()), "wait Unknown");
    let ended = altered(observed(), |observed| observed.runs = Seen::Is(vec![run(1, succeeded(&[1]))]));
    assert_eq!(in_account(other(), ended), "stalled AccountNotAllowed");
    let left = || {
        altered(observed(), |observed| {
            observed.spec = Err(vec![("spec.region".into(), "is missing".into())]);
            observed.status.sweeps = Some(vec![SweepRecord {
                id: format!("{:016x}", 1),
                region: "us-east-1".into(),
                ..SweepRecord::default()
            }]);
        })
    };
    assert_eq!(in_account(Some(Seen::Is("111111111111".into())), left()), "do Sweep");
    assert_eq!(in_account(other(), left()), "stalled AccountNotAllowed");
    assert_eq!(in_account(Some(unknown()), left()), "wait Unknown");
    assert_eq!(in_account(None, left()), "stalled Invalid", "and nothing is garbage-collected");
}
