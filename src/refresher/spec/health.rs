//! Parses `rollout.preflight` and `rollout.healthCheck`: what must hold before and after the update of a group, and while
//! a wave soaks. Part of `spec`. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::api::approvals::is_wave_name;
use crate::api::checks::{Problems, written};
use crate::api::refresher::{HealthCheck, RolloutPolicy, SoakCheck as WrittenCheck};
use crate::api::words::PreflightMode;
use crate::probe::{Address, Probe};

/// A new node needs a few minutes to start and join, and EKS has already seen it join.
const NODES_READY_WITHIN: Duration = Duration::from_secs(600);
const INTERVAL: Duration = Duration::from_secs(60);
/// A shorter interval would only burden what is checked.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);
/// A single bad response is no reason to stop.
const FAILURE_THRESHOLD: u32 = 2;
/// Each reconcile of a soak evaluates all of them.
const MAX_CHECKS: usize = 20;
/// Prometheus accepts longer queries, but people do not read them.
const LONGEST_QUERY: usize = 4096;

/// What must hold before and after the update of a group, and while a wave soaks.
#[derive(Clone, Debug)]
pub struct HealthPolicy {
    pub preflight: PreflightMode,
    /// How long the nodes of an updated group may take to become ready; `None` turns the check off.
    pub nodes_ready_within: Option<Duration>,
    pub checks: Vec<SoakCheck>,
    pub interval: Duration,
    /// A check may fail this often in the soak of a wave.
    pub failure_threshold: u32,
}

/// A check while a wave soaks.
#[derive(Clone, Debug)]
pub struct SoakCheck {
    pub name: String,
    pub probe: Probe,
}

pub(super) fn health(policy: &RolloutPolicy, has_soak: bool, problems: &mut Problems) -> HealthPolicy {
    let mode = written(policy.preflight.as_ref());
    if let Some(mode) = mode {
        let words: Vec<&str> = PreflightMode::ALL.iter().map(|word| word.as_str()).collect();
        problems.word("spec.rollout.preflight", mode, &words);
    }
    let check = policy.health_check.clone().unwrap_or_default();
    let path = |field: &str| format!("spec.rollout.healthCheck.{field}");
    let within = problems.duration(&path("nodesReadyWithin"), check.nodes_ready_within.as_ref());
    let interval = problems.duration(&path("interval"), check.interval.as_ref()).unwrap_or(INTERVAL);
    if interval < SHORTEST_INTERVAL {
        problems.add(path("interval"), "must be at least 10s");
    }
    let threshold = check.failure_threshold.map(u32::try_from);
    if threshold.is_some_and(|threshold| threshold.is_err()) {
        problems.add(path("failureThreshold"), "must not be negative");
    }
    let checks = checks(&check, has_soak, problems);
    HealthPolicy {
        preflight: mode.and_then(PreflightMode::parse).unwrap_or(PreflightMode::Warn),
        nodes_ready_within: Some(within.unwrap_or(NODES_READY_WITHIN)).filter(|within| !within.is_zero()),
        checks,
        interval,
        failure_threshold: threshold.and_then(Result::ok).unwrap_or(FAILURE_THRESHOLD),
    }
}

fn checks(check: &HealthCheck, has_soak: bool, problems: &mut Problems) -> Vec<SoakCheck> {
    let written = check.checks.as_deref().unwrap_or_default();
    let path = "spec.rollout.healthCheck.checks";
    if written.len() > MAX_CHECKS {
        problems.add(path, format!("has {} entries, but at most {MAX_CHECKS} are allowed", written.len()));
    }
    if !written.is_empty() && !has_soak {
        problems
            .add(path, "are evaluated while a wave soaks, but no wave has a soak: add one to rollout.waves");
    }
    let mut names = BTreeSet::new();
    let checks = written.iter().take(MAX_CHECKS).enumerate();
    checks
        .filter_map(|(index, check)| soak_check(&format!("{path}[{index}]"), check, &mut names, problems))
        .collect()
}

fn soak_check(
    path: &str,
    check: &WrittenCheck,
    names: &mut BTreeSet<String>,
    problems: &mut Problems,
) -> Option<SoakCheck> {
    let name = check.name.clone().unwrap_or_default();
    if !is_wave_name(&name) {
        let message = "is required: use at most 63 letters, digits, '-', '_' and '.'";
        problems.add(format!("{path}.name"), message);
    } else if !names.insert(name.clone()) {
        problems.add(format!("{path}.name"), format!("another check is named {name:?} too"));
    }
    let url = written(check.url.as_ref());
    let probe = match (url, &check.prometheus) {
        (Some(url), None) => Probe::Url(problems.read(&format!("{path}.url"), Address::parse(url))?),
        (None, Some(prometheus)) => {
            let address = written(prometheus.address.as_ref()).unwrap_or_default();
            let address = problems.read(&format!("{path}.prometheus.address"), Address::parse(address));
            let query = written(prometheus.query.as_ref()).filter(|query| query.len() <= LONGEST_QUERY);
            if query.is_none() {
                let message = format!("is required, with at most {LONGEST_QUERY} characters");
                problems.add(format!("{path}.prometheus.query"), message);
            }
            Probe::Prometheus { address: address?, query: query?.to_owned() }
        }
        _ => {
            problems.add(path, "must have either url or prometheus");
            return None;
        }
    };
    Some(SoakCheck { name, probe })
}
