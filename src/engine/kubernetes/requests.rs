//! What is sent about one object. Of answers the version is read alone: the watch brings what changed.

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use kube::Client;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::kinds::{Custom, Raw};
use super::ownership::KUBECTL;
use super::{MANAGER, REQUEST_LIMIT, ledger, ownership};
use crate::api::{Class, INSTALL_DEFINITIONS, Key, ObjectKey};
use crate::engine::HomeError;

const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// What is read of an answer.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    resource_version: String,
}

/// The API server, for objects of one kind.
pub struct Requests<'a> {
    client: &'a Client,
}

impl<'a> Requests<'a> {
    pub fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Applies a document, taking over every field it names. Answers the version that made.
    pub async fn apply<K: Custom>(&self, key: &Key, labelled: &Value) -> Result<u64, Refusal> {
        let params = PatchParams::apply(MANAGER).force();
        // The whole object comes back: to leave out the rest costs the server an eighth more here.
        let request = self.about::<K>(key).patch(&key.name, &params, &Patch::Apply(labelled));
        self.written(request).await
    }

    /// Replaces the part of a stored object that does not fit its definition: nothing can be applied to it.
    pub async fn replace_unfit<K: Custom>(
        &self,
        key: &Key,
        labelled: &Value,
        refusal: &Refusal,
    ) -> Result<(), Refusal> {
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
        self.text(request).await.map(|_| ())
    }

    /// Makes ours what `kubectl apply` wrote, and whatever others wrote under `spec`.
    pub async fn take_over<K: Custom>(&self, key: &Key) -> Result<(), Refusal> {
        let request = self.about::<K>(key).get(&key.name, &GetParams::default());
        let raw: Raw<K> =
            serde_json::from_str(&self.text(request).await?).map_err(|error| unreadable(&error))?;
        if !ownership::has_others(&raw.metadata, &raw.spec) {
            return Ok(());
        }
        let patch: Patch<()> = Patch::Json(operations(ownership::takeover(&raw.metadata, &raw.spec)));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let request = self.about::<K>(key).patch_metadata(&key.name, &params, &patch);
        self.written(request).await.map(|_| ())
    }

    /// Writes the whole status of the version that was looked at. Answers the version that made.
    ///
    /// A patch: a PUT without the labels would leave them, and take them from our applied fields.
    pub async fn put_status<K: Custom>(&self, key: &Key, seen: &str, status: &Value) -> Result<u64, Refusal> {
        let patch = json!([
            {"op": "add", "path": "/status", "value": status},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": seen},
        ]);
        let patch: Patch<()> = Patch::Json(operations(patch));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let mut request = self.about::<K>(key).patch_subresource("status", &key.name, &params, &patch);
        if let Ok(request) = &mut request {
            request.headers_mut().insert(ACCEPT, METADATA_ONLY);
        }
        self.written(request).await
    }

    /// Deletes the very object that is meant. One that is gone already is fine.
    pub async fn delete<K: Custom>(&self, key: &Key, uid: &str) -> Result<(), Refusal> {
        let preconditions = Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        let request = self.about::<K>(key).delete(&key.name, &params);
        match self.text(request).await {
            // Another object of that name is not the one that was to go.
            Err(refusal) if refusal.is_not_found() || refusal.is_conflict() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Takes our finalizers off an object that is being deleted. True if somebody else's keep it.
    pub async fn let_go<K: Custom>(&self, key: &Key) -> Result<bool, Refusal> {
        let metadata = match self.metadata::<K>(key).await {
            Err(refusal) if refusal.is_not_found() => return Ok(false),
            other => other?.metadata,
        };
        let finalizers = metadata.finalizers.unwrap_or_default();
        let left = ownership::finalizers_of_others(&finalizers);
        let stays = !left.is_empty();
        if metadata.deletion_timestamp.is_none() || left.len() == finalizers.len() {
            return Ok(stays);
        }
        let patch = json!({"metadata": {"resourceVersion": metadata.resource_version, "finalizers": left}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let request = self.about::<K>(key).patch_metadata(&key.name, &params, &Patch::Merge(&patch));
        match self.text(request).await {
            Err(refusal) if refusal.is_not_found() => Ok(false),
            other => other.map(|_| stays),
        }
    }

    async fn metadata<K: Custom>(&self, key: &Key) -> Result<PartialObjectMeta<K>, Refusal> {
        let request = self.about::<K>(key).get_metadata(&key.name, &GetParams::default());
        let text = self.text(request).await?;
        serde_json::from_str(&text).map_err(|error| unreadable(&error))
    }

    fn about<K: Custom>(&self, key: &Key) -> kube::core::Request {
        kube::core::Request::new(K::url_path(&(), Some(&key.namespace)))
    }

    async fn written(&self, request: Built) -> Result<u64, Refusal> {
        let text = self.text(request).await?;
        let written: Written = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
        Ok(ledger::version(Some(&written.metadata.resource_version)))
    }

    /// The answer as it came. What kube decodes itself it logs where it cannot: a secret must not get there.
    pub async fn text(&self, request: Built) -> Result<String, Refusal> {
        let mut request = request.map_err(|error| Refusal {
            class: Class::Invalid,
            message: error.to_string(),
            code: None,
        })?;
        request.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        match tokio::time::timeout(REQUEST_LIMIT, self.client.request_text(request)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Refusal {
                class: Class::TRANSIENT,
                message: format!("no answer within {} s", REQUEST_LIMIT.as_secs()),
                code: None,
            }),
        }
    }
}

fn operations(patch: Value) -> json_patch::Patch {
    serde_json::from_value(patch).expect("a list of JSON patch operations, as written above")
}

pub type Built = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

fn unreadable(error: &serde_json::Error) -> Refusal {
    Refusal { class: Class::TRANSIENT, message: format!("the answer cannot be read: {error}"), code: None }
}

/// Does the answer say that the kind itself is not known?
pub fn is_without_definition(refusal: &Refusal) -> bool {
    // A missing object or namespace is told by name; an unknown path is not.
    refusal.is_not_found() && refusal.message.contains("page not found")
}

/// Does the answer say that the stored object does not fit its definition?
pub fn is_unfit(refusal: &Refusal) -> bool {
    let words = ["to smd typed: .", "failed to create typed live object"];
    refusal.code == Some(500) && words.iter().any(|words| refusal.message.contains(words))
}

/// The message when the API server does not know a kind.
pub fn without_definition() -> String {
    format!("the custom resource definitions are not installed: run `{INSTALL_DEFINITIONS}`")
}

/// Why a status was refused.
pub fn told_status(refusal: Refusal) -> HomeError {
    let words = refusal.message;
    let message = match refusal.class {
        Class::Denied => format!("{words}: the role of the agent lacks this rule"),
        _ => words,
    };
    HomeError { class: refusal.class, message }
}

/// Why a document was refused, for people: a reason and a sentence.
pub fn told(object: &ObjectKey, refusal: &Refusal) -> (&'static str, String) {
    let words = &refusal.message;
    match refusal.class {
        _ if is_without_definition(refusal) => ("DefinitionMissing", without_definition()),
        Class::Denied => ("Denied", format!("{words}: the role of the agent lacks this rule")),
        Class::Invalid if words.contains("field not declared in schema") => (
            "Invalid",
            format!(
                "{words}: the custom resource definitions are older than this agent: run `{INSTALL_DEFINITIONS}`"
            ),
        ),
        Class::Invalid => ("Invalid", words.clone()),
        Class::NotFound => (
            "NamespaceMissing",
            format!("{words}: make it: kubectl create namespace {}", object.key.namespace),
        ),
        Class::Conflict => ("Conflict", words.clone()),
        Class::Transient { .. } if refusal.code.is_none() => {
            ("ApplyFailed", format!("the API server cannot be reached: {words}"))
        }
        Class::Transient { .. } => ("ApplyFailed", words.clone()),
    }
}
