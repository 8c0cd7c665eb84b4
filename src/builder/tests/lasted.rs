//! How long a live run has lasted, by its runner and by our own clock.

use super::*;
use crate::builder::Watches;

#[test]
fn a_run_has_lasted_as_long_as_its_runner_says_and_it_was_watched() {
    let watches = Watches::default();
    let running =
        |number, elapsed| vec![run(number, RunState::Running(Progress { elapsed, ..Progress::default() }))];
    let hour = Duration::from_secs(3600);
    assert_eq!(watches.look(&key(), &[]), None);
    assert_eq!(watches.look(&key(), &[run(1, RunState::Pending(None))]), Some(Duration::ZERO));
    assert_eq!(watches.look(&key(), &running(1, 3600)), Some(hour), "the runner knows better");
    let later = watches.look(&key(), &running(1, 0)).expect("it is live");
    assert!(later >= hour && later < hour * 2, "watched since: {later:?}");
    assert_eq!(watches.look(&key(), &running(2, 60)), Some(hour / 60), "another run");
    let ended = run(2, RunState::Lost("killed".into()));
    assert_eq!(watches.look(&key(), &[ended]), None);
}
