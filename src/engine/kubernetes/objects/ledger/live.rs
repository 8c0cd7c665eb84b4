//! The part of a live object that the ledger needs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::api::annotations;
use crate::engine::kubernetes::OWNER;
use crate::engine::kubernetes::objects::ownership::{self, Fingerprint};

/// What is known of a live object.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub uid: String,
    /// The resourceVersion as a number, which grows with every change.
    pub version: u64,
    pub generation: Option<i64>,
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

/// A resourceVersion as a number. One that is not a number is older than all others.
pub fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
