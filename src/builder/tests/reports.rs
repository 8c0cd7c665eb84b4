//! Tables: conditions, messages and status after a reconcile.

use opsy_runner::request::{Resource, ResourceKind};

use super::*;
use crate::api::conditions::{READY, RECONCILING, STALLED, SUSPENDED, is_true};
use crate::api::tags;
use crate::api::words::RunResult;
use crate::builder::history;
use crate::builder::outcome;
use crate::builder::outcome::{ActError, Done, Outcome};
use crate::builder::report;
use crate::builder::step::Dependency;
use crate::engine::{Failure, ObjectHealth, Pass, Wake};

pub type BuilderPass = Pass<PackerBuilderStatus>;

/// A reconcile in which every step succeeds.
pub fn pass(observed: &Observed) -> BuilderPass {
    let plan = plan::plan(observed, observed.now);
    let outcome = match &plan {
        Plan::Act { step: Step::Sweep(_), .. } => Outcome::Did(Done::Swept(Box::default())),
        Plan::Act { .. } => Outcome::Did(Done::AsPlanned),
        _ => Outcome::Nothing,
    };
    report::pass(observed, &plan, &outcome, observed.now)
}

pub fn failing(observed: &Observed, class: Class) -> BuilderPass {
    let plan = plan::plan(observed, observed.now);
    let error = ActError { dependency: Dependency::Aws, class, message: "ec2:CreateTags: refused".into() };
    report::pass(observed, &plan, &Outcome::Failed(error), observed.now)
}

/// Reason and message of Ready.
pub fn ready(pass: &BuilderPass) -> (String, String) {
    let ready = pass.status.conditions.iter().flatten().find(|condition| condition.r#type == READY);
    let ready = ready.expect("every reconcile with a message sets Ready");
    (ready.reason.clone().unwrap_or_default(), ready.message.clone().unwrap_or_default())
}

#[test]
fn a_good_image_is_ready_and_named() {
    let pass = pass(&settled());
    assert_eq!(
        ready(&pass),
        ("ImageReady".into(), "ami-00000001 (x86_64, us-east-1) active; expires 2026-10-31T00:00:00Z".into())
    );
    assert_eq!(pass.health, ObjectHealth::Settled);
    assert_eq!(pass.status.state.as_deref(), Some("AMICreated"));
    assert_eq!(pass.status.images, Some(vec![lane_image(&active(1, at_hour(0)))]));
    assert_eq!(pass.status.inputs, Some(wanted()));
}

#[test]
fn a_pass_that_finds_nothing_new_gives_an_equal_status() {
    let suspended = Observed { suspended: true, ..observed() };
    let invalid = Observed { spec: Err(vec![("spec.region".into(), "missing".into())]), ..observed() };
    let running = Observed { runs: Seen::Is(vec![run(1, running())]), ..observed() };
    let blind = Observed { images: unknown(), ..observed() };
    let mut backoff = observed();
    backoff.status.history = Some(vec![record(1, RunResult::Failed, at_hour(1))]);
    for mut observed in [settled(), suspended, invalid, running, blind, backoff] {
        observed.status = pass(&observed).status;
        observed.now = time::after(observed.now, HOUR / 60).expect("in range");
        assert_eq!(pass(&observed).status, observed.status, "{}", planned(&observed));
        assert!(pass(&observed).notes.is_empty(), "a message is reported once");
    }
}

#[test]
fn what_a_pending_run_waits_for_is_said() {
    let waits = RunState::Pending(Some("it cannot be scheduled: 0/3 nodes are available".into()));
    let early = run(1, waits);
    let now = early.facts.created_at;
    let observed = Observed { runs: Seen::Is(vec![early]), now, ..observed() };
    let status = pass(&observed).status;
    let ready = status.conditions.iter().flatten().find(|c| c.r#type == READY).expect("Ready");
    assert_eq!(ready.reason.as_deref(), Some("BuildPending"));
    let message = ready.message.as_deref().unwrap_or_default();
    assert!(message.ends_with("(Missing): it cannot be scheduled: 0/3 nodes are available"), "{message}");
}

#[test]
fn conditions_follow_the_phase() {
    let cases: Vec<(Observed, &str, Option<&str>, ObjectHealth)> = vec![
        (
            Observed { runs: Seen::Is(vec![run(1, running())]), ..observed() },
            "BuildRunning",
            Some(RECONCILING),
            ObjectHealth::Busy,
        ),
        (Observed { suspended: true, ..observed() }, "Suspended", None, ObjectHealth::Waiting),
        (
            Observed { live: Seen::Is(9), ..observed() },
            "ConcurrencyLimit",
            Some(RECONCILING),
            ObjectHealth::Busy,
        ),
        (
            Observed { base: Seen::Is(Base::default()), ..observed() },
            "BaseImageNotFound",
            None,
            ObjectHealth::Failing,
        ),
        (Observed { images: unknown(), ..observed() }, "AwsUnavailable", None, ObjectHealth::Failing),
        (
            Observed { spec: Err(vec![("a".into(), "b".into())]), ..observed() },
            "InvalidSpec",
            Some(STALLED),
            ObjectHealth::Stalled,
        ),
        (observed(), "BuildStarted", Some(RECONCILING), ObjectHealth::Busy),
    ];
    for (observed, reason, condition, health) in cases {
        let pass = pass(&observed);
        assert_eq!((ready(&pass).0.as_str(), pass.health), (reason, health));
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
        let observed = Observed { suspended: true, generation: Some(9), status: status.clone(), ..settled() };
        pass(&observed)
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
        "kubectl wait compares the generation"
    );
    let message = "suspended by the annotation ami.opsy.dev/suspend: nothing new is built";
    assert_eq!(of(&rests, SUSPENDED), Some((words("True"), words("Annotation"), words(message), Some(9))));
    assert_eq!((rests.health, rests.status.state.as_deref()), (ObjectHealth::Waiting, Some("AMICreated")));
    assert_eq!(rests.notes.iter().map(|note| note.reason.as_ref()).collect::<Vec<_>>(), ["Suspended"]);
    assert_eq!(rests.notes[0].message, "nothing new is built");
    // It stays suspended, and that is reported once.
    let again = suspend(&rests.status);
    assert!(again.status == rests.status && again.notes.is_empty());
    // What needed attention still does.
    let invalid = Observed { spec: Err(vec![("a".into(), "b".into())]), ..observed() };
    let stalled = suspend(&pass(&invalid).status);
    assert!(is_true(stalled.status.conditions.as_deref().unwrap_or_default(), STALLED));
    // A builder that was suspended during its build has no outcome yet, and a new builder has none either.
    let running = Observed { runs: Seen::Is(vec![run(1, running())]), suspended: true, ..observed() };
    let running = pass(&running);
    assert_eq!((ready(&running).0.as_str(), of(&running, SUSPENDED).is_some()), ("BuildRunning", true));
    for before in [running.status, PackerBuilderStatus::default()] {
        assert_eq!(
            of(&suspend(&before), READY).map(|(status, reason, ..)| (status, reason)),
            Some((words("False"), words("Suspended")))
        );
    }
    // A resumed builder reports its state again.
    let resumed = pass(&Observed { status: rests.status, ..settled() });
    assert_eq!(of(&resumed, SUSPENDED), None);
    assert_eq!(resumed.notes.iter().map(|note| note.reason.as_ref()).collect::<Vec<_>>(), ["ImageReady"]);
}

#[test]
fn resting_is_news_only_to_whoever_saw_it_at_work() {
    let resting = |status: PackerBuilderStatus| {
        let observed = Observed { suspended: true, status, ..observed() };
        pass(&observed).notes.into_iter().map(|note| note.reason.into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(resting(PackerBuilderStatus::default()), [""; 0], "it was created suspended");
    let at_work = pass(&observed()).status;
    assert_eq!(resting(at_work), ["Suspended"]);
}

#[test]
fn a_denied_read_names_the_permission_and_waits_long() {
    let denied = Seen::Unknown(Class::Denied, "ec2:DescribeImages: UnauthorizedOperation".into());
    let pass = pass(&Observed { images: denied, ..observed() });
    assert_eq!(ready(&pass), ("AwsDenied".into(), "ec2:DescribeImages: UnauthorizedOperation".into()));
    assert_eq!(pass.failed.expect("to back off from").0, Class::Denied);
}

#[test]
fn a_failed_step_is_told_and_backed_off_from() {
    let ended = Observed {
        runs: Seen::Is(vec![run(1, succeeded(&[1]))]),
        images: Seen::Is(vec![raw(1)]),
        ..observed()
    };
    let pass = failing(&ended, Class::TRANSIENT);
    assert_eq!((ready(&pass).0.as_str(), pass.health), ("AwsUnavailable", ObjectHealth::Failing));
    assert!(pass.failed.is_some() && pass.wake.is_empty());
    assert_eq!(failing(&ended, Class::Invalid).health, ObjectHealth::Stalled);
}

#[test]
fn an_ended_run_fills_the_operators_fields() {
    let mut failed = run(1, RunState::Failed(Failure::TimedOut));
    let resource = |kind, id: &str| Resource { kind, id: id.into() };
    failed.resources =
        vec![resource(ResourceKind::KeyPair, "packer_1"), resource(ResourceKind::SecurityGroup, "sg-1")];
    let pass = pass(&Observed { runs: Seen::Is(vec![failed]), ..observed() });
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
    let mut observed =
        Observed { runs: Seen::Is(vec![run(1, RunState::Failed(Failure::TimedOut))]), ..observed() };
    let once = pass(&observed).status;
    observed.status = PackerBuilderStatus { images: None, ..once.clone() };
    let mut history = once.history.clone().expect("one");
    history::upsert(&mut history, once.history.expect("one").remove(0));
    assert_eq!(history.len(), 1);
    for number in 2..30 {
        history::upsert(&mut history, record(number, RunResult::Failed, at_hour(1)));
    }
    assert_eq!((history.len(), history[0].id.as_str()), (10, "000000000000001d"));
}

#[test]
fn images_change_only_with_what_counts() {
    // Deregistered by a person: status still names the image, so that the loss is not forgotten, and marks it as gone.
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
fn what_changes_images_wakes_refreshers() {
    let ended = |images| Observed {
        runs: Seen::Is(vec![run(1, succeeded(&[1]))]),
        images: Seen::Is(images),
        ..observed()
    };
    assert_eq!(pass(&ended(vec![raw(1)])).wake, [Wake::Refreshers]);
    assert!(pass(&observed()).wake.is_empty());
    assert!(pass(&settled()).wake.is_empty());
}

#[test]
fn an_image_of_another_owner_is_named_with_what_would_make_it_ours() {
    let foreign = tagged(active(5, at_hour(0)), tags::OWNER, "agent-2");
    let observed = Observed { images: Seen::Is(vec![foreign]), suspended: true, ..observed() };
    let (_, message) = ready(&pass(&observed));
    assert!(message.contains("ami-00000005") && message.contains("--agent-id agent-2"), "{message}");
}

#[test]
fn a_deleted_builder_is_let_go_when_nothing_of_it_runs() {
    let deleted = |runs| pass(&Observed { deleting: true, runs: Seen::Is(runs), ..observed() });
    assert!(deleted(Vec::new()).release);
    assert!(!deleted(vec![run(1, running())]).release);
    assert!(!deleted(vec![run(1, RunState::Failed(Failure::Cancelled))]).release);
}

#[test]
fn a_finished_build_is_one_change_of_status_for_those_who_watch() {
    let ended = run(1, succeeded(&[1]));
    let mut image = raw(1);
    image.image.tags = crate::builder::inputs::image_tags(&subject(), &ended, None, tags::ACTIVE);
    let mut observed = Observed { runs: Seen::Is(vec![ended]), images: Seen::Is(vec![image]), ..observed() };
    let recorded = pass(&observed);
    assert_eq!((ready(&recorded).0.as_str(), recorded.health), ("ImageReady", ObjectHealth::Busy));
    observed.status = recorded.status;
    observed.runs = Seen::Is(Vec::new());
    let swept = pass(&observed);
    observed.status = swept.status;
    assert_eq!(pass(&observed).health, ObjectHealth::Settled);
    assert_eq!(pass(&observed).status, observed.status, "the remaining steps do not change status");
    // The inputs changed meanwhile: an image counts, but it is not good.
    let mut outdated = run(1, succeeded(&[1]));
    outdated.facts.inputs.template = Some("v1-old".into());
    let mut image = raw(1);
    image.image.tags = crate::builder::inputs::image_tags(&subject(), &outdated, None, tags::ACTIVE);
    let moved = super::Observed {
        runs: Seen::Is(vec![outdated]),
        images: Seen::Is(vec![image]),
        ..super::observed()
    };
    assert!(pass(&moved).status.conditions.is_none(), "Ready is not set");
}

#[test]
fn a_start_records_the_id_of_its_run_at_once() {
    let observed = observed();
    let plan = plan::plan(&observed, observed.now);
    let done = Outcome::Did(outcome::Done::Started("uid-9".to_owned()));
    let status = report::pass(&observed, &plan, &done, observed.now).status;
    assert_eq!((status.job_id.as_deref(), status.job_status.as_deref()), (Some("uid-9"), Some("Pending")));
    let Plan::Act { step: Step::Start { request, .. }, .. } = &plan else { panic!("{plan:?}") };
    assert_eq!(
        status.job_facts.as_ref(),
        Some(&request.facts.record()),
        "in a cluster, only these facts count"
    );
    let later = Observed { status, runs: Seen::Is(vec![run(1, running())]), ..observed };
    assert_eq!(pass(&later).status.job_id.as_deref(), Some("uid-1"), "the live run");
}
