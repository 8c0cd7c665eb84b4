//! The stored state of an object, and the object as an API server would return it. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::requests::{self, Requested};
use crate::api::ObjectKey;
use crate::manifest::DocumentText;

/// What is stored of one object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Incremented on every change of `spec`, as by an API server.
    pub generation: i64,
    /// Incremented on every write, and returned as the resourceVersion.
    pub version: u64,
    pub spec: Value,
    /// Annotations of the manifest. They suspend and cancel, so they are needed while the object is retained without
    /// one.
    #[serde(default)]
    pub annotations: Value,
    #[serde(default)]
    pub status: Value,
    /// File of the manifest that was loaded last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// When the object was loaded first.
    pub created: Timestamp,
    /// Name of the object, if it is too long for a file name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A document with its stored state, as an API server would return it.
///
/// # Errors
/// It cannot be decoded: the spec of an object without a document was stored by an older version of Opsy.
pub(super) fn object<K: DeserializeOwned>(
    document: &DocumentText,
    stored: &Stored,
    requested: Option<&Requested>,
) -> Result<K, String> {
    let mut whole = document.value();
    let metadata = &mut whole["metadata"];
    requests::add(metadata, requested);
    metadata["generation"] = json!(stored.generation);
    metadata["resourceVersion"] = json!(stored.version.to_string());
    metadata["creationTimestamp"] = json!(Time(stored.created));
    if !stored.status.is_null() {
        whole["status"] = stored.status.clone();
    }
    let read = serde_json::from_value(whole).or_else(|_| {
        // A status of an incompatible version is dropped: what must survive is in image tags.
        let mut without_status = document.value();
        requests::add(&mut without_status["metadata"], requested);
        without_status["metadata"]["generation"] = json!(stored.generation);
        without_status["metadata"]["resourceVersion"] = json!(stored.version.to_string());
        serde_json::from_value(without_status)
    });
    read.map_err(|error| {
        format!("its stored state cannot be decoded ({error}): fix its manifest in Git, or delete it there")
    })
}

/// The document of an object without a manifest, rebuilt from its stored state, with a deletion timestamp if it is to
/// be deleted.
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
