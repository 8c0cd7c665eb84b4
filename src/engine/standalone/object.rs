//! What the state directory holds of an object, and the object as an API server would hand it out. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::asked::{self, Asked};
use crate::api::ObjectKey;
use crate::manifest::Json;

/// What outlives the agent of one object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Counts changes of `spec`, as an API server does.
    pub generation: i64,
    /// Counts everything.
    pub version: u64,
    pub spec: Value,
    /// They suspend and cancel, so they matter as long as the object is kept.
    #[serde(default)]
    pub annotations: Value,
    #[serde(default)]
    pub status: Value,
    /// File of the manifest that was taken last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// When the object was first seen.
    pub created: Timestamp,
    /// Name of the object, where it is too long for a file's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A document with what the state directory knows of it, as an API server would hand it out.
///
/// # Errors
/// A spec that an older Opsy stored of an object without document may not be one any more.
pub(super) fn object<K: DeserializeOwned>(
    document: &Json,
    stored: &Stored,
    asked: Option<&Asked>,
) -> Result<K, String> {
    let mut whole = document.value();
    let metadata = &mut whole["metadata"];
    asked::add(metadata, asked);
    metadata["generation"] = json!(stored.generation);
    metadata["resourceVersion"] = json!(stored.version.to_string());
    metadata["creationTimestamp"] = json!(Time(stored.created));
    if !stored.status.is_null() {
        whole["status"] = stored.status.clone();
    }
    let read = serde_json::from_value(whole).or_else(|_| {
        // A status of another version that does not fit is dropped: what matters of it is in tags.
        let mut bare = document.value();
        asked::add(&mut bare["metadata"], asked);
        bare["metadata"]["generation"] = json!(stored.generation);
        bare["metadata"]["resourceVersion"] = json!(stored.version.to_string());
        serde_json::from_value(bare)
    });
    read.map_err(|error| {
        format!("what the state directory has of it cannot be decoded ({error}): fix its manifest in Git, or remove it")
    })
}

/// The document of an object that Git no longer has, from what is stored; marked as deleted if it is.
pub(super) fn rebuilt(object: &ObjectKey, stored: &Stored, deleted: Option<Timestamp>) -> Value {
    let mut document = json!({
        "apiVersion": format!("{}/{}", crate::api::GROUP, crate::api::VERSION),
        "kind": object.kind.to_string(),
        "metadata": { "name": object.key.name, "namespace": object.key.namespace },
        "spec": stored.spec,
    });
    if !stored.annotations.is_null() {
        document["metadata"]["annotations"] = stored.annotations.clone();
    }
    if let Some(at) = deleted {
        document["metadata"]["deletionTimestamp"] = json!(Time(at));
    }
    document
}
