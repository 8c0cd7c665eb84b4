//! How a run stands, from its Job and its pod as last seen. Pure.
//!
//! The container's termination message is the result. What ends a pod without one is told apart as far as
//! Kubernetes tells it: out of memory, evicted, never started. Everything else is lost, and whether there
//! is an image all the same is looked for by build tag.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use opsy_runner::request as wire;
use serde::{Deserialize, Serialize};

use super::STOP;
use super::job::PACKER;
use crate::api::RunName;
use crate::engine::{Failure, Run, RunFacts, RunState, Said, Stop, ended};

/// A kubelet that has not confirmed a pod's end so long after its grace has gone, with its node.
const OVERDUE: Duration = Duration::from_secs(120);
/// Reasons a container waits for that are the usual course of things.
const USUAL: [&str; 2] = ["PodInitializing", "ContainerCreating"];
/// Reasons a container waits for whose image cannot be pulled.
const NOT_PULLED: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];
const PULL_HINT: &str = " (a private registry needs --image-pull-secrets, imagePullSecrets of the chart, or \
                         spec.builder.pod.imagePullSecrets)";
/// What Git says of a commit that the server has and does not send, or has no more.
const NOT_SENT: [&str; 2] = ["unadvertised object", "not our ref"];
const MOVED_HINT: &str = " (the branch has moved on, and the server sends only the tips of its branches: the next run \
                          fetches the new tip)";
/// Longest text of Kubernetes that is passed on.
const LONGEST: usize = 400;

/// A run as last seen.
#[derive(Clone, Debug)]
pub struct Sighting<'a> {
    pub job: &'a Job,
    /// Somebody else deleted the Job.
    pub job_gone: bool,
    pub pod: Option<&'a Pod>,
    /// The pod was seen, and is there no more.
    pub pod_gone: bool,
    /// Why no pod can be made, where that is so.
    pub refused: Option<&'a str>,
}

/// What is noted in a Job that is to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopNote {
    pub why: Stop,
    /// It had not started by then.
    pub pending: bool,
    /// What it was waiting for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_for: Option<String>,
}

/// The run, as the engine tells it.
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
    Run { id, name, facts, state, started_at, ended_at, resources: Vec::new(), said: Said::default() }
}

fn ended_run(name: RunName, facts: RunFacts, seen: &Sighting<'_>, end: &ContainerStateTerminated) -> Run {
    let report = end.message.as_deref().and_then(|text| serde_json::from_str::<wire::Report>(text).ok());
    let state = match &report {
        Some(report) if report.outcome == wire::Outcome::Succeeded => ended::state(report.clone()),
        _ if end.reason.as_deref() == Some("OOMKilled") => RunState::Failed(Failure::OutOfMemory),
        Some(report) if report.outcome == wire::Outcome::Cancelled => RunState::Failed(seen.who_stopped_it()),
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
        said: report.as_ref().map(ended::said).unwrap_or_default(),
        resources: report.map(|report| report.resources).unwrap_or_default(),
    }
}

/// A kubelet that finds no container in the end says that it was killed, of one that never was, too.
fn has_run(end: &ContainerStateTerminated) -> bool {
    let used_to = end.message.as_deref().unwrap_or_default().contains("used to be Running");
    end.reason.as_deref() != Some("ContainerStatusUnknown") || end.started_at.is_some() || used_to
}

/// Without an end of the container.
fn state(seen: &Sighting<'_>, running: bool, now: Timestamp) -> RunState {
    if let Some(status) = seen.pod_status().filter(|status| status.phase.as_deref() == Some("Failed")) {
        return failed_pod(seen, status, running);
    }
    if seen.is_overdue(now) {
        let node = seen.node().unwrap_or("its node");
        return RunState::Lost(format!("{node} does not answer any more"));
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

/// A pod that failed as a whole: evicted, cut off, or an init container that did.
fn failed_pod(seen: &Sighting<'_>, status: &PodStatus, running: bool) -> RunState {
    if let Some(words) = failed_init(status) {
        return RunState::Failed(Failure::NotStarted(words));
    }
    if !running && (seen.note().is_some() || seen.is_past_its_deadline()) {
        return gone(seen, running);
    }
    let words = seen.disruption().or_else(|| status.message.as_deref().map(short));
    let words = words.unwrap_or_else(|| "the pod failed without a word".to_owned());
    if running { RunState::Lost(words) } else { RunState::Failed(Failure::Evicted(words)) }
}

fn failed_init(status: &PodStatus) -> Option<String> {
    let failed = |container: &ContainerStatus| {
        let end = container.state.as_ref()?.terminated.as_ref().filter(|end| end.exit_code != 0)?;
        let words = end.message.as_deref().map(error_line).filter(|line| !line.is_empty());
        let words = words.or_else(|| end.reason.as_deref().map(short)).unwrap_or_default();
        let hint = if NOT_SENT.iter().any(|said| words.contains(said)) { MOVED_HINT } else { "" };
        Some(format!("{} exited with {}: {words}{hint}", container.name, end.exit_code))
    };
    status.init_container_statuses.iter().flatten().find_map(failed)
}

/// All that was there of it has gone.
fn gone(seen: &Sighting<'_>, running: bool) -> RunState {
    let note = seen.note();
    let never_started = !running && (seen.pod.is_some() || note.as_ref().is_some_and(|note| note.pending));
    if !never_started {
        let what = if seen.job_gone { "its Job was deleted" } else { "its pod is gone" };
        return RunState::Lost(what.to_owned());
    }
    let late = |waited_for: Option<String>| {
        let words = waited_for.or_else(|| seen.waits_for());
        words.map_or("it did not start in time".to_owned(), |words| {
            format!("it did not start in time: {words}")
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
        // Whatever it says, the Job was asked to stop.
        let unreadable = StopNote { why: Stop::Cancelled, pending: false, waited_for: None };
        Some(serde_json::from_str(text).unwrap_or(unreadable))
    }

    /// Is there something of it that is on its way out?
    fn is_stopping(&self) -> bool {
        let leaving = self.pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        leaving
            || self.pod_gone
            || self.job_gone
            || self.note().is_some()
            || self.is_finished()
            || self.is_failing()
    }

    /// The grace is over, and the kubelet has said nothing.
    fn is_overdue(&self, now: Timestamp) -> bool {
        let pod = self.pod.filter(|_| !self.pod_gone);
        let due = pod.and_then(|pod| pod.metadata.deletion_timestamp.as_ref()).map(|at| at.0);
        due.is_some_and(|due| now.duration_since(due).unsigned_abs() > OVERDUE && now > due)
    }

    fn job_has(&self, kinds: &[&str]) -> bool {
        let conditions = self.job.status.as_ref().and_then(|status| status.conditions.as_ref());
        let holds = |kind: &str, status: &str| kinds.contains(&kind) && status == "True";
        conditions.into_iter().flatten().any(|condition| holds(&condition.type_, &condition.status))
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

    /// A build that was told to end: by whom?
    fn who_stopped_it(&self) -> Failure {
        match self.note().map(|note| note.why) {
            Some(Stop::Cancelled) => Failure::Cancelled,
            Some(Stop::Late) => Failure::TimedOut,
            None if self.is_past_its_deadline() => Failure::TimedOut,
            None if self.job_gone => Failure::Evicted("its Job was deleted".to_owned()),
            None => {
                Failure::Evicted(self.disruption().unwrap_or_else(|| "deleted by somebody else".to_owned()))
            }
        }
    }

    /// The container ended without a report that can be read.
    fn unreported(&self, end: &ContainerStateTerminated) -> RunState {
        let said = end.message.as_deref().map(short).filter(|text| !text.is_empty());
        match end.reason.as_deref() {
            Some(reason @ ("StartError" | "ContainerCannotRun")) => {
                RunState::Failed(Failure::NotStarted(said.unwrap_or_else(|| reason.to_owned())))
            }
            _ => match self.disruption() {
                Some(words) => RunState::Failed(Failure::Evicted(words)),
                None => {
                    RunState::Lost(format!("the runner ended with {} and without a report", end.exit_code))
                }
            },
        }
    }

    /// What the cluster did to the pod.
    fn disruption(&self) -> Option<String> {
        let status = self.pod_status()?;
        if status.reason.as_deref() == Some("Evicted") {
            return Some(status.message.as_deref().map_or("Evicted".to_owned(), short));
        }
        let mut conditions = status.conditions.iter().flatten();
        let target = conditions.find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
        let words = [target.reason.as_deref(), target.message.as_deref()];
        Some(short(&words.into_iter().flatten().collect::<Vec<_>>().join(": ")))
    }

    /// What keeps it from starting, where it is not the usual course of things.
    pub fn waits_for(&self) -> Option<String> {
        let Some(status) = self.pod_status() else {
            return self.refused.map(|words| format!("no pod can be made: {}", short(words)));
        };
        let mut conditions = status.conditions.iter().flatten();
        let scheduled = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False");
        if let Some(condition) = scheduled {
            let words = condition.message.as_deref().or(condition.reason.as_deref()).unwrap_or_default();
            return Some(format!("no node takes it: {}", short(words)));
        }
        let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
        containers.into_iter().find_map(blocked)
    }
}

/// An image that cannot be pulled, a Secret that is not there.
fn blocked(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| !USUAL.contains(reason))?;
    let message = waiting.message.as_deref().map(short).unwrap_or_default();
    let hint = if NOT_PULLED.contains(&reason) { PULL_HINT } else { "" };
    Some(format!("{}: {reason}: {message}{hint}", container.name))
}

/// Words by which a line says that something went wrong.
const ERROR_WORDS: [&str; 6] = ["error", "fatal", "invalid", "denied", "failed", "cannot"];

/// Of a log, the last line that tells of an error, else the last line: usage texts and progress stand before it.
fn error_line(log: &str) -> String {
    let lines = || log.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let tells = |line: &&str| {
        let line = line.to_lowercase();
        ERROR_WORDS.iter().any(|word| line.contains(word))
    };
    let line = lines().find(tells).or_else(|| lines().next()).unwrap_or_default();
    short(&logged(line).unwrap_or_else(|| line.to_owned()))
}

/// Of an error of git-sync, which begins with the command, what Git wrote. Lines of progress are left out.
fn of_git(error: &str) -> Option<String> {
    let (_, said) = error.split_once("stderr: \"")?;
    let said = said.strip_suffix("\" }").unwrap_or(said).replace("\\\"", "\"");
    let is_progress = |line: &&str| line.is_empty() || line.starts_with("POST ");
    let lines: Vec<&str> = said.split("\\n").map(str::trim).filter(|line| !is_progress(line)).collect();
    (!lines.is_empty()).then(|| lines.join(" "))
}

/// Message and error of a line of a structured log.
fn logged(line: &str) -> Option<String> {
    let record: serde_json::Value = serde_json::from_str(line).ok()?;
    let texts = [record["msg"].as_str(), record["error"].as_str().or(record["err"].as_str())];
    let texts: Vec<String> =
        texts.into_iter().flatten().map(|text| of_git(text).unwrap_or_else(|| text.to_owned())).collect();
    (!texts.is_empty()).then(|| texts.join(": "))
}

/// One line, cut where it is too long for a status.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
