//! An object that is there, cut down to what the ledger goes by.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::api::annotations;
use crate::engine::kubernetes::OWNER;
use crate::engine::kubernetes::ownership::{self, Fingerprint};

/// What is known of an object that is there.
#[derive(Clone, Debug, Default)]
pub struct Live {
    pub uid: String,
    /// resourceVersion: the server counts up.
    pub version: u64,
    /// The server counts the changes of the spec.
    pub generation: Option<i64>,
    pub owner: Option<String>,
    /// File of the manifest that was applied last.
    pub file: Option<String>,
    /// What of it we applied, and its whole spec; none if we never applied it.
    pub print: Option<Fingerprint>,
    /// Others hold fields of its spec, or kubectl's client-side apply any.
    pub others: bool,
    /// It has fields that only go if they are made ours first.
    pub takeover: bool,
    /// Who else wrote what is ours, last.
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
            others: ownership::is_shared(metadata),
            takeover: ownership::has_others(metadata, spec),
            writer: ownership::writer(metadata).map(str::to_owned),
            deleting: metadata.deletion_timestamp.is_some(),
            has_status: !status.is_null(),
        }
    }
}

/// A resourceVersion as a number; one that is none is older than all others.
pub fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}
