//! The stored state of an object, and the document that can be rebuilt from it. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::ObjectKey;

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
    /// Labels of the manifest, by which commands select objects.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub labels: Value,
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

/// What a manifest declares of an object, apart from its name.
pub(super) struct Declared {
    pub spec: Value,
    pub annotations: Value,
    pub labels: Value,
}

/// The document of an object without a manifest, rebuilt from what is stored of its last one, with a deletion timestamp
/// if it is to be deleted.
pub(super) fn rebuilt(object: &ObjectKey, declared: Declared, deleted: Option<Timestamp>) -> Value {
    let mut document = json!({
        "apiVersion": format!("{}/{}", crate::api::GROUP, crate::api::VERSION),
        "kind": object.kind.to_string(),
        "metadata": { "name": object.key.name, "namespace": object.key.namespace },
    });
    document["spec"] = declared.spec;
    for (field, value) in [("annotations", declared.annotations), ("labels", declared.labels)] {
        if !value.is_null() {
            document["metadata"][field] = value;
        }
    }
    if let Some(at) = deleted {
        document["metadata"]["deletionTimestamp"] = json!(Time(at));
    }
    document
}
