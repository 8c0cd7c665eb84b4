//! Tables: how long a live run has lasted, by its runner and by the agent's own clock.

use super::*;
use crate::builder::Watches;

#[test]
fn a_run_has_lasted_as_long_as_its_runner_says_and_it_was_watched() {
    let watches = Watches::default();
    let running =
        |number, elapsed| vec![run(number, RunState::Running(Progress { elapsed, ..Progress::default() }))];
    let hour = Duration::from_secs(3600);
    assert_eq!(watches.elapsed(&key(), &[]), None);
    assert_eq!(watches.elapsed(&key(), &[run(1, RunState::Pending(None))]), Some(Duration::ZERO));
    assert_eq!(watches.elapsed(&key(), &running(1, 3600)), Some(hour), "the runner's value counts");
    let later = watches.elapsed(&key(), &running(1, 0)).expect("it is live");
    assert!(later >= hour && later < hour * 2, "time has passed since: {later:?}");
    assert_eq!(watches.elapsed(&key(), &running(2, 60)), Some(hour / 60), "another run");
    let ended = run(2, RunState::Lost("killed".into()));
    assert_eq!(watches.elapsed(&key(), &[ended]), None);
}

#[test]
fn a_build_may_hold_its_slot_for_a_day_at_most() {
    let with_limit = |limit: &str| {
        let mut object = object();
        object.spec.time_outs.get_or_insert_default().build = Some(limit.to_owned());
        spec::parse(&object)
    };
    assert!(with_limit("24h").is_ok());
    let problems = with_limit("10y").expect_err("too long");
    let expected = "must be at most 24h: a build occupies a slot that others wait for";
    assert_eq!(problems, [("spec.timeOuts.build".to_owned(), expected.to_owned())]);
}
