//! From a run's Job and pod, as last observed, to the state of the run. Pure.
//!
//! The container's termination message is the result. Without one, the state is derived from what Kubernetes reports:
//! out of memory, evicted, never started. Everything else is lost, and the builder then looks for an image by the
//! build tag.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use opsy_runner::request as wire;
use serde::{Deserialize, Serialize};

use super::STOP;
use super::job::PACKER;
use crate::api::RunName;
use crate::engine::{Failure, ReportDetails, Run, RunFacts, RunState, Stop, ended};

/// If the kubelet has not confirmed the end of a pod this long after its grace period, the node is gone.
const OVERDUE: Duration = Duration::from_secs(120);
/// Reasons for which every container waits at first.
const USUAL: [&str; 2] = ["PodInitializing", "ContainerCreating"];
/// Reasons of a container whose image cannot be pulled.
const NOT_PULLED: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];
const PULL_HINT: &str = " (a private registry needs --image-pull-secrets, imagePullSecrets of the chart, or \
                         spec.builder.pod.imagePullSecrets)";
/// Parts of Git's errors about a commit that the server does not send, or no longer has.
const NOT_SENT: [&str; 2] = ["unadvertised object", "not our ref"];
const MOVED_HINT: &str = " (the branch has moved on, and the server sends only the tips of its branches: the next run \
                          fetches the new tip)";
/// Longest message of Kubernetes, in characters, that is included in a status.
const LONGEST: usize = 400;

/// A run as last observed.
#[derive(Clone, Debug)]
pub struct Sighting<'a> {
    pub job: &'a Job,
    /// The Job was deleted, and not by the agent.
    pub job_gone: bool,
    pub pod: Option<&'a Pod>,
    /// The pod was observed and is deleted.
    pub pod_gone: bool,
    /// Why no pod can be created, if so.
    pub refused: Option<&'a str>,
}

/// The annotation of a Job that the agent stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopNote {
    pub why: Stop,
    /// Whether the run had not started by then.
    pub pending: bool,
    /// What it was waiting for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_for: Option<String>,
}

/// The run that was observed.
pub fn run(name: RunName, facts: RunFacts, seen: &Sighting<'_>, now: Timestamp) -> Run {
    if let Some(end) =
        seen.packer_state().and_then(|state| state.terminated.as_ref()).filter(|end| has_run(end))
    {
        return ended_run(name, facts, seen, end);
    }
    let running = seen.packer_state().and_then(|state| state.running.as_ref());
    let started_at = running.and_then(|running| running.started_at.as_ref()).map(|at| at.0);
    let state = state(seen, running.is_some(), now);
    let ended_at = state.ended().then(|| seen.ended_at().unwrap_or(now));
    let id = seen.id();
    Run {
        id,
        name,
        facts,
        state,
        started_at,
        ended_at,
        resources: Vec::new(),
        details: ReportDetails::default(),
    }
}

/// The run whose container has ended.
fn ended_run(name: RunName, facts: RunFacts, seen: &Sighting<'_>, end: &ContainerStateTerminated) -> Run {
    let report = end.message.as_deref().and_then(|text| serde_json::from_str::<wire::Report>(text).ok());
    let state = match &report {
        // A success counts even if the run was stopped, or if the container ran out of memory afterwards.
        Some(report) if report.outcome == wire::Outcome::Succeeded => ended::state(report.clone()),
        // The runner only sees that Packer failed.
        _ if end.reason.as_deref() == Some("OOMKilled") => RunState::Failed(Failure::OutOfMemory),
        // The runner only sees the signal.
        Some(report) if report.outcome == wire::Outcome::Cancelled => RunState::Failed(seen.cause_of_stop()),
        Some(report) => ended::state(report.clone()),
        None => seen.unreported(end),
    };
    let at = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.as_ref().map(|t| t.0);
    Run {
        id: seen.id(),
        name,
        facts,
        state,
        started_at: at(&end.started_at),
        ended_at: at(&end.finished_at),
        details: report.as_ref().map(ended::details).unwrap_or_default(),
        resources: report.map(|report| report.resources).unwrap_or_default(),
    }
}

/// Whether the container ever ran. A kubelet that finds no container reports it as killed, even if it never started.
fn has_run(end: &ContainerStateTerminated) -> bool {
    let used_to = end.message.as_deref().unwrap_or_default().contains("used to be Running");
    end.reason.as_deref() != Some("ContainerStatusUnknown") || end.started_at.is_some() || used_to
}

/// The state of a run whose container has not ended.
fn state(seen: &Sighting<'_>, running: bool, now: Timestamp) -> RunState {
    if let Some(status) = seen.pod_status().filter(|status| status.phase.as_deref() == Some("Failed")) {
        return failed_pod(seen, status, running);
    }
    if seen.is_overdue(now) {
        let node = seen.node().unwrap_or("its node");
        return RunState::Lost(format!("{node} no longer responds"));
    }
    let no_pod = seen.pod.is_none() || seen.pod_gone;
    if no_pod && (seen.job_gone || seen.is_finished()) {
        return gone(seen, running);
    }
    if seen.is_stopping() {
        RunState::Stopping
    } else if running {
        RunState::Running(wire::Progress { command: "build".to_owned(), ..wire::Progress::default() })
    } else {
        RunState::Pending(seen.waits_for())
    }
}

/// The state of a run whose pod failed as a whole: it was evicted, disrupted, or an init container failed.
fn failed_pod(seen: &Sighting<'_>, status: &PodStatus, running: bool) -> RunState {
    if let Some(message) = failed_init(status) {
        return RunState::Failed(Failure::NotStarted(message));
    }
    // The Job's controller ended a pod that had not started, at the agent's request or at the deadline.
    if !running && (seen.note().is_some() || seen.is_past_its_deadline()) {
        return gone(seen, running);
    }
    let message = seen.disruption().or_else(|| status.message.as_deref().map(short));
    let message = message.unwrap_or_else(|| "the pod failed without a message".to_owned());
    // If Packer was running, it may have created an image.
    if running { RunState::Lost(message) } else { RunState::Failed(Failure::Evicted(message)) }
}

/// The error of an init container that failed.
fn failed_init(status: &PodStatus) -> Option<String> {
    let failed = |container: &ContainerStatus| {
        let end = container.state.as_ref()?.terminated.as_ref().filter(|end| end.exit_code != 0)?;
        let message = end.message.as_deref().map(error_line).filter(|line| !line.is_empty());
        let message = message.or_else(|| end.reason.as_deref().map(short)).unwrap_or_default();
        let hint = if NOT_SENT.iter().any(|part| message.contains(part)) { MOVED_HINT } else { "" };
        Some(format!("{} exited with {}: {message}{hint}", container.name, end.exit_code))
    };
    status.init_container_statuses.iter().flatten().find_map(failed)
}

/// The state of a run whose pod is gone, or whose Job.
fn gone(seen: &Sighting<'_>, running: bool) -> RunState {
    let note = seen.note();
    let never_started = !running && (seen.pod.is_some() || note.as_ref().is_some_and(|note| note.pending));
    // It may have created an image.
    if !never_started {
        let what = if seen.job_gone { "its Job was deleted" } else { "its pod was deleted" };
        return RunState::Lost(what.to_owned());
    }
    let late = |waited_for: Option<String>| {
        let reason = waited_for.or_else(|| seen.waits_for());
        reason.map_or("it did not start in time".to_owned(), |reason| {
            format!("it did not start in time: {reason}")
        })
    };
    RunState::Failed(match note {
        Some(StopNote { why: Stop::Cancelled, .. }) => Failure::Cancelled,
        Some(StopNote { why: Stop::Late, waited_for, .. }) => Failure::NotStarted(late(waited_for)),
        None if seen.is_past_its_deadline() => Failure::NotStarted(late(None)),
        None => Failure::Evicted(seen.disruption().unwrap_or_else(|| "deleted before it started".to_owned())),
    })
}

impl Sighting<'_> {
    fn id(&self) -> String {
        self.job.metadata.uid.clone().unwrap_or_default()
    }

    fn pod_status(&self) -> Option<&PodStatus> {
        self.pod?.status.as_ref()
    }

    fn packer_state(&self) -> Option<&ContainerState> {
        let statuses = self.pod_status()?.container_statuses.iter().flatten();
        statuses.into_iter().find(|container| container.name == PACKER)?.state.as_ref()
    }

    fn node(&self) -> Option<&str> {
        self.pod?.spec.as_ref()?.node_name.as_deref()
    }

    pub fn note(&self) -> Option<StopNote> {
        let text = self.job.metadata.annotations.as_ref()?.get(STOP)?;
        // The agent stopped the Job, even if the note cannot be read.
        let unreadable = StopNote { why: Stop::Cancelled, pending: false, waited_for: None };
        Some(serde_json::from_str(text).unwrap_or(unreadable))
    }

    /// Whether any part of the run is ending.
    fn is_stopping(&self) -> bool {
        let leaving = self.pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        leaving
            || self.pod_gone
            || self.job_gone
            || self.note().is_some()
            || self.is_finished()
            || self.is_failing()
    }

    /// Whether the kubelet should have confirmed the end of the pod. The deletion timestamp includes the grace period.
    fn is_overdue(&self, now: Timestamp) -> bool {
        let pod = self.pod.filter(|_| !self.pod_gone);
        let due = pod.and_then(|pod| pod.metadata.deletion_timestamp.as_ref()).map(|at| at.0);
        due.is_some_and(|due| now.duration_since(due).unsigned_abs() > OVERDUE && now > due)
    }

    /// Whether the Job has a true condition of one of these types.
    fn job_has(&self, types: &[&str]) -> bool {
        let conditions = self.job.status.as_ref().and_then(|status| status.conditions.as_ref());
        let is_true = |kind: &str, status: &str| types.contains(&kind) && status == "True";
        conditions.into_iter().flatten().any(|condition| is_true(&condition.type_, &condition.status))
    }

    fn is_finished(&self) -> bool {
        self.job_has(&["Complete", "Failed"])
    }

    fn is_failing(&self) -> bool {
        self.job_has(&["FailureTarget"])
    }

    fn is_past_its_deadline(&self) -> bool {
        let conditions = self.job.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.reason.as_deref() == Some("DeadlineExceeded"))
    }

    fn ended_at(&self) -> Option<Timestamp> {
        let conditions = self.job.status.as_ref()?.conditions.as_ref()?;
        let end = conditions.iter().find(|condition| ["Complete", "Failed"].contains(&&*condition.type_))?;
        end.last_transition_time.as_ref().map(|at| at.0)
    }

    /// Why a run received the signal to end.
    fn cause_of_stop(&self) -> Failure {
        match self.note().map(|note| note.why) {
            Some(Stop::Cancelled) => Failure::Cancelled,
            Some(Stop::Late) => Failure::TimedOut,
            None if self.is_past_its_deadline() => Failure::TimedOut,
            None if self.job_gone => Failure::Evicted("its Job was deleted".to_owned()),
            None => {
                let cause = self.disruption();
                Failure::Evicted(cause.unwrap_or_else(|| "its pod was deleted by another user".to_owned()))
            }
        }
    }

    /// The state of a run whose container ended without a readable report.
    fn unreported(&self, end: &ContainerStateTerminated) -> RunState {
        let message = end.message.as_deref().map(short).filter(|text| !text.is_empty());
        match end.reason.as_deref() {
            Some(reason @ ("StartError" | "ContainerCannotRun")) => {
                RunState::Failed(Failure::NotStarted(message.unwrap_or_else(|| reason.to_owned())))
            }
            _ => match self.disruption() {
                Some(message) => RunState::Failed(Failure::Evicted(message)),
                None => {
                    RunState::Lost(format!("the runner exited with {} and without a report", end.exit_code))
                }
            },
        }
    }

    /// How the cluster disrupted the pod, if it did.
    fn disruption(&self) -> Option<String> {
        let status = self.pod_status()?;
        if status.reason.as_deref() == Some("Evicted") {
            return Some(status.message.as_deref().map_or("Evicted".to_owned(), short));
        }
        let mut conditions = status.conditions.iter().flatten();
        let target = conditions.find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
        let parts = [target.reason.as_deref(), target.message.as_deref()];
        Some(short(&parts.into_iter().flatten().collect::<Vec<_>>().join(": ")))
    }

    /// What the run waits for, if anything unusual keeps it from starting.
    pub fn waits_for(&self) -> Option<String> {
        let Some(status) = self.pod_status() else {
            return self.refused.map(|reason| format!("no pod can be created: {}", short(reason)));
        };
        let mut conditions = status.conditions.iter().flatten();
        let scheduled = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False");
        if let Some(condition) = scheduled {
            let message = condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or_default();
            return Some(format!("it cannot be scheduled: {}", short(message)));
        }
        let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        containers.into_iter().find_map(blocked)
    }
}

/// What blocks a container, such as an image that cannot be pulled or a Secret that does not exist.
fn blocked(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| !USUAL.contains(reason))?;
    let message = waiting.message.as_deref().map(short).unwrap_or_default();
    let hint = if NOT_PULLED.contains(&reason) { PULL_HINT } else { "" };
    Some(format!("{}: {reason}: {message}{hint}", container.name))
}

/// Words that mark a line as an error.
const ERROR_WORDS: [&str; 6] = ["error", "fatal", "invalid", "denied", "failed", "cannot"];

/// The last line of a log that contains an error, else the last line. Usage texts and progress come before it.
fn error_line(log: &str) -> String {
    let lines = || log.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let is_error = |line: &&str| {
        let line = line.to_lowercase();
        ERROR_WORDS.iter().any(|word| line.contains(word))
    };
    let line = lines().find(is_error).or_else(|| lines().next()).unwrap_or_default();
    short(&structured(line).unwrap_or_else(|| line.to_owned()))
}

/// Git's own output in an error of git-sync, which begins with the command. Lines of progress are left out.
fn git_output(error: &str) -> Option<String> {
    let (_, output) = error.split_once("stderr: \"")?;
    let output = output.strip_suffix("\" }").unwrap_or(output).replace("\\\"", "\"");
    let is_progress = |line: &&str| line.is_empty() || line.starts_with("POST ");
    let lines: Vec<&str> = output.split("\\n").map(str::trim).filter(|line| !is_progress(line)).collect();
    (!lines.is_empty()).then(|| lines.join(" "))
}

/// Message and error of a line of a structured log.
fn structured(line: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(line).ok()?;
    let texts = [record["msg"].as_str(), record["error"].as_str().or(record["err"].as_str())];
    let texts: Vec<String> =
        texts.into_iter().flatten().map(|text| git_output(text).unwrap_or_else(|| text.to_owned())).collect();
    (!texts.is_empty()).then(|| texts.join(": "))
}

/// The text as one line, cut if it is too long for a status.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
