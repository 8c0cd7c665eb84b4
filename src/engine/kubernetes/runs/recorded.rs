//! Which Jobs are runs of this agent. Pure.
//!
//! Whoever may create Jobs in the namespace can write our labels and facts, and whoever may create pods can give one a
//! label and an owner. So a Job counts only if its uid is recorded in the status of its builder, which they cannot write,
//! and a pod only if such a Job is its controller.

use k8s_openapi::api::batch::v1::Job;
use serde_json::Value;

use super::seen::{RunKey, facts_of};
use crate::api::builder::PackerBuilderStatus;
use crate::api::{Key, RunName};
use crate::engine::RunRequest;
use crate::engine::kubernetes::job::labels;

/// Words of `jobStatus` of a run whose result has not been collected.
const LIVE: [&str; 3] = ["Pending", "Running", "Stopping"];

/// What the status of a builder records of its run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Where runs of the builder are.
    namespace: String,
    id: Option<String>,
    name: Option<String>,
    word: Option<String>,
}

impl Recorded {
    pub fn of(status: &PackerBuilderStatus, namespace: &str) -> Self {
        let PackerBuilderStatus { job_id, job_name, job_status, .. } = status.clone();
        Self { namespace: namespace.to_owned(), id: job_id, name: job_name, word: job_status }
    }

    /// The same of a status as the API server answers it, whatever else it holds.
    pub fn read(status: &Value, namespace: &str) -> Self {
        let text = |field: &str| status[field].as_str().map(str::to_owned);
        let (id, name, word) = (text("jobID"), text("jobName"), text("jobStatus"));
        Self { namespace: namespace.to_owned(), id, name, word }
    }

    /// Is this the Job that was recorded?
    pub fn names(&self, job: &RunKey) -> bool {
        job.namespace == self.namespace && (self.id.as_ref() == Some(&job.uid) || self.names_before_uids(job))
    }

    /// Older versions recorded the name of the run as its id. A run that was live during the upgrade is taken over by
    /// name, once: its uid is recorded as soon as it has been looked at.
    fn names_before_uids(&self, job: &RunKey) -> bool {
        let is_live = self.word.as_deref().is_some_and(|word| LIVE.contains(&word));
        is_live && self.id == self.name && self.name.as_ref() == Some(&job.name)
    }
}

/// Was the Job made by this agent for the builder of the request, as far as its labels and its name tell? If nothing
/// recorded it, the agent ended before it could, or its status was lost: it makes way for a new run.
pub fn is_left_over(job: &Job, request: &RunRequest, place: &str) -> bool {
    let builder = &request.facts.builder;
    let Some((name, facts)) = facts_of(job) else { return false };
    let made = RunRequest { name: name.clone(), ..request.clone() };
    facts.builder == *builder
        && name == RunName::of(&builder.name, &facts.build)
        && job.metadata.namespace.as_deref() == Some(place)
        && labels(&made).iter().all(|(label, value)| {
            job.metadata.labels.as_ref().and_then(|labels| labels.get(label)) == Some(value)
        })
}

/// What is said of a Job that is not recorded.
pub fn words(job: &RunKey, builder: &Key) -> String {
    format!(
        "Job {}/{} looks like a build of {builder}, but the status of {builder} does not record its uid {}: it does not \
         count. Either the agent ended just after it created it, or the status was lost, or somebody else created it",
        job.namespace, job.name, job.uid
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> RunKey {
        RunKey { namespace: "a".into(), name: "node-1".into(), uid: "u1".into() }
    }

    #[test]
    fn a_job_counts_by_its_uid_and_during_an_upgrade_by_its_name() {
        let of = |id: Option<&str>, name: &str, word: &str| Recorded {
            namespace: "a".to_owned(),
            id: id.map(str::to_owned),
            name: Some(name.to_owned()),
            word: Some(word.to_owned()),
        };
        let cases = [
            (of(Some("u1"), "node-1", "Running"), true),
            (of(Some("u1"), "node-1", "Succeeded"), true),
            (of(Some("u0"), "node-1", "Running"), false),
            (of(None, "node-1", "Running"), false),
            (of(Some("node-1"), "node-1", "Running"), true),
            (of(Some("node-1"), "node-1", "Pending"), true),
            (of(Some("node-1"), "node-1", "Succeeded"), false),
            (of(Some("node-0"), "node-0", "Running"), false),
            (Recorded::default(), false),
        ];
        for (recorded, expected) in cases {
            assert_eq!(recorded.names(&job()), expected, "{recorded:?}");
        }
        let odd = serde_json::json!({"jobID": "u1", "jobName": 3, "failedJobCount": "three"});
        assert!(Recorded::read(&odd, "a").names(&job()));
        assert!(
            !Recorded { namespace: "b".to_owned(), ..of(Some("node-1"), "node-1", "Running") }.names(&job())
        );
    }
}
