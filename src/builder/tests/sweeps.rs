//! Tables: what is garbage-collected after ended runs, when, and where.

use opsy_runner::request::{Resource, ResourceKind};

use super::harvests::{after, promoted, recorded};
use super::*;
use crate::api::builder::SweepRecord;
use crate::api::tags;
use crate::api::words::RunResult;
use crate::builder::outcome;
use crate::builder::report;
use crate::builder::step::Sweep;
use crate::engine::Failure;

/// Records the result of the ended run, and forgets the run.
fn collected(observed: &mut Observed) {
    let record = recorded(observed);
    observed.runs = Seen::Is(Vec::new());
    observed.status.history = Some(vec![record.run]);
    observed.status.sweeps = Some(vec![record.sweep]);
}

fn sweep_of(observed: &Observed) -> Sweep {
    match step(observed) {
        Step::Sweep(sweep) => *sweep,
        other => panic!("expected a sweep, got {other:?}"),
    }
}

#[test]
fn what_packer_announced_is_kept_for_the_sweep_but_never_a_result() {
    let resource = |kind, id: &str| Resource { kind, id: id.into() };
    let mut ended = run(1, succeeded(&[1]));
    ended.resources = vec![
        resource(ResourceKind::Instance, "i-1"),
        resource(ResourceKind::KeyPair, "packer_1"),
        resource(ResourceKind::SecurityGroup, "sg-1"),
        resource(ResourceKind::Volume, "vol-1"),
        resource(ResourceKind::Image, "ami-00000001"),
        resource(ResourceKind::Image, "ami-00000002"),
    ];
    let mut observed = after(succeeded(&[1]), vec![promoted(1, tags::ACTIVE)]);
    observed.runs = Seen::Is(vec![ended]);
    collected(&mut observed);
    let sweep = sweep_of(&observed);
    assert_eq!(
        (sweep.announced.instances, sweep.announced.key_pairs),
        (vec!["i-1".into()], vec!["packer_1".into()])
    );
    assert_eq!(
        (sweep.announced.security_groups, sweep.announced.volumes),
        (vec!["sg-1".into()], vec!["vol-1".into()])
    );
    assert_eq!(sweep.announced.images, ["ami-00000002"]);
    assert!(sweep.spared.contains("ami-00000001") && sweep.spared.contains("snap-00000001"));
}

#[test]
fn sweeps_wait_for_their_time_for_whole_files_and_for_known_images() {
    let record = |due: Timestamp| SweepRecord {
        id: format!("{:016x}", 1),
        region: "us-east-1".into(),
        due: Some(due),
        ..SweepRecord::default()
    };
    let with = |due: Timestamp| {
        let mut observed = settled();
        observed.status.sweeps = Some(vec![record(due)]);
        observed
    };
    assert_eq!(planned(&with(at_hour(1))), "do Sweep");
    assert_eq!(planned(&with(at_hour(2))), "done ami-00000001");
    let mut broken_file = with(at_hour(1));
    broken_file.complete = false;
    assert_eq!(planned(&broken_file), "done ami-00000001");
    let mut blind = with(at_hour(1));
    blind.images = unknown();
    assert_eq!(planned(&blind), "wait Unknown");
    let mut unreadable = with(at_hour(1));
    unreadable.status.sweeps.as_mut().expect("one")[0].region = "nowhere".into();
    assert_eq!(planned(&unreadable), "done ami-00000001");
    let mut failing = with(at_hour(1));
    failing.images = Seen::Is(Vec::new());
    failing.status.images = None;
    failing.status.history = Some(vec![super::record(1, RunResult::Failed, at_hour(1))]);
    assert_eq!(planned(&failing), "do Sweep", "before the next attempt");
}

#[test]
fn a_clock_that_was_set_back_puts_a_sweep_off_by_its_pause_at_most() {
    let due = |hours: u64, refused: Option<i32>| {
        let due = Some(at_hour(hours));
        let mut sweeps = [SweepRecord { due, refused, ..SweepRecord::default() }];
        crate::builder::sweep_record::limit_due_dates(&mut sweeps, at_hour(1));
        let once = sweeps[0].due;
        crate::builder::sweep_record::limit_due_dates(&mut sweeps, at_hour(1));
        assert_eq!(sweeps[0].due, once, "once is enough");
        once
    };
    for (hours, refused, expected) in [
        (0, None, 0),
        (25, None, 25),
        (26, None, 26),
        (27, None, 25),
        (24 * 365, None, 25),
        (7, Some(1), 7),
        (9, Some(1), 7),
        (24 * 365, Some(3), 24 * 7 + 1),
    ] {
        assert_eq!(due(hours, refused), Some(at_hour(expected)), "{hours} {refused:?}");
    }
}

#[test]
fn a_machine_that_is_kept_on_purpose_is_looked_for_a_day_later() {
    let mut observed = after(RunState::Failed(Failure::TimedOut), Vec::new());
    let due = |observed: &Observed| time::between(at_hour(1), recorded(observed).sweep.due.expect("a date"));
    assert_eq!(due(&observed), Duration::ZERO);
    let spec = observed.spec.as_mut().expect("valid");
    spec.commands.last_mut().expect("a build").on_error = Some("abort".into());
    assert_eq!(due(&observed), HOUR * 24);
}

#[test]
fn what_a_kept_machine_held_is_looked_for_again_once_the_machine_is_gone() {
    let mut observed = after(RunState::Failed(Failure::TimedOut), Vec::new());
    observed.spec.as_mut().expect("valid").commands.last_mut().expect("a build").on_error =
        Some("abort".into());
    collected(&mut observed);
    observed.now = observed.sweeps()[0].due.expect("a date");
    let plan = plan::plan(&observed, observed.now);
    assert!(matches!(&plan, Plan::Act { step: Step::Sweep(_), .. }), "{plan:?}");
    let done = outcome::Outcome::Did(outcome::Done::Swept(Box::default()));
    let status = report::pass(&observed, &plan, &done, observed.now).status;
    let next = status.sweeps.expect("another check is due")[0].due.expect("a date");
    assert_eq!(time::between(observed.now, next), HOUR / 12);
}

#[test]
fn what_a_failed_run_made_is_looked_for_in_every_region_it_touched() {
    let region = |text: &str| Region::parse(text).expect("a region");
    let mut failed = run(1, RunState::Failed(Failure::Packer { exit: Some(1), errors: vec!["arm".into()] }));
    failed.details.artifacts = vec![artifact(&home(), 1), artifact(&region("eu-west-1"), 2)];
    failed.resources = vec![
        Resource { kind: ResourceKind::Image, id: image_id(1).to_string() },
        Resource { kind: ResourceKind::Region, id: "ap-south-1".into() },
        Resource { kind: ResourceKind::Region, id: "us-east-1".into() },
    ];
    let mut observed = after(failed.state.clone(), Vec::new());
    observed.runs = Seen::Is(vec![failed]);
    collected(&mut observed);
    let sweep = sweep_of(&observed);
    assert_eq!(sweep.regions, [home(), region("ap-south-1"), region("eu-west-1")]);
    assert_eq!(sweep.announced.artifacts, [image_id(1).to_string(), image_id(2).to_string()]);
    assert_eq!(
        (sweep.announced.images, sweep.announced.since),
        (vec![image_id(1).to_string()], Some(at_hour(0)))
    );
}

#[test]
fn a_run_that_was_cut_off_is_looked_for_in_every_region() {
    let packer = |exit| Failure::Packer { exit, errors: vec!["x".into()] };
    for (state, expected) in [
        (RunState::Lost("killed".into()), true),
        (RunState::Failed(packer(None)), true),
        (RunState::Failed(Failure::OutOfMemory), true),
        (RunState::Failed(Failure::Evicted("node drained".into())), true),
        (RunState::Failed(Failure::TimedOut), true),
        (RunState::Failed(Failure::Cancelled), true),
        // Packer ended by itself and cleaned up, or it never ran.
        (RunState::Failed(packer(Some(1))), false),
        (RunState::Failed(Failure::NoArtifact { errors: Vec::new() }), false),
        (RunState::Failed(Failure::NotStarted("no packer".into())), false),
    ] {
        let mut observed = after(state.clone(), Vec::new());
        assert_eq!(recorded(&observed).sweep.everywhere, expected.then_some(true), "{state:?}");
        let mut reported = run(1, state.clone());
        reported.resources = vec![Resource { kind: ResourceKind::Region, id: "ap-south-1".into() }];
        observed.runs = Seen::Is(vec![reported]);
        assert_eq!(recorded(&observed).sweep.everywhere, None, "its regions are known: {state:?}");
    }
    let mut waiting = run(1, RunState::Failed(Failure::Cancelled));
    waiting.started_at = None;
    let mut observed = after(waiting.state.clone(), Vec::new());
    observed.runs = Seen::Is(vec![waiting]);
    assert_eq!(recorded(&observed).sweep.everywhere, None, "it never started");
    let mut kept = after(RunState::Failed(packer(Some(1))), Vec::new());
    let spec = kept.spec.as_mut().expect("valid");
    spec.commands.last_mut().expect("a build").on_error = Some("abort".into());
    assert_eq!(recorded(&kept).sweep.everywhere, Some(true), "Packer leaves its machine on purpose");
}

#[test]
fn a_success_that_comes_to_nothing_leaves_its_images_to_the_sweep() {
    let elsewhere = artifact(&Region::parse("eu-west-1").expect("a region"), 1);
    let record = recorded(&after(RunState::Succeeded(vec![elsewhere]), Vec::new()));
    assert_eq!(record.sweep.regions, Some(vec!["eu-west-1".into()]));
    assert_eq!(record.sweep.announced, Some(vec!["artifact=ami-00000001".into()]));
}

#[test]
fn a_record_of_an_older_version_is_swept_in_its_region_alone() {
    let mut observed = settled();
    let old = SweepRecord {
        id: format!("{:016x}", 1),
        region: "us-east-1".into(),
        due: Some(at_hour(1)),
        ..SweepRecord::default()
    };
    observed.status.sweeps = Some(vec![old]);
    let sweep = sweep_of(&observed);
    assert_eq!((sweep.regions, sweep.announced.since), (vec![home()], None));
}

#[test]
fn what_a_run_left_is_looked_for_by_the_owner_that_it_was_started_with() {
    let swept_for = |of_run: Option<&str>, now: &str| {
        let owner = |name: &str| Owner::parse(name).expect("an owner");
        let mut failed = run(1, RunState::Failed(Failure::TimedOut));
        failed.facts.owner = of_run.map(owner);
        let mut observed = after(failed.state.clone(), Vec::new());
        observed.runs = Seen::Is(vec![failed]);
        collected(&mut observed);
        observed.subject.owner = owner(now);
        let with_owner = sweep_of(&observed).owner.to_string();
        observed.status.sweeps.as_mut().expect("one")[0].owner = None;
        (with_owner, sweep_of(&observed).owner.to_string())
    };
    assert_eq!(swept_for(Some("before"), "now"), ("before".to_owned(), "now".to_owned()));
    assert_eq!(
        swept_for(None, "now"),
        ("agent-1".to_owned(), "now".to_owned()),
        "the owner at the time of the record"
    );
}
