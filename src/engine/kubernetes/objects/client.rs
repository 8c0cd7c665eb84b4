//! The requests about one custom resource. Of a response only the resourceVersion is read: the watch returns the rest.

use http::header::{ACCEPT, HeaderValue};
use kube::Client;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::kinds::{Custom, Raw};
use super::ownership::KUBECTL;
use super::{ledger, ownership};
use crate::api::Key;
use crate::engine::kubernetes::MANAGER;
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::send::{BuiltRequest, send};

/// Has the server return a changed object without spec and status.
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// The part of a response that is read.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    resource_version: String,
}

/// The API server, for custom resources.
pub struct ObjectClient<'a> {
    client: &'a Client,
}

impl<'a> ObjectClient<'a> {
    pub fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Applies a document, with the ownership of every field in it. Returns the new resourceVersion.
    pub async fn apply<K: Custom>(&self, key: &Key, labelled: &Value) -> Result<u64, Refusal> {
        let params = PatchParams::apply(MANAGER).force();
        // Without METADATA_ONLY: for an apply, it takes the server an eighth longer.
        let request = self.about::<K>(key).patch(&key.name, &params, &Patch::Apply(labelled));
        self.write(request).await
    }

    /// Replaces the part of a stored object that does not match its definition, which no apply can do.
    pub async fn replace_unfit<K: Custom>(
        &self,
        key: &Key,
        labelled: &Value,
        refusal: &Refusal,
    ) -> Result<(), Refusal> {
        // Under this manager's name, the fields are taken over like those of kubectl.
        let params = PatchParams { field_manager: Some(KUBECTL[1].to_owned()), ..PatchParams::default() };
        let request = if refusal.message.contains(": .status") {
            let patch: Patch<()> =
                Patch::Json(operations(json!([{"op": "add", "path": "/status", "value": {}}])));
            self.about::<K>(key).patch_subresource("status", &key.name, &params, &patch)
        } else {
            let patch = json!([{"op": "add", "path": "/spec", "value": labelled["spec"]}]);
            let patch: Patch<()> = Patch::Json(operations(patch));
            self.about::<K>(key).patch_metadata(&key.name, &params, &patch)
        };
        self.send(request).await.map(|_| ())
    }

    /// Takes over the ownership of the fields that `kubectl apply` wrote, and of all that others wrote under `spec`.
    pub async fn take_over_fields<K: Custom>(&self, key: &Key) -> Result<(), Refusal> {
        let request = self.about::<K>(key).get(&key.name, &GetParams::default());
        let raw: Raw<K> =
            serde_json::from_str(&self.send(request).await?).map_err(|error| undecodable(&error))?;
        if !ownership::has_others(&raw.metadata, &raw.spec) {
            return Ok(());
        }
        let patch: Patch<()> = Patch::Json(operations(ownership::takeover(&raw.metadata, &raw.spec)));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let request = self.about::<K>(key).patch_metadata(&key.name, &params, &patch);
        self.write(request).await.map(|_| ())
    }

    /// Writes the whole status, if the object still has the resourceVersion that was observed. Returns the new one.
    ///
    /// This is a patch, because a PUT without the labels would retain them but remove them from the applied fields.
    pub async fn put_status<K: Custom>(
        &self,
        key: &Key,
        observed_version: &str,
        status: &Value,
    ) -> Result<u64, Refusal> {
        let patch = json!([
            {"op": "add", "path": "/status", "value": status},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": observed_version},
        ]);
        let patch: Patch<()> = Patch::Json(operations(patch));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let mut request = self.about::<K>(key).patch_subresource("status", &key.name, &params, &patch);
        if let Ok(request) = &mut request {
            request.headers_mut().insert(ACCEPT, METADATA_ONLY);
        }
        self.write(request).await
    }

    /// Deletes the object with this UID. It is not an error if the object is gone.
    pub async fn delete<K: Custom>(&self, key: &Key, uid: &str) -> Result<(), Refusal> {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let request = self.about::<K>(key).delete(&key.name, &params);
        match self.send(request).await {
            // A conflict means that another object has the name by now.
            Err(refusal) if refusal.is_not_found() || refusal.is_conflict() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Removes the agent's finalizers, and those of the operator, from an object that is being deleted. Returns whether
    /// finalizers of others retain it.
    pub async fn remove_finalizers<K: Custom>(&self, key: &Key) -> Result<bool, Refusal> {
        let metadata = match self.metadata::<K>(key).await {
            Err(refusal) if refusal.is_not_found() => return Ok(false),
            other => other?.metadata,
        };
        let finalizers = metadata.finalizers.unwrap_or_default();
        let left = ownership::finalizers_of_others(&finalizers);
        let stays = !left.is_empty();
        // Without a deletion, the finalizer protects a live run.
        if metadata.deletion_timestamp.is_none() || left.len() == finalizers.len() {
            return Ok(stays);
        }
        let patch = json!({"metadata": {"resourceVersion": metadata.resource_version, "finalizers": left}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let request = self.about::<K>(key).patch_metadata(&key.name, &params, &Patch::Merge(&patch));
        match self.send(request).await {
            Err(refusal) if refusal.is_not_found() => Ok(false),
            other => other.map(|_| stays),
        }
    }

    async fn metadata<K: Custom>(&self, key: &Key) -> Result<PartialObjectMeta<K>, Refusal> {
        let request = self.about::<K>(key).get_metadata(&key.name, &GetParams::default());
        let text = self.send(request).await?;
        serde_json::from_str(&text).map_err(|error| undecodable(&error))
    }

    fn about<K: Custom>(&self, key: &Key) -> kube::core::Request {
        kube::core::Request::new(K::url_path(&(), Some(&key.namespace)))
    }

    /// Sends a write and returns the new resourceVersion.
    async fn write(&self, request: BuiltRequest) -> Result<u64, Refusal> {
        let text = self.send(request).await?;
        let written: Written = serde_json::from_str(&text).map_err(|error| undecodable(&error))?;
        Ok(ledger::version(Some(&written.metadata.resource_version)))
    }

    async fn send(&self, request: BuiltRequest) -> Result<String, Refusal> {
        send(self.client, request).await
    }
}

fn operations(patch: Value) -> json_patch::Patch {
    serde_json::from_value(patch).expect("a list of JSON patch operations, as written above")
}

fn undecodable(error: &serde_json::Error) -> Refusal {
    Refusal::without_response(format!("the response cannot be decoded: {error}"))
}
