//! The facts of a run, recorded when it starts: in the status of its builder and in the run itself. Pure.

use jiff::Timestamp;

use crate::api::builder::{InputsRecord, JobFacts};
use crate::api::{BuildId, CommitId, Key, Owner, Region};

/// What a run was started for. The facts are read back from their record and never recomputed, because the builder may
/// have changed since.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFacts {
    pub builder: Key,
    pub build: BuildId,
    pub region: Region,
    pub inputs: InputsRecord,
    /// The reason of its start, as `Why::word()`.
    pub why: String,
    pub commit: CommitId,
    pub created_at: Timestamp,
    /// The owner in the tags of what the run creates. Absent in runs of older versions: then the agent's current owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

impl RunFacts {
    /// The form of the facts in the builder's status.
    pub fn record(&self) -> JobFacts {
        JobFacts {
            build: self.build.to_string(),
            region: self.region.to_string(),
            inputs: Some(self.inputs.clone()),
            why: self.why.clone(),
            commit: self.commit.to_string(),
            created_at: Some(self.created_at),
            owner: self.owner.as_ref().map(ToString::to_string),
        }
    }

    /// Reads the facts from the builder's status. `None` if they cannot be read.
    pub fn recorded(builder: &Key, record: &JobFacts) -> Option<Self> {
        let owner = record.owner.as_deref().map(Owner::parse).transpose().ok()?;
        Some(Self {
            builder: builder.clone(),
            build: BuildId::parse(record.build.as_str()).ok()?,
            region: Region::parse(record.region.as_str()).ok()?,
            inputs: record.inputs.clone().unwrap_or_default(),
            why: record.why.clone(),
            commit: CommitId::parse(record.commit.as_str()).ok()?,
            created_at: record.created_at?,
            owner,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_are_read_back_from_a_status_as_they_were() {
        let facts: RunFacts = serde_json::from_value(json!({
            "builder": {"namespace": "a", "name": "node"}, "build": "0123456789abcdef", "region": "us-east-1",
            "inputs": {"baseAMI": "ami-1"}, "why": "Missing", "commit": "a".repeat(40),
            "createdAt": "2026-01-01T00:00:00.123456789Z", "owner": "us",
        }))
        .expect("facts");
        let status = serde_json::to_value(facts.record()).expect("JSON");
        let record: JobFacts = serde_json::from_value(status).expect("a record");
        assert_eq!(RunFacts::recorded(&facts.builder, &record), Some(facts.clone()));
        for broken in [
            JobFacts { build: "x".to_owned(), ..record.clone() },
            JobFacts { created_at: None, ..record.clone() },
            JobFacts { owner: Some("not an owner".to_owned()), ..record },
        ] {
            assert_eq!(RunFacts::recorded(&facts.builder, &broken), None, "{broken:?}");
        }
    }
}
