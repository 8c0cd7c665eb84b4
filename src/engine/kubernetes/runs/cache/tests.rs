//! Events that come late, twice, or not at all, and Jobs and pods that others create or edit.

use std::time::Duration;

use super::fresh::STALE;
use super::*;
use crate::api::RunName;
use crate::engine::RunState;
use crate::engine::kubernetes::runs::place::places;
use crate::engine::kubernetes::{FACTS, RUN, Scope};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn scope() -> Vec<RunPlace> {
    places(&Scope::Namespaces(vec!["a".into()]), None)
}

/// The status of every builder records the UID of these tests.
fn records() -> Records {
    Box::new(|_| Recorded::read(&json!({"jobID": "j1"}), "a"))
}

/// A cache whose places are listed and empty.
fn ready() -> Cache {
    let cache = Cache::new(scope(), records());
    for place in scope() {
        cache.begin_list(&place);
        cache.end_jobs(&place, &BTreeSet::new());
    }
    cache
}

fn builder() -> Key {
    Key { namespace: "a".into(), name: "node".into() }
}

fn key() -> RunKey {
    key_with("j1")
}

fn key_with(uid: &str) -> RunKey {
    RunKey { namespace: "a".into(), name: "node-0123456789abcdef".into(), uid: uid.into() }
}

fn facts() -> RunFacts {
    serde_json::from_value(json!({
        "builder": builder(), "build": "0123456789abcdef", "region": "us-east-1", "inputs": {},
        "why": "Missing", "commit": "a".repeat(40), "createdAt": "2026-01-01T00:00:00Z",
    }))
    .expect("facts")
}

fn job(uid: &str, version: u64) -> Job {
    let facts = serde_json::to_string(&facts()).expect("JSON");
    serde_json::from_value(json!({"metadata": {
        "name": "node-0123456789abcdef", "namespace": "a", "uid": uid, "resourceVersion": version.to_string(),
        "labels": {RUN: "node-0123456789abcdef"}, "annotations": {FACTS: facts},
    }}))
    .expect("a Job")
}

fn pod(uid: &str, version: u64, of: &str, status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("node-1-{uid}"), "namespace": "a", "uid": uid, "resourceVersion": version.to_string(),
            "labels": {RUN: "node-0123456789abcdef"}, "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "node-0123456789abcdef", "uid": of, "controller": true}],
        },
        "status": status,
    }))
    .expect("a pod")
}

fn packer(state: Value) -> Value {
    let status = json!({"name": "packer", "state": state, "ready": true, "restartCount": 0, "image": "", "imageID": ""});
    json!({"phase": "Running", "containerStatuses": [status]})
}

fn running() -> Value {
    packer(json!({"running": {}}))
}

fn failed() -> Value {
    let report = json!({"outcome": "Failed", "exit": 1, "started_at": 1, "ended_at": 2}).to_string();
    packer(json!({"terminated": {"exitCode": 1, "message": report}}))
}

fn state(cache: &Cache) -> Option<RunState> {
    cache.run(&key(), now()).map(|run| run.state)
}

#[test]
fn it_is_ready_when_all_places_are_listed_and_no_watch_has_failed_for_long() {
    let cache = Cache::new(scope(), records());
    let [jobs, pods] = &scope()[..] else { panic!("two places") };
    let class = |cache: &Cache, at: Timestamp| cache.ready("a", at).map_err(|error| error.class);
    assert_eq!(class(&cache, now()), Err(Class::TRANSIENT));
    cache.end_jobs(jobs, &BTreeSet::new());
    cache.fails(pods, Class::Denied, "pods is forbidden".into(), now());
    let error = cache.ready("a", now()).expect_err("not listed");
    assert!(error.class == Class::Denied && error.message.contains("pods is forbidden"), "{error}");
    cache.end_pods(pods, &BTreeSet::new());
    assert_eq!(class(&cache, now()), Ok(()));
    cache.fails(jobs, Class::TRANSIENT, "away".into(), now());
    assert_eq!(class(&cache, now()), Ok(()), "it is still fresh enough");
    let later = now() + STALE + Duration::from_secs(1);
    assert_eq!(class(&cache, later), Err(Class::TRANSIENT));
    assert!(cache.ready("b", later).is_ok(), "not its namespace");
    cache.works(jobs);
    assert_eq!(class(&cache, later), Ok(()));
}

#[test]
fn a_created_job_is_known_at_once_and_a_list_that_began_before_does_not_remove_it() {
    let cache = ready();
    let [jobs, _] = &scope()[..] else { panic!("two places") };
    cache.begin_list(jobs);
    cache.put_made(job("j1", 5), facts());
    assert!(cache.end_jobs(jobs, &BTreeSet::new()).is_empty());
    assert_eq!(state(&cache), Some(RunState::Pending(None)));
    cache.begin_list(jobs);
    assert_eq!(cache.end_jobs(jobs, &BTreeSet::new()), [builder()]);
    assert!(matches!(state(&cache), Some(RunState::Lost(_))), "a complete list without it: it was deleted");
}

#[test]
fn old_events_change_nothing() {
    let cache = ready();
    cache.saw_job(job("j1", 5));
    cache.saw_pod(pod("p1", 9, "j1", failed()));
    let ended = state(&cache);
    assert!(matches!(ended, Some(RunState::Failed(_))));
    cache.saw_pod(pod("p1", 8, "j1", running()));
    assert_eq!(state(&cache), ended);
    cache.saw_pod(pod("p0", 20, "j0", running()));
    assert_eq!(state(&cache), ended, "a pod of an earlier Job does not count");
}

#[test]
fn the_result_of_a_pod_survives_its_deletion() {
    let cache = ready();
    cache.saw_job(job("j1", 5));
    cache.saw_pod(pod("p1", 9, "j1", running()));
    assert_eq!(cache.pod_deleted(pod("p1", 10, "j1", failed())), Some(builder()));
    assert!(matches!(state(&cache), Some(RunState::Failed(_))));
    let [_, pods] = &scope()[..] else { panic!("two places") };
    cache.end_pods(pods, &BTreeSet::new());
    assert!(matches!(state(&cache), Some(RunState::Failed(_))));
}

#[test]
fn a_run_that_looks_lost_is_confirmed_by_a_fresh_read() {
    let cache = ready();
    cache.saw_job(job("j1", 5));
    cache.saw_pod(pod("p1", 9, "j1", running()));
    cache.job_deleted(&job("j1", 6));
    cache.pod_deleted(pod("p1", 10, "j1", running()));
    assert!(matches!(state(&cache), Some(RunState::Lost(_))));
    assert!(!cache.is_confirmed(&key()));
    cache.confirm(&key(), Vec::new(), Vec::new());
    assert!(cache.is_confirmed(&key()) && matches!(state(&cache), Some(RunState::Lost(_))));
    cache.confirm(&key(), vec![job("j1", 7)], vec![pod("p1", 11, "j1", failed())]);
    assert!(matches!(state(&cache), Some(RunState::Failed(_))), "it was not lost");
}

#[test]
fn a_pod_has_ended_with_its_containers_and_while_it_is_not_deleted() {
    let cache = ready();
    cache.saw_job(job("j1", 5));
    assert!(!cache.has_ended_pod(&key()), "there is no pod yet");
    // The node that ran it was deleted: the phase is set, but no kubelet has reported the end.
    let lost = json!({"phase": "Failed", "containerStatuses": running()["containerStatuses"]});
    for (version, status, expected) in [
        (6, json!({"phase": "Pending"}), false),
        (7, running(), false),
        (8, lost, false),
        (9, failed(), true),
    ] {
        cache.saw_pod(pod("p1", version, "j1", status.clone()));
        assert_eq!(cache.has_ended_pod(&key()), expected, "{status}");
    }
    let mut deleted = pod("p1", 10, "j1", failed());
    deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
    cache.saw_pod(deleted);
    assert!(!cache.has_ended_pod(&key()), "it is being deleted");
}

#[test]
fn a_forgotten_run_does_not_return_and_its_name_can_be_reused() {
    let cache = ready();
    cache.saw_job(job("j1", 5));
    cache.saw_pod(pod("p1", 9, "j1", failed()));
    assert!(!cache.is_forgotten(&key()));
    cache.forget(&key());
    cache.saw_job(job("j1", 6));
    assert_eq!(state(&cache), None);
    // It is kept for its log: a list that contains it changes nothing, and its pod is not counted as one of an unknown Job.
    let [jobs, pods] = scope().try_into().expect("two places");
    cache.begin_list(&jobs);
    cache.saw_job(job("j1", 6));
    cache.end_jobs(&jobs, &BTreeSet::from(["j1".to_owned()]));
    cache.saw_pod(pod("p1", 10, "j1", failed()));
    cache.end_pods(&pods, &BTreeSet::from(["p1".to_owned()]));
    assert!(state(&cache).is_none() && cache.is_forgotten(&key()) && cache.state().pods.is_empty());
    cache.job_deleted(&job("j1", 7));
    assert!(!cache.is_forgotten(&key()));
    cache.saw_pod(pod("p1", 12, "j1", failed()));
    assert_eq!(state(&cache), None);
    cache.put_made(job("j2", 8), facts());
    let runs = cache.runs_of(&builder(), now());
    let [(found, run)] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!((found, &run.state), (&key_with("j2"), &RunState::Pending(None)));
}

#[test]
fn a_job_counts_only_if_it_is_recorded_or_was_made_just_now() {
    let cache = ready();
    cache.saw_job(job("j1", 5));
    cache.saw_job(job("forged", 6));
    let known = |cache: &Cache| {
        let runs = cache.runs_of(&builder(), now()).into_iter();
        runs.map(|(_, run)| run.id).collect::<Vec<_>>()
    };
    assert_eq!(known(&cache), ["j1"]);
    assert_eq!(cache.all(now()).len(), 1);
    let name = RunName::parse("node-0123456789abcdef").expect("a name");
    assert_eq!(cache.find(&name), Some((key(), builder())));
    assert_eq!(cache.without_pod(now()), [key()]);
    assert_eq!(cache.strangers_of(&builder()), [key_with("forged")]);
    assert_eq!(cache.strangers_of(&builder()), [], "it is reported once");
    // Somebody deletes the Job and creates another one with its name: the run is lost, and that Job does not count.
    cache.job_deleted(&job("j1", 7));
    assert!(matches!(state(&cache), Some(RunState::Lost(_))));
    cache.forget(&key());
    assert_eq!(known(&cache), Vec::<String>::new());
    assert_eq!(cache.find(&name), None);
}

#[test]
fn the_first_pod_of_a_job_is_its_pod() {
    let cache = ready();
    cache.saw_job(job("j1", 5));
    let at = |mut pod: Pod, time: &str| {
        pod.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time.parse().expect("a time")));
        pod
    };
    let mut uncontrolled = at(pod("p2", 10, "j1", failed()), "2026-01-01T00:00:05Z");
    uncontrolled.metadata.owner_references.as_mut().expect("an owner")[0].controller = None;
    cache.saw_pod(uncontrolled);
    assert_eq!(state(&cache), Some(RunState::Pending(None)), "the Job does not control it");
    // Anyone who knows the Job can name it as the controller of a pod, but only after the Job's own pod was created.
    cache.saw_pod(at(pod("p3", 11, "j1", failed()), "2026-01-01T00:00:05Z"));
    cache.saw_pod(at(pod("p1", 9, "j1", running()), "2026-01-01T00:00:00Z"));
    assert!(matches!(state(&cache), Some(RunState::Running(_))));
    cache.saw_pod(at(pod("p4", 12, "j1", failed()), "2026-01-01T00:00:09Z"));
    assert!(matches!(state(&cache), Some(RunState::Running(_))));
    let [_, pods] = &scope()[..] else { panic!("two places") };
    cache.begin_list(pods);
    cache.end_pods(pods, &BTreeSet::from(["p4".to_owned()]));
    assert!(matches!(state(&cache), Some(RunState::Stopping)), "its own pod is gone");
}

#[test]
fn a_job_that_only_looks_like_a_build_does_not_count() {
    let cache = ready();
    let mut without_facts = job("j1", 5);
    without_facts.metadata.annotations = None;
    assert_eq!(cache.saw_job(without_facts), None);
    let mut elsewhere = job("j1", 5);
    elsewhere.metadata.namespace = Some("b".into());
    cache.saw_job(elsewhere);
    assert!(cache.all(now()).is_empty());
}

#[test]
fn a_recorded_job_remains_the_same_run_whatever_others_write_into_it() {
    let recorded = json!({"jobID": "j1", "jobFacts": facts().record()});
    let only_own =
        move |key: &Key| if *key == builder() { Recorded::read(&recorded, "a") } else { Recorded::default() };
    let edited = |version: u64| {
        let mut job = job("j1", version);
        let mut claims = facts();
        claims.builder.name = "victim".to_owned();
        claims.build = crate::api::BuildId::of(&["another"]);
        let claims = serde_json::to_string(&claims).expect("JSON");
        job.metadata.annotations = Some([(FACTS.to_owned(), claims)].into());
        job
    };
    let cache = |own: bool| {
        let cache = Cache::new(scope(), Box::new(only_own.clone()));
        if own {
            cache.saw_job(job("j1", 5));
        }
        cache
    };
    // Edited while the agent watched it, and before the agent started.
    for own in [true, false] {
        let cache = cache(own);
        cache.saw_job(edited(6));
        let runs = cache.runs_of(&builder(), now());
        assert_eq!(runs.iter().map(|(_, run)| &run.facts).collect::<Vec<_>>(), [&facts()], "{own}");
        assert_eq!(cache.all(now()).len(), 1, "it counts toward the limit");
        let victim = Key { name: "victim".into(), ..builder() };
        assert!(cache.runs_of(&victim, now()).is_empty());
        let mut without_facts = edited(7);
        without_facts.metadata.annotations = None;
        assert_eq!(cache.saw_job(without_facts), Some(builder()), "it still wakes its builder");
        assert_eq!(cache.all(now()).len(), 1);
    }
}

#[test]
fn a_pod_that_does_not_match_the_template_does_not_count_whichever_is_observed_first() {
    let with = |command: &str| json!({"containers": [{"name": "packer", "command": [command]}]});
    let own = |version: u64| {
        let mut job = job("j1", version);
        job.spec = serde_json::from_value(json!({"template": {"spec": with("runner")}})).ok();
        job
    };
    let pod = |uid: &str, version: u64, command: &str, status: Value| {
        let mut pod = pod(uid, version, "j1", status);
        pod.spec = serde_json::from_value(with(command)).ok();
        pod
    };
    let first = ready();
    first.saw_pod(pod("forged", 4, "sh", failed()));
    first.saw_job(own(5));
    assert_eq!(state(&first), Some(RunState::Pending(None)));
    let cache = ready();
    cache.saw_job(own(5));
    assert_eq!(cache.saw_pod(pod("forged", 6, "sh", failed())), None);
    cache.saw_pod(pod("p1", 7, "runner", running()));
    assert!(matches!(state(&cache), Some(RunState::Running(_))));
}

#[test]
fn pods_of_unknown_jobs_are_retained_up_to_a_limit() {
    let cache = ready();
    for number in 0..2 * UNKNOWN_PODS {
        cache.saw_pod(pod(&format!("p{number}"), 1, &format!("u{number}"), running()));
    }
    assert_eq!(cache.state().pods.len(), UNKNOWN_PODS);
    cache.saw_job(job("j1", 5));
    cache.saw_pod(pod("p1", 9, "j1", running()));
    assert!(matches!(state(&cache), Some(RunState::Running(_))), "a run's own pod is retained");
}
