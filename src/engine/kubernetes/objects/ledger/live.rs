//! The part of a live object that the ledger needs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use crate::api::annotations;
use crate::engine::kubernetes::OWNER;
use crate::engine::kubernetes::objects::fingerprint::{Fingerprint, Part};
use crate::engine::kubernetes::objects::kinds::LAST_APPLIED;
use crate::engine::kubernetes::objects::ownership;

/// What is known of a live object.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub uid: String,
    /// The resourceVersion as a number, which grows with every change.
    pub version: u64,
    pub generation: Option<i64>,
    /// Fingerprint of what else in the metadata a reconcile may read: the annotations and the time of the deletion.
    pub read: Option<Fingerprint>,
    pub owner: Option<String>,
    /// File of the manifest that was applied last.
    pub file: Option<String>,
    /// Fingerprint of the fields that the agent applied, and of the whole spec. `None` if the agent never applied it.
    pub print: Option<Fingerprint>,
    /// Others own fields of the spec, or kubectl's client-side apply owns any field.
    pub is_shared: bool,
    /// It has fields that an apply removes only if the agent owns them.
    pub needs_takeover: bool,
    /// The last other field manager that wrote a field of the document.
    pub writer: Option<String>,
    pub deleting: bool,
    pub has_status: bool,
}

impl Live {
    pub fn of(metadata: &ObjectMeta, spec: &Value, status: &Value) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: version(metadata.resource_version.as_deref()),
            generation: metadata.generation,
            read: Some(read(metadata)),
            owner: metadata.labels.as_ref().and_then(|labels| labels.get(OWNER).cloned()),
            file: annotations::value(metadata, annotations::FILE).map(str::to_owned),
            print: ownership::of_live(metadata, spec),
            is_shared: ownership::is_shared(metadata),
            needs_takeover: ownership::has_others(metadata, spec),
            writer: ownership::writer(metadata).map(str::to_owned),
            deleting: metadata.deletion_timestamp.is_some(),
            has_status: !status.is_null(),
        }
    }
}

impl Live {
    /// Whether a reconciler needs to see the change to `now`. It does not for a status, which the agent writes itself.
    pub fn is_news(&self, now: &Self) -> bool {
        self.uid != now.uid || self.generation != now.generation || self.read != now.read
    }
}

/// The fingerprint of the annotations, except for the file of the manifest, and of the time of the deletion.
fn read(metadata: &ObjectMeta) -> Fingerprint {
    let annotations = metadata.annotations.iter().flatten();
    let read = annotations.filter(|(name, _)| *name != annotations::FILE && *name != LAST_APPLIED);
    let read: Map<String, Value> = read.map(|(name, value)| (name.clone(), value.clone().into())).collect();
    Part::Whole(&json!({"annotations": read, "deletion": metadata.deletion_timestamp})).fingerprint()
}

/// A resourceVersion as a number. One that is not a number is older than all others.
pub fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live(metadata: Value, status: Value) -> Live {
        Live::of(&serde_json::from_value(metadata).expect("metadata"), &Value::Null, &status)
    }

    #[test]
    fn a_status_or_a_moved_file_is_no_news() {
        let metadata = |file: &str| {
            json!({
                "uid": "1", "generation": 1, "resourceVersion": "7", "finalizers": ["x"],
                "annotations": {annotations::FILE: file, LAST_APPLIED: file, "ours": "y"},
            })
        };
        let before = live(metadata("a.yaml"), Value::Null);
        let mut after = metadata("moved/a.yaml");
        after["resourceVersion"] = json!("8");
        after["labels"] = json!({"a": "b"});
        assert!(!before.is_news(&live(after, json!({"state": "x"}))));
        for (field, value) in [
            ("uid", json!("2")),
            ("generation", json!(2)),
            ("deletionTimestamp", json!("2026-03-01T12:00:00Z")),
            ("annotations", json!({"ours": "z"})),
            ("annotations", json!({})),
        ] {
            let mut after = metadata("a.yaml");
            after[field] = value;
            assert!(before.is_news(&live(after, Value::Null)), "{field}");
        }
    }
}
