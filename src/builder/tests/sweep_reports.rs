//! Tables: what status records of the search for orphans of ended runs, and what is said of it.

use super::reports::{failing, pass};
use super::*;
use crate::api::words::RunResult;
use crate::aws::Orphans;
use crate::builder::observe;
use crate::builder::outcome::{Done, Outcome, Swept};
use crate::builder::report;
use crate::engine::{Failure, ObjectHealth};

/// When the first sweep is due, if it is still to come.
fn next_sweep(observed: &Observed) -> Option<Timestamp> {
    observed.status.sweeps.as_ref().and_then(|sweeps| sweeps[0].due)
}

#[test]
fn sweeps_come_four_times_and_failing_ones_later() {
    let mut observed = settled();
    let sweep = crate::api::builder::SweepRecord {
        id: format!("{:016x}", 1),
        region: "us-east-1".into(),
        due: Some(at_hour(1)),
        looks: Some(0),
        ..crate::api::builder::SweepRecord::default()
    };
    observed.status.sweeps = Some(vec![sweep]);
    let mut waits = Vec::new();
    while let Some(due) = next_sweep(&observed) {
        observed.now = due;
        let denied = failing(&observed, Class::Denied);
        assert_eq!((denied.health, denied.failed), (ObjectHealth::Busy, None), "it blocks nothing else");
        assert_eq!(denied.status.conditions, observed.status.conditions);
        let later = denied.status.sweeps.expect("kept")[0].due.expect("a date");
        assert_eq!(time::between(due, later), HOUR * 6);
        observed.status = pass(&observed).status;
        waits.extend(next_sweep(&observed).map(|next| time::between(due, next)));
    }
    let minute = HOUR / 60;
    assert_eq!(waits, [minute * 5, minute * 25, minute * (23 * 60 + 30)]);
}

#[test]
fn a_sweep_that_is_refused_is_given_up_until_somebody_asks() {
    let mut observed = settled();
    let sweep = |number: u32| crate::api::builder::SweepRecord {
        id: format!("{number:016x}"),
        region: "us-east-1".into(),
        due: Some(at_hour(1)),
        ..crate::api::builder::SweepRecord::default()
    };
    observed.status.sweeps = Some(vec![sweep(1)]);
    let (mut waits, mut notes) = (Vec::new(), Vec::new());
    while let Some(due) = next_sweep(&observed) {
        observed.now = due;
        let refused = failing(&observed, Class::Denied);
        observed.status = refused.status;
        notes.extend(refused.notes);
        waits.extend(next_sweep(&observed).map(|next| time::between(due, next)));
    }
    assert_eq!(waits, [HOUR * 6, HOUR * 24, HOUR * 24 * 7]);
    let reasons: Vec<&str> = notes.iter().map(|note| note.reason.as_ref()).collect();
    assert_eq!(reasons, ["SweepFailed", "SweepFailed", "SweepFailed", "SweepGivenUp"]);
    let last = &notes[3].message;
    for words in
        ["0000000000000001", "opsy reconcile packerbuilder/node", "deploy/iam", "ec2:CreateTags: refused"]
    {
        assert!(last.contains(words), "{words}: {last}");
    }
    observed.now = time::after(observed.now, HOUR * 24 * 365).expect("in range");
    assert_ne!(planned(&observed), "do Sweep", "it was given up");
    // A request makes it due again, and a successful check resets the refusals.
    let mut object = object();
    object.status = Some(observed.status.clone());
    assert_eq!(observe::known_status(&object), observed.status);
    let asked = [(crate::api::annotations::RECONCILE_AT.to_owned(), "again".to_owned())];
    object.metadata.annotations = Some(asked.into());
    let again = Observed { status: observe::known_status(&object), ..observed.clone() };
    assert_eq!(planned(&again), "do Sweep");
    let swept = &pass(&again).status.sweeps.expect("a later check")[0];
    assert_eq!((swept.refused, swept.looks), (None, Some(1)));
}

#[test]
fn regions_where_a_sweep_found_something_are_looked_in_later() {
    let mut observed = settled();
    observed.status.sweeps = Some(vec![crate::api::builder::SweepRecord {
        id: format!("{:016x}", 1),
        region: "us-east-1".into(),
        everywhere: Some(true),
        due: Some(at_hour(1)),
        ..crate::api::builder::SweepRecord::default()
    }]);
    let plan = plan::plan(&observed, observed.now);
    let Plan::Act { step: Step::Sweep(sweep), .. } = &plan else { panic!("a sweep: {plan:?}") };
    assert!(sweep.everywhere);
    let found = Orphans { instances: vec!["i-1".into()], ..Orphans::default() };
    let elsewhere = vec![Region::parse("eu-west-1").expect("a region")];
    let outcome = Outcome::Did(Done::Swept(Box::new(Swept { found, elsewhere })));
    let pass = report::pass(&observed, &plan, &outcome, observed.now);
    let record = &pass.status.sweeps.expect("a later check")[0];
    assert_eq!((record.everywhere, record.regions.clone()), (None, Some(vec!["eu-west-1".to_owned()])));
    let note = &pass.notes[0].message;
    assert!(note.contains("1 instances; in eu-west-1") && note.contains("spec.region"), "{note}");
}

#[test]
fn a_refused_sweep_is_remembered_as_long_as_its_run() {
    let given_up = crate::api::builder::SweepRecord {
        id: format!("{:016x}", 9),
        region: "us-east-1".into(),
        refused: Some(4),
        ..crate::api::builder::SweepRecord::default()
    };
    let mut observed =
        Observed { runs: Seen::Is(vec![run(1, RunState::Failed(Failure::TimedOut))]), ..observed() };
    observed.status.sweeps = Some(vec![given_up]);
    let kept = |observed: &Observed| pass(observed).status.sweeps.expect("of the run").len();
    assert_eq!(kept(&observed), 1, "its run is forgotten");
    observed.status.history = Some(vec![record(9, RunResult::Failed, at_hour(1))]);
    assert_eq!(kept(&observed), 2);
}
