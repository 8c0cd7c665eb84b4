//! Which Jobs are runs of this agent. Pure.
//!
//! Anyone who may create or patch Jobs in the namespace can write the agent's labels and facts, and anyone who may
//! create pods can give one a label and an owner. Therefore a Job counts only if its UID is recorded in the status of
//! its builder, which they cannot write, and its facts are those in that status. A pod counts only if such a Job is
//! its controller.

use crate::api::words::RunPhase;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::observed::{RunKey, facts_of};
use crate::api::builder::{JobFacts, PackerBuilderStatus};
use crate::api::{Key, RunName};
use crate::engine::kubernetes::job::labels;
use crate::engine::{RunFacts, RunRequest};

/// What the status of a builder records of its run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Namespace of the builder's runs.
    namespace: String,
    id: Option<String>,
    name: Option<String>,
    /// `jobStatus`.
    job_status: Option<String>,
    /// Absent in a status that an older version wrote.
    facts: Option<JobFacts>,
}

impl Recorded {
    pub fn of(status: &PackerBuilderStatus, namespace: &str) -> Self {
        let PackerBuilderStatus { job_id, job_name, job_status, job_facts, .. } = status.clone();
        Self { namespace: namespace.to_owned(), id: job_id, name: job_name, job_status, facts: job_facts }
    }

    /// As above, from a status as the API server returns it, even if other parts of it cannot be decoded.
    pub fn read(status: &Value, namespace: &str) -> Self {
        let string = |field: &str| status[field].as_str().map(str::to_owned);
        let (id, name, job_status) = (string("jobID"), string("jobName"), string("jobStatus"));
        let facts = serde_json::from_value(status["jobFacts"].clone()).ok();
        Self { namespace: namespace.to_owned(), id, name, job_status, facts }
    }

    /// Whether this is the recorded Job.
    pub fn names(&self, job: &RunKey) -> bool {
        job.namespace == self.namespace && (self.id.as_ref() == Some(&job.uid) || self.names_before_uids(job))
    }

    /// The facts of the run, or `None` if the Job is not recorded. The annotation of the Job (`claims`) can be edited
    /// by others. It counts only if the status, written by an older version, has no facts, and only as far as it fits.
    pub fn facts(
        &self,
        builder: &Key,
        job: &RunKey,
        metadata: &ObjectMeta,
        claims: Option<&RunFacts>,
    ) -> Option<RunFacts> {
        if !self.names(job) {
            return None;
        }
        if let Some(facts) = &self.facts {
            return RunFacts::recorded(builder, facts);
        }
        let claims = claims.filter(|claims| claims.builder == *builder)?;
        let is_named = RunName::of(&builder.name, &claims.build).as_str() == job.name;
        // The server sets the creation time. Without an owner, the images must have the tags of the agent's current
        // one.
        let created_at = metadata.creation_timestamp.as_ref().map_or(claims.created_at, |at| at.0);
        is_named.then(|| RunFacts { created_at, owner: None, ..claims.clone() })
    }

    /// Older versions recorded the name of the run as its ID. A run that was live during the upgrade is recognized by
    /// its name once: its first reconcile records the UID.
    fn names_before_uids(&self, job: &RunKey) -> bool {
        let is_live = self.job_status.as_deref().and_then(RunPhase::parse).is_some();
        is_live && self.id == self.name && self.name.as_ref() == Some(&job.name)
    }
}

/// Whether this agent created the Job for the builder of the request, according to its labels and its name. Such a Job
/// that is not recorded is deleted before a new run: the agent ended before it could record it, or the status was lost.
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

/// The message about a Job that is not recorded.
pub fn explain_stranger(job: &RunKey, builder: &Key) -> String {
    format!(
        "Job {}/{} looks like a build of {builder}, but the status of {builder} does not record its UID {}, so it does \
         not count. Either the agent ended just after creating it, or the status was lost, or another user created or \
         changed the Job",
        job.namespace, job.name, job.uid
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job() -> RunKey {
        RunKey { namespace: "a".into(), name: "node-1".into(), uid: "u1".into() }
    }

    #[test]
    fn a_job_counts_by_its_uid_and_during_an_upgrade_by_its_name() {
        let of = |id: Option<&str>, name: &str, job_status: &str| Recorded {
            namespace: "a".to_owned(),
            id: id.map(str::to_owned),
            name: Some(name.to_owned()),
            job_status: Some(job_status.to_owned()),
            facts: None,
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
        let undecodable = json!({"jobID": "u1", "jobName": 3, "failedJobCount": "three"});
        assert!(Recorded::read(&undecodable, "a").names(&job()));
        assert!(
            !Recorded { namespace: "b".to_owned(), ..of(Some("node-1"), "node-1", "Running") }.names(&job())
        );
    }

    fn builder() -> Key {
        Key { namespace: "a".into(), name: "node".into() }
    }

    /// Facts of build `0123456789abcdef`, changed.
    fn claims(change: &Value) -> RunFacts {
        let mut facts = json!({
            "builder": builder(), "build": "0123456789abcdef", "region": "us-east-1", "inputs": {},
            "why": "Missing", "commit": "a".repeat(40), "createdAt": "2026-01-01T00:00:10Z", "owner": "us",
        });
        facts.as_object_mut().expect("facts").extend(change.as_object().expect("fields").clone());
        serde_json::from_value(facts).expect("facts")
    }

    #[test]
    fn what_others_write_into_a_recorded_job_does_not_count() {
        let own = claims(&json!({}));
        let name = RunName::of("node", &own.build).to_string();
        let job = RunKey { namespace: "a".into(), name: name.clone(), uid: "u1".into() };
        let metadata: ObjectMeta =
            serde_json::from_value(json!({"creationTimestamp": "2026-01-01T00:00:11Z"})).expect("metadata");
        let recorded = |facts: Option<&RunFacts>| {
            let facts = facts.map(RunFacts::record);
            Recorded::read(
                &json!({"jobID": "u1", "jobName": name, "jobStatus": "Running", "jobFacts": facts}),
                "a",
            )
        };
        let edits = [
            json!({}),
            json!({"builder": {"namespace": "b", "name": "victim"}}),
            json!({"build": "fedcba9876543210"}),
            json!({"owner": "another"}),
            json!({"region": "eu-west-1"}),
            json!({"createdAt": "2020-01-01T00:00:00Z"}),
        ];
        for edit in &edits {
            let found = recorded(Some(&own)).facts(&builder(), &job, &metadata, Some(&claims(edit)));
            assert_eq!(found.as_ref(), Some(&own), "{edit}");
        }
        assert_eq!(recorded(Some(&own)).facts(&builder(), &job, &metadata, None), Some(own.clone()));
        let other = RunKey { uid: "u2".into(), ..job.clone() };
        assert_eq!(recorded(Some(&own)).facts(&builder(), &other, &metadata, Some(&own)), None);

        // An older version recorded no facts. Those of the Job count if they fit its name, with the server's time.
        let by_old = |edit: &Value| recorded(None).facts(&builder(), &job, &metadata, Some(&claims(edit)));
        let expected = claims(&json!({"createdAt": "2026-01-01T00:00:11Z", "owner": null}));
        assert_eq!(by_old(&edits[0]), Some(expected.clone()));
        assert_eq!((by_old(&edits[1]), by_old(&edits[2])), (None, None));
        assert_eq!((by_old(&edits[3]), by_old(&edits[5])), (Some(expected.clone()), Some(expected)));
    }
}
