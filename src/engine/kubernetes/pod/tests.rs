//! Tables of the state of a run, from what Kubernetes reports about it.

use super::*;
use crate::api::builder::InputsRecord;
use crate::api::{BuildId, CommitId, ImageId, Key, Region};
use crate::engine::Artifact;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn facts() -> RunFacts {
    RunFacts {
        builder: Key { namespace: "images".into(), name: "node".into() },
        build: BuildId::parse("0123456789abcdef").expect("an id"),
        region: Region::parse("us-east-1").expect("a region"),
        inputs: InputsRecord::default(),
        why: "Missing".into(),
        commit: CommitId::parse("a".repeat(40)).expect("a commit"),
        created_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
        owner: None,
    }
}

fn job(conditions: Value, note: Option<StopNote>) -> Job {
    let note = note.map(|note| serde_json::to_string(&note).expect("a note"));
    serde_json::from_value(json!({
        "metadata": {"name": "node-1", "annotations": note.map(|note| json!({STOP: note}))},
        "status": {"conditions": conditions},
    }))
    .expect("a Job")
}

fn calm() -> Job {
    job(json!([]), None)
}

fn finished(reason: &str, note: Option<StopNote>) -> Job {
    let at = "2026-01-01T00:30:00Z";
    let end = json!({"type": "Failed", "status": "True", "reason": reason, "lastTransitionTime": at});
    job(json!([end]), note)
}

fn stop(why: Stop, pending: bool, waited_for: Option<&str>) -> Option<StopNote> {
    Some(StopNote { why, pending, waited_for: waited_for.map(str::to_owned) })
}

fn pod(status: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {}, "spec": {"containers": [], "nodeName": "node-7"}, "status": status}),
    )
    .expect("a pod")
}

fn leaving(status: Value, until: &str) -> Pod {
    let mut pod = pod(status);
    let time = serde_json::from_value(json!(until)).expect("a time");
    pod.metadata.deletion_timestamp = Some(time);
    pod
}

fn packer(state: Value) -> Value {
    let name = PACKER;
    json!({"name": name, "state": state, "ready": false, "restartCount": 0, "image": "", "imageID": ""})
}

fn running() -> Value {
    json!({"phase": "Running", "containerStatuses": [packer(json!({"running": {"startedAt": "2026-01-01T00:01:00Z"}}))]})
}

fn ended(reason: &str, code: i32, message: &str) -> Value {
    let end = json!({
        "reason": reason, "exitCode": code, "message": message,
        "startedAt": "2026-01-01T00:01:00Z", "finishedAt": "2026-01-01T00:20:00Z",
    });
    json!({"phase": "Failed", "containerStatuses": [packer(json!({"terminated": end}))]})
}

fn report(outcome: &str) -> String {
    let artifacts = if outcome == "Succeeded" {
        json!([{"region": "us-east-1", "image": "ami-0123456789abcdef0", "build": "a.b"}])
    } else {
        json!([])
    };
    json!({"outcome": outcome, "exit": 1, "artifacts": artifacts, "errors": ["red"], "started_at": 1, "ended_at": 2})
        .to_string()
}

fn waiting(kind: &str, name: &str, reason: &str, message: &str) -> Value {
    let state = json!({"waiting": {"reason": reason, "message": message}});
    let status =
        json!({"name": name, "state": state, "ready": false, "restartCount": 0, "image": "", "imageID": ""});
    json!({"phase": "Pending", kind: [status]})
}

fn disrupted(mut status: Value, reason: &str) -> Value {
    status["conditions"] =
        json!([{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "words"}]);
    status
}

fn seen<'a>(job: &'a Job, pod: Option<&'a Pod>) -> Sighting<'a> {
    Sighting { job, job_gone: false, pod, pod_gone: false, refused: None }
}

fn of(seen: &Sighting<'_>) -> Run {
    run(RunName::parse("node-1").expect("a name"), facts(), seen, now())
}

fn state_of(job: &Job, status: Value) -> RunState {
    of(&seen(job, Some(&pod(status)))).state
}

#[test]
fn the_termination_message_is_the_result() {
    let run = of(&seen(&calm(), Some(&pod(ended("Completed", 0, &report("Succeeded"))))));
    let artifact = Artifact {
        region: Region::parse("us-east-1").expect("a region"),
        image: ImageId::parse("ami-0123456789abcdef0").expect("an id"),
        build: "a.b".into(),
    };
    assert_eq!(run.state, RunState::Succeeded(vec![artifact]));
    assert_eq!(run.ended_at, Some("2026-01-01T00:20:00Z".parse().expect("a time")));
    let failed = |outcome: &str| state_of(&calm(), ended("Error", 1, &report(outcome)));
    let packer = Failure::Packer { exit: Some(1), errors: vec!["red".into()] };
    assert_eq!(failed("Failed"), RunState::Failed(packer));
    assert_eq!(failed("TimedOut"), RunState::Failed(Failure::TimedOut));
    assert_eq!(failed("NotStarted"), RunState::Failed(Failure::NotStarted("red".into())));
}

#[test]
fn the_causes_of_the_end_of_a_build_are_distinguished() {
    let cancelled = || ended("Error", 1, &report("Cancelled"));
    let cases = [
        (calm(), cancelled(), Failure::Evicted("its pod was deleted by another user".into())),
        (
            calm(),
            disrupted(cancelled(), "EvictionByEvictionAPI"),
            Failure::Evicted("EvictionByEvictionAPI: words".into()),
        ),
        (finished("DeadlineExceeded", None), cancelled(), Failure::TimedOut),
        (finished("DeadlineExceeded", stop(Stop::Late, false, None)), cancelled(), Failure::TimedOut),
        (finished("DeadlineExceeded", stop(Stop::Cancelled, false, None)), cancelled(), Failure::Cancelled),
        (calm(), ended("OOMKilled", 137, ""), Failure::OutOfMemory),
        (calm(), ended("OOMKilled", 1, &report("Failed")), Failure::OutOfMemory),
        (calm(), ended("StartError", 128, "no such file"), Failure::NotStarted("no such file".into())),
        (
            calm(),
            disrupted(ended("Error", 137, ""), "TerminationByKubelet"),
            Failure::Evicted("TerminationByKubelet: words".into()),
        ),
    ];
    for (job, status, failure) in cases {
        assert_eq!(state_of(&job, status.clone()), RunState::Failed(failure), "{status}");
    }
}

#[test]
fn a_success_counts_even_if_it_was_stopped_and_a_run_without_a_report_is_lost() {
    let stopped = finished("DeadlineExceeded", stop(Stop::Late, false, None));
    assert!(matches!(state_of(&stopped, ended("Error", 0, &report("Succeeded"))), RunState::Succeeded(_)));
    for text in ["", "{\"outcome\"", "packer says hello"] {
        assert!(matches!(state_of(&calm(), ended("Error", 3, text)), RunState::Lost(_)), "{text}");
    }
}

#[test]
fn what_a_run_waits_for_is_reported() {
    let unschedulable = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available:\n 3 Insufficient memory.",
    }]});
    let init = "initContainerStatuses";
    let main = "containerStatuses";
    let cases = [
        (unschedulable, Some("it cannot be scheduled: 0/3 nodes are available: 3 Insufficient memory.")),
        (
            waiting(init, "install", "ImagePullBackOff", "Back-off pulling"),
            Some(
                "install: ImagePullBackOff: Back-off pulling (a private registry needs --image-pull-secrets, \
                 imagePullSecrets of the chart, or spec.builder.pod.imagePullSecrets)",
            ),
        ),
        (
            waiting(main, PACKER, "CreateContainerConfigError", "secret \"aws\" not found"),
            Some("packer: CreateContainerConfigError: secret \"aws\" not found"),
        ),
        (waiting(main, PACKER, "PodInitializing", ""), None),
        (json!({"phase": "Pending"}), None),
    ];
    for (status, words) in cases {
        assert_eq!(state_of(&calm(), status), RunState::Pending(words.map(str::to_owned)));
    }
    let job = calm();
    let refused = Sighting { refused: Some("exceeded quota: builds"), ..seen(&job, None) };
    let words = "no pod can be created: exceeded quota: builds";
    assert_eq!(of(&refused).state, RunState::Pending(Some(words.to_owned())));
    assert_eq!(of(&seen(&job, None)).state, RunState::Pending(None));
}

#[test]
fn a_live_run_is_running_or_stopping() {
    let job = calm();
    assert!(matches!(state_of(&job, running()), RunState::Running(_)));
    assert_eq!(
        of(&seen(&job, Some(&pod(running())))).started_at,
        Some("2026-01-01T00:01:00Z".parse().expect("a time"))
    );
    let noted = super::tests::job(json!([]), stop(Stop::Cancelled, false, None));
    assert_eq!(state_of(&noted, running()), RunState::Stopping);
    let target = super::tests::job(json!([{"type": "FailureTarget", "status": "True"}]), None);
    assert_eq!(state_of(&target, running()), RunState::Stopping);
    let leaving = leaving(running(), "2026-01-01T01:10:00Z");
    assert_eq!(of(&seen(&job, Some(&leaving))).state, RunState::Stopping);
    let gone = pod(running());
    assert_eq!(of(&Sighting { pod_gone: true, ..seen(&job, Some(&gone)) }).state, RunState::Stopping);
    assert_eq!(of(&Sighting { job_gone: true, ..seen(&job, Some(&gone)) }).state, RunState::Stopping);
}

#[test]
fn a_run_on_a_node_that_is_gone_is_lost() {
    let overdue = leaving(running(), "2026-01-01T00:57:00Z");
    let job = calm();
    assert_eq!(of(&seen(&job, Some(&overdue))).state, RunState::Lost("node-7 no longer responds".into()));
    let mut collected = disrupted(running(), "DeletionByPodGC");
    collected["phase"] = json!("Failed");
    assert_eq!(state_of(&job, collected), RunState::Lost("DeletionByPodGC: words".into()));
}

#[test]
fn a_pod_that_failed_before_packer_ran() {
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    assert_eq!(state_of(&calm(), evicted), RunState::Failed(Failure::Evicted("low on memory".into())));
    let end = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "no such commit"}});
    let fetch = json!({"name": "git-sync", "state": end, "ready": false, "restartCount": 0, "image": "", "imageID": ""});
    let failed = json!({"phase": "Failed", "initContainerStatuses": [fetch]});
    let words = "git-sync exited with 1: no such commit";
    assert_eq!(state_of(&calm(), failed), RunState::Failed(Failure::NotStarted(words.into())));
}

#[test]
fn an_error_of_git_sync_is_reduced_to_gits_output() {
    let words_of = |stderr: &str| {
        let error = format!(
            "Run(git fetch https://git.example/fleet {} --depth 1): exit status 128: {{ stdout: \"\", stderr: {stderr:?} }}",
            "a".repeat(40)
        );
        let line =
            json!({"logger": "", "msg": "too many failures, aborting", "error": error, "failCount": 5});
        let end = json!({"terminated": {"exitCode": 1, "reason": "Error", "message": format!("INFO: init\n{line}\n")}});
        let fetch = json!({"name": "git-sync", "state": end, "ready": false, "restartCount": 0, "image": "", "imageID": ""});
        match state_of(&calm(), json!({"phase": "Failed", "initContainerStatuses": [fetch]})) {
            RunState::Failed(Failure::NotStarted(words)) => words,
            other => panic!("{other:?}"),
        }
    };
    let denied = "remote: no\nfatal: Authentication failed for 'https://git.example/fleet/'";
    assert_eq!(
        words_of(denied),
        "git-sync exited with 1: too many failures, aborting: remote: no fatal: Authentication failed for \
         'https://git.example/fleet/'"
    );
    let quoted = "fatal: unable to access \"fleet\"";
    assert!(words_of(quoted).ends_with(quoted), "{}", words_of(quoted));
    for moved in [
        "error: Server does not allow request for unadvertised object aaaa",
        "POST git-upload-pack (341 bytes)\nfatal: remote error: upload-pack: not our ref aaaa",
    ] {
        let words = words_of(moved);
        assert!(words.contains("the branch has moved on") && !words.contains("POST"), "{words}");
    }
}

#[test]
fn a_container_that_never_existed_has_no_end() {
    let mut status = ended(
        "ContainerStatusUnknown",
        137,
        "The container could not be located when the pod was terminated",
    );
    let end = &mut status["containerStatuses"][0]["state"]["terminated"];
    end["startedAt"] = Value::Null;
    end["finishedAt"] = Value::Null;
    let late = finished("DeadlineExceeded", stop(Stop::Late, true, Some("packer: ErrImagePull: no")));
    let words = "it did not start in time: packer: ErrImagePull: no";
    assert_eq!(state_of(&late, status.clone()), RunState::Failed(Failure::NotStarted(words.into())));
    status["containerStatuses"][0]["state"]["terminated"]["message"] =
        json!("The container used to be Running");
    assert!(matches!(state_of(&late, status), RunState::Lost(_)));
}

#[test]
fn the_state_of_a_run_without_its_pod() {
    let blocked = pod(waiting("initContainerStatuses", "install", "CreateContainerError", "no"));
    let ran = pod(running());
    let of_gone = |job: &Job, pod: Option<&Pod>| of(&Sighting { pod_gone: true, ..seen(job, pod) }).state;
    let deadline = |note| finished("DeadlineExceeded", note);
    let not_started = |words: &str| RunState::Failed(Failure::NotStarted(words.to_owned()));
    let late = deadline(stop(Stop::Late, true, Some("it cannot be scheduled")));
    let reason = "it did not start in time: it cannot be scheduled";
    assert_eq!(of_gone(&late, Some(&blocked)), not_started(reason));
    assert_eq!(of_gone(&late, None), not_started(reason));
    assert_eq!(
        of_gone(&deadline(None), Some(&blocked)),
        not_started("it did not start in time: install: CreateContainerError: no")
    );
    let cancelled = deadline(stop(Stop::Cancelled, true, None));
    assert_eq!(of_gone(&cancelled, Some(&blocked)), RunState::Failed(Failure::Cancelled));
    let lost = RunState::Lost("its pod was deleted".into());
    assert_eq!(of_gone(&cancelled, Some(&ran)), lost, "there may be an image");
    assert_eq!(of_gone(&finished("BackoffLimitExceeded", None), None), lost);
    let job = calm();
    let deleted = Sighting { job_gone: true, ..seen(&job, None) };
    assert_eq!(of(&deleted).state, RunState::Lost("its Job was deleted".into()));
}

#[test]
fn a_note_that_cannot_be_read_still_counts() {
    let job: Job =
        serde_json::from_value(json!({"metadata": {"annotations": {STOP: "now"}}})).expect("a Job");
    let note = seen(&job, None).note().expect("a note");
    assert_eq!((note.why, note.pending), (Stop::Cancelled, false));
}

#[test]
fn the_last_error_of_a_log_is_shown() {
    let usage = "  --ssh-key-file stringArray  the SSH key(s) to use\n".repeat(60);
    for (log, line) in [
        (
            format!("{usage}invalid flag: $GITSYNC_PASSWORD needs --username\n\n"),
            "invalid flag: $GITSYNC_PASSWORD needs --username",
        ),
        ("Cloning\nfatal: could not read Username\nsee above\n".to_owned(), "fatal: could not read Username"),
        ("a\nthe end\n".to_owned(), "the end"),
        (
            r#"{"level":0,"msg":"too many failures, aborting","error":"Run(git fetch): exit status 128"}"#
                .to_owned(),
            "too many failures, aborting: Run(git fetch): exit status 128",
        ),
    ] {
        assert_eq!(error_line(&log), line);
    }
}
