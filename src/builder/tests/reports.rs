//! Tables: how a builder stands in words, and what status keeps.

use opsy_runner::request::{Resource, ResourceKind};

use super::*;
use crate::api::conditions::{READY, RECONCILING, STALLED, SUSPENDED, is_true};
use crate::aws::Leftovers;
use crate::builder::report::{self, ActError, Done, Outcome, Swept};
use crate::builder::step::What;
use crate::builder::{history, observe};
use crate::engine::{Failure, Pass, Standing, Wake};

type BuilderPass = Pass<PackerBuilderStatus>;

/// A pass in which every step works.
fn pass(seen: &Observed) -> BuilderPass {
    let plan = plan::plan(seen, seen.now);
    let outcome = match &plan {
        Plan::Act { step: Step::Sweep(_), .. } => Outcome::Did(Done::Swept(Box::default())),
        Plan::Act { .. } => Outcome::Did(Done::AsPlanned),
        _ => Outcome::Nothing,
    };
    report::pass(seen, &plan, &outcome, seen.now)
}

fn failing(seen: &Observed, class: Class) -> BuilderPass {
    let plan = plan::plan(seen, seen.now);
    let error = ActError { what: What::Aws, class, message: "ec2:CreateTags: refused".into() };
    report::pass(seen, &plan, &Outcome::Failed(error), seen.now)
}

/// Reason and message of Ready.
fn ready(pass: &BuilderPass) -> (String, String) {
    let ready = pass.status.conditions.iter().flatten().find(|condition| condition.r#type == READY);
    let ready = ready.expect("every pass that tells something says how ready it is");
    (ready.reason.clone().unwrap_or_default(), ready.message.clone().unwrap_or_default())
}

#[test]
fn a_good_image_is_ready_and_named() {
    let pass = pass(&settled());
    assert_eq!(
        ready(&pass),
        ("ImageReady".into(), "ami-00000001 (x86_64, us-east-1) active; expires 2026-10-31T00:00:00Z".into())
    );
    assert_eq!(pass.standing, Standing::Settled);
    assert_eq!(pass.status.state.as_deref(), Some("AMICreated"));
    assert_eq!(pass.status.images, Some(vec![lane_image(&active(1, at_hour(0)))]));
    assert_eq!(pass.status.inputs, Some(wanted()));
}

#[test]
fn a_pass_that_finds_nothing_new_gives_an_equal_status() {
    let suspended = Observed { suspended: true, ..seen() };
    let invalid = Observed { spec: Err(vec![("spec.region".into(), "missing".into())]), ..seen() };
    let running = Observed { runs: Seen::Is(vec![run(1, running())]), ..seen() };
    let blind = Observed { images: unknown(), ..seen() };
    let mut backoff = seen();
    backoff.status.history = Some(vec![record(1, history::FAILED, at_hour(1))]);
    for mut seen in [settled(), suspended, invalid, running, blind, backoff] {
        seen.status = pass(&seen).status;
        seen.now = time::after(seen.now, HOUR / 60).expect("in range");
        assert_eq!(pass(&seen).status, seen.status, "{}", planned(&seen));
        assert!(pass(&seen).notes.is_empty(), "what was told is not told again");
    }
}

#[test]
fn what_a_pending_run_waits_for_is_said() {
    let waits = RunState::Pending(Some("no node takes it: 0/3 nodes are available".into()));
    let early = run(1, waits);
    let now = early.facts.created_at;
    let seen = Observed { runs: Seen::Is(vec![early]), now, ..seen() };
    let status = pass(&seen).status;
    let ready = status.conditions.iter().flatten().find(|c| c.r#type == READY).expect("Ready");
    assert_eq!(ready.reason.as_deref(), Some("BuildPending"));
    let message = ready.message.as_deref().unwrap_or_default();
    assert!(message.ends_with("(Missing): no node takes it: 0/3 nodes are available"), "{message}");
}

#[test]
fn conditions_follow_the_phase() {
    let cases: Vec<(Observed, &str, Option<&str>, Standing)> = vec![
        (
            Observed { runs: Seen::Is(vec![run(1, running())]), ..seen() },
            "BuildRunning",
            Some(RECONCILING),
            Standing::Busy,
        ),
        (Observed { suspended: true, ..seen() }, "Suspended", None, Standing::Waiting),
        (Observed { live: Seen::Is(9), ..seen() }, "ConcurrencyLimit", Some(RECONCILING), Standing::Busy),
        (
            Observed { base: Seen::Is(Base::default()), ..seen() },
            "BaseImageNotFound",
            None,
            Standing::Failing,
        ),
        (Observed { images: unknown(), ..seen() }, "AwsUnavailable", None, Standing::Failing),
        (
            Observed { spec: Err(vec![("a".into(), "b".into())]), ..seen() },
            "InvalidSpec",
            Some(STALLED),
            Standing::Stalled,
        ),
        (seen(), "BuildStarted", Some(RECONCILING), Standing::Busy),
    ];
    for (seen, reason, condition, standing) in cases {
        let pass = pass(&seen);
        assert_eq!((ready(&pass).0.as_str(), pass.standing), (reason, standing));
        let conditions = pass.status.conditions.expect("set");
        for kind in [RECONCILING, STALLED] {
            assert_eq!(is_true(&conditions, kind), condition == Some(kind), "{reason} {kind}");
        }
    }
}

#[test]
fn suspending_keeps_the_last_outcome_and_says_who_suspended() {
    let good = pass(&settled()).status;
    let suspend = |status: &PackerBuilderStatus| {
        let seen = Observed { suspended: true, generation: Some(9), status: status.clone(), ..settled() };
        pass(&seen)
    };
    let of = |pass: &Pass<PackerBuilderStatus>, kind: &str| {
        let found = pass.status.conditions.iter().flatten().find(|c| c.r#type == kind)?.clone();
        Some((found.status, found.reason?, found.message?, found.observed_generation))
    };
    let rests = suspend(&good);
    let words = |words: &str| words.to_owned();
    let (status, reason, _, generation) = of(&rests, READY).expect("Ready");
    assert_eq!(
        (status, reason, generation),
        (words("True"), words("ImageReady"), Some(9)),
        "kubectl wait goes by it"
    );
    let said = "suspended by the annotation ami.opsy.dev/suspend: nothing new is built";
    assert_eq!(of(&rests, SUSPENDED), Some((words("True"), words("Annotation"), words(said), Some(9))));
    assert_eq!((rests.standing, rests.status.state.as_deref()), (Standing::Waiting, Some("AMICreated")));
    assert_eq!(rests.notes.iter().map(|note| note.reason.as_ref()).collect::<Vec<_>>(), ["Suspended"]);
    assert_eq!(rests.notes[0].message, "nothing new is built");
    // It stays so, and is said once.
    let again = suspend(&rests.status);
    assert!(again.status == rests.status && again.notes.is_empty());
    // What needed a person still does.
    let invalid = Observed { spec: Err(vec![("a".into(), "b".into())]), ..seen() };
    let stalled = suspend(&pass(&invalid).status);
    assert!(is_true(stalled.status.conditions.as_deref().unwrap_or_default(), STALLED));
    // A build that was under way when it was suspended had no outcome, nor has a new builder.
    let running = Observed { runs: Seen::Is(vec![run(1, running())]), suspended: true, ..seen() };
    let running = pass(&running);
    assert_eq!((ready(&running).0.as_str(), of(&running, SUSPENDED).is_some()), ("BuildRunning", true));
    for before in [running.status, PackerBuilderStatus::default()] {
        assert_eq!(
            of(&suspend(&before), READY).map(|(status, reason, ..)| (status, reason)),
            Some((words("False"), words("Suspended")))
        );
    }
    // Resumed, it says again how it stands.
    let resumed = pass(&Observed { status: rests.status, ..settled() });
    assert_eq!(of(&resumed, SUSPENDED), None);
    assert_eq!(resumed.notes.iter().map(|note| note.reason.as_ref()).collect::<Vec<_>>(), ["ImageReady"]);
}

#[test]
fn resting_is_news_only_to_whoever_saw_it_at_work() {
    let resting = |status: PackerBuilderStatus| {
        let seen = Observed { suspended: true, status, ..seen() };
        pass(&seen).notes.into_iter().map(|note| note.reason.into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(resting(PackerBuilderStatus::default()), [""; 0], "it was made so");
    let at_work = pass(&seen()).status;
    assert_eq!(resting(at_work), ["Suspended"]);
}

#[test]
fn a_denied_read_names_the_permission_and_waits_long() {
    let denied = Seen::Unknown(Class::Denied, "ec2:DescribeImages: UnauthorizedOperation".into());
    let pass = pass(&Observed { images: denied, ..seen() });
    assert_eq!(ready(&pass), ("AwsDenied".into(), "ec2:DescribeImages: UnauthorizedOperation".into()));
    assert_eq!(pass.failed.expect("to back off from").0, Class::Denied);
}

#[test]
fn a_failed_step_is_told_and_backed_off_from() {
    let ended =
        Observed { runs: Seen::Is(vec![run(1, succeeded(&[1]))]), images: Seen::Is(vec![raw(1)]), ..seen() };
    let pass = failing(&ended, Class::TRANSIENT);
    assert_eq!((ready(&pass).0.as_str(), pass.standing), ("AwsUnavailable", Standing::Failing));
    assert!(pass.failed.is_some() && pass.wake.is_empty());
    assert_eq!(failing(&ended, Class::Invalid).standing, Standing::Stalled);
}

#[test]
fn an_ended_run_fills_the_operators_fields() {
    let mut failed = run(1, RunState::Failed(Failure::TimedOut));
    let resource = |kind, id: &str| Resource { kind, id: id.into() };
    failed.resources =
        vec![resource(ResourceKind::KeyPair, "packer_1"), resource(ResourceKind::SecurityGroup, "sg-1")];
    let pass = pass(&Observed { runs: Seen::Is(vec![failed]), ..seen() });
    let status = pass.status;
    assert_eq!(status.build_id.as_deref(), Some("0000000000000001"));
    assert_eq!(
        (status.job_id.as_deref(), status.job_name.as_deref(), status.job_status.as_deref()),
        (Some("uid-1"), Some("node-0000000000000001"), Some("TimedOut"))
    );
    assert_eq!((status.last_run, status.last_run_status.as_deref()), (Some(at_hour(1)), Some("TimedOut")));
    assert_eq!(status.last_run_base_image_id.as_deref(), Some("ami-0000ba5e"));
    assert_eq!(
        (status.last_run_key_pair.as_deref(), status.last_run_security_group_id.as_deref()),
        (Some("packer_1"), Some("sg-1"))
    );
    assert_eq!((status.failed_job_count, status.max_number_of_failed_jobs), (Some(1), Some(5)));
    assert_eq!(status.reason.as_deref(), Some("Missing"));
    assert_eq!((status.history.expect("one").len(), status.sweeps.expect("one").len()), (1, 1));
}

#[test]
fn a_run_is_counted_once_however_often_it_is_recorded() {
    let mut seen = Observed { runs: Seen::Is(vec![run(1, RunState::Failed(Failure::TimedOut))]), ..seen() };
    let once = pass(&seen).status;
    seen.status = PackerBuilderStatus { images: None, ..once.clone() };
    let mut history = once.history.clone().expect("one");
    history::enter(&mut history, once.history.expect("one").remove(0));
    assert_eq!(history.len(), 1);
    for number in 2..30 {
        history::enter(&mut history, record(number, history::FAILED, at_hour(1)));
    }
    assert_eq!((history.len(), history[0].id.as_str()), (10, "000000000000001d"));
}

#[test]
fn images_change_only_with_what_counts() {
    // Gone by hand: status goes on naming it, so that the loss is not forgotten, and says that it is gone.
    let mut gone = settled();
    gone.images = Seen::Is(Vec::new());
    let mut named = gone.status.images.clone();
    named.as_mut().expect("one")[0].gone = Some(true);
    assert_eq!(pass(&gone).status.images, named);
    // A failed build changes nothing either.
    let failed = Observed { runs: Seen::Is(vec![run(1, RunState::Failed(Failure::TimedOut))]), ..settled() };
    assert_eq!(pass(&failed).status.images, failed.status.images);
}

#[test]
fn sweeps_come_four_times_and_failing_ones_later() {
    let mut seen = settled();
    let sweep = crate::api::builder::SweepRecord {
        id: format!("{:016x}", 1),
        region: "us-east-1".into(),
        due: Some(at_hour(1)),
        looks: Some(0),
        ..crate::api::builder::SweepRecord::default()
    };
    seen.status.sweeps = Some(vec![sweep]);
    let mut waits = Vec::new();
    while let Some(due) = seen.status.sweeps.as_ref().and_then(|sweeps| sweeps[0].due) {
        seen.now = due;
        let denied = failing(&seen, Class::Denied);
        assert_eq!((denied.standing, denied.failed), (Standing::Busy, None), "it holds nothing else up");
        assert_eq!(denied.status.conditions, seen.status.conditions);
        let later = denied.status.sweeps.expect("kept")[0].due.expect("a date");
        assert_eq!(time::until(due, later), HOUR * 6);
        seen.status = pass(&seen).status;
        waits.extend(
            seen.status.sweeps.as_ref().and_then(|sweeps| sweeps[0].due).map(|next| time::until(due, next)),
        );
    }
    let minute = HOUR / 60;
    assert_eq!(waits, [minute * 5, minute * 25, minute * (23 * 60 + 30)]);
}

#[test]
fn a_sweep_that_is_refused_is_given_up_until_somebody_asks() {
    let mut seen = settled();
    let sweep = |number: u32| crate::api::builder::SweepRecord {
        id: format!("{number:016x}"),
        region: "us-east-1".into(),
        due: Some(at_hour(1)),
        ..crate::api::builder::SweepRecord::default()
    };
    seen.status.sweeps = Some(vec![sweep(1)]);
    let (mut waits, mut notes) = (Vec::new(), Vec::new());
    while let Some(due) = seen.status.sweeps.as_ref().and_then(|sweeps| sweeps[0].due) {
        seen.now = due;
        let refused = failing(&seen, Class::Denied);
        seen.status = refused.status;
        notes.extend(refused.notes);
        waits.extend(
            seen.status.sweeps.as_ref().and_then(|sweeps| sweeps[0].due).map(|next| time::until(due, next)),
        );
    }
    assert_eq!(waits, [HOUR * 6, HOUR * 24, HOUR * 24 * 7]);
    let told: Vec<&str> = notes.iter().map(|note| note.reason.as_ref()).collect();
    assert_eq!(told, ["SweepFailed", "SweepFailed", "SweepFailed", "SweepGivenUp"]);
    let last = &notes[3].message;
    for words in
        ["0000000000000001", "opsy reconcile packerbuilder/node", "deploy/iam", "ec2:CreateTags: refused"]
    {
        assert!(last.contains(words), "{words}: {last}");
    }
    seen.now = time::after(seen.now, HOUR * 24 * 365).expect("in range");
    assert_ne!(planned(&seen), "do Sweep", "it was given up");
    // A look that works, or somebody who asks, begins it again.
    let mut object = object();
    object.status = Some(seen.status.clone());
    assert_eq!(observe::known_status(&object), seen.status);
    let asked = [(crate::api::annotations::RECONCILE_AT.to_owned(), "again".to_owned())];
    object.metadata.annotations = Some(asked.into());
    let again = Observed { status: observe::known_status(&object), ..seen.clone() };
    assert_eq!(planned(&again), "do Sweep");
    let swept = &pass(&again).status.sweeps.expect("a later look")[0];
    assert_eq!((swept.refused, swept.looks), (None, Some(1)));
}

#[test]
fn regions_where_a_sweep_found_something_are_looked_in_later() {
    let mut seen = settled();
    seen.status.sweeps = Some(vec![crate::api::builder::SweepRecord {
        id: format!("{:016x}", 1),
        region: "us-east-1".into(),
        everywhere: Some(true),
        due: Some(at_hour(1)),
        ..crate::api::builder::SweepRecord::default()
    }]);
    let plan = plan::plan(&seen, seen.now);
    let Plan::Act { step: Step::Sweep(sweep), .. } = &plan else { panic!("a sweep: {plan:?}") };
    assert!(sweep.everywhere);
    let found = Leftovers { instances: vec!["i-1".into()], ..Leftovers::default() };
    let elsewhere = vec![Region::parse("eu-west-1").expect("a region")];
    let outcome = Outcome::Did(Done::Swept(Box::new(Swept { found, elsewhere })));
    let pass = report::pass(&seen, &plan, &outcome, seen.now);
    let record = &pass.status.sweeps.expect("a later look")[0];
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
    let mut seen = Observed { runs: Seen::Is(vec![run(1, RunState::Failed(Failure::TimedOut))]), ..seen() };
    seen.status.sweeps = Some(vec![given_up]);
    let kept = |seen: &Observed| pass(seen).status.sweeps.expect("of the run").len();
    assert_eq!(kept(&seen), 1, "its run is forgotten");
    seen.status.history = Some(vec![record(9, history::FAILED, at_hour(1))]);
    assert_eq!(kept(&seen), 2);
}

#[test]
fn what_changes_images_wakes_refreshers() {
    let ended = |images| Observed {
        runs: Seen::Is(vec![run(1, succeeded(&[1]))]),
        images: Seen::Is(images),
        ..seen()
    };
    assert_eq!(pass(&ended(vec![raw(1)])).wake, [Wake::Refreshers]);
    assert!(pass(&seen()).wake.is_empty());
    assert!(pass(&settled()).wake.is_empty());
}

#[test]
fn an_image_of_another_owner_is_named_with_what_would_make_it_ours() {
    let foreign = tagged(active(5, at_hour(0)), images::OWNER, "agent-2");
    let seen = Observed { images: Seen::Is(vec![foreign]), suspended: true, ..seen() };
    let (_, message) = ready(&pass(&seen));
    assert!(message.contains("ami-00000005") && message.contains("--agent-id agent-2"), "{message}");
}

#[test]
fn a_deleted_builder_is_let_go_when_nothing_of_it_runs() {
    let deleted = |runs| pass(&Observed { deleting: true, runs: Seen::Is(runs), ..seen() });
    assert!(deleted(Vec::new()).release);
    assert!(!deleted(vec![run(1, running())]).release);
    assert!(!deleted(vec![run(1, RunState::Failed(Failure::Cancelled))]).release);
}

#[test]
fn a_finished_build_is_one_change_of_status_for_those_who_watch() {
    let ended = run(1, succeeded(&[1]));
    let mut image = raw(1);
    image.image.tags = crate::builder::inputs::image_tags(&subject(), &ended, None, images::ACTIVE);
    let mut seen = Observed { runs: Seen::Is(vec![ended]), images: Seen::Is(vec![image]), ..seen() };
    let recorded = pass(&seen);
    assert_eq!((ready(&recorded).0.as_str(), recorded.standing), ("ImageReady", Standing::Busy));
    seen.status = recorded.status;
    seen.runs = Seen::Is(Vec::new());
    let swept = pass(&seen);
    seen.status = swept.status;
    assert_eq!(pass(&seen).standing, Standing::Settled);
    assert_eq!(pass(&seen).status, seen.status, "what is left to do changes nothing that is told");
    // Inputs that moved on meanwhile: an image counts, but it is not what Git asks for.
    let mut outdated = run(1, succeeded(&[1]));
    outdated.facts.inputs.template = Some("v1-old".into());
    let mut image = raw(1);
    image.image.tags = crate::builder::inputs::image_tags(&subject(), &outdated, None, images::ACTIVE);
    let moved =
        super::Observed { runs: Seen::Is(vec![outdated]), images: Seen::Is(vec![image]), ..super::seen() };
    assert!(pass(&moved).status.conditions.is_none(), "nothing is said of readiness");
}

#[test]
fn a_start_records_the_id_of_its_run_at_once() {
    let seen = seen();
    let plan = plan::plan(&seen, seen.now);
    let done = Outcome::Did(report::Done::Started("uid-9".to_owned()));
    let status = report::pass(&seen, &plan, &done, seen.now).status;
    assert_eq!((status.job_id.as_deref(), status.job_status.as_deref()), (Some("uid-9"), Some("Pending")));
    let Plan::Act { step: Step::Start { request, .. }, .. } = &plan else { panic!("{plan:?}") };
    assert_eq!(status.job_facts.as_ref(), Some(&request.facts.record()), "in a cluster only this counts");
    let later = Observed { status, runs: Seen::Is(vec![run(1, running())]), ..seen };
    assert_eq!(pass(&later).status.job_id.as_deref(), Some("uid-1"), "what runs now");
}
