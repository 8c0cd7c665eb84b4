//! What the agent keeps in memory of an object, and how a commit changes it. Pure.
//!
//! Documents and status are JSON text: decoded, ten thousand objects would need hundreds of megabytes. The store of the
//! loop shares them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::core::object::HasStatus;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::object::{Declared, Stored, rebuilt};
use super::requests::{self, Requested};
use super::stored_text::StoredText;
use crate::api::files::file_stem;
use crate::api::{AMIRefresher, ObjectKey, PackerBuilder};
use crate::engine::json_text::fields;
use crate::engine::packed::Form;
use crate::manifest::{Document, DocumentText};

/// An object of the state directory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub generation: i64,
    pub version: u64,
    pub file: Option<String>,
    created: Timestamp,
    name: Option<String>,
    /// The document that is loaded. Before the first load, and of an object without a manifest, it is rebuilt from the
    /// stored state.
    pub document: DocumentText,
    pub status: Option<Arc<str>>,
    pub reference: Reference,
    /// What people requested by command.
    pub requested: Option<Requested>,
    /// Why it cannot be decoded, if it cannot be.
    pub undecodable: Option<String>,
}

/// How the loaded commit refers to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// No commit that refers to it is loaded, so it is not reconciled.
    None,
    Declared,
    /// It has no manifest and stays.
    Retained,
    /// It has no manifest and ends when its reconciler releases it.
    Deleted,
}

/// A kind of object that entries are decoded into.
pub(super) trait Decoded:
    Resource<DynamicType = ()> + HasStatus<Status: DeserializeOwned> + DeserializeOwned
{
}

impl Decoded for PackerBuilder {}
impl Decoded for AMIRefresher {}

impl<K: Decoded> Form<K> for Entry {
    fn open(&self) -> K {
        self.decode().expect("it was decoded before it came into the store")
    }

    fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    fn contains(&self, text: &str) -> bool {
        self.document.as_str().contains(text)
            || self.status.as_deref().is_some_and(|status| status.contains(text))
    }
}

impl Entry {
    /// An object as it was read from the state directory.
    pub fn read(object: &ObjectKey, stored: StoredText<'_>) -> Self {
        let document = DocumentText::of_valid(stored.document(object));
        let StoredText { fixed, status, .. } = stored;
        Self {
            document,
            generation: fixed.generation,
            version: fixed.version,
            file: fixed.file,
            created: fixed.created,
            name: fixed.name,
            status: status.map(Arc::from),
            reference: Reference::None,
            requested: None,
            undecodable: None,
        }
    }

    /// A new object, with its published status.
    pub fn new(document: &Document, status: Option<Value>, created: Timestamp) -> Self {
        let name = &document.object.key.name;
        Self {
            generation: 1,
            version: 1,
            file: Some(document.file.clone()),
            created,
            name: Some(name.clone()).filter(|name| *file_stem(name) != **name),
            document: document.json.clone(),
            status: status.as_ref().and_then(text),
            reference: Reference::Declared,
            requested: None,
            undecodable: None,
        }
    }

    /// The object with another document, with a new generation and version where an API server would set them.
    pub fn declared(&self, document: &Document) -> Self {
        let (spec, metadata) = self.declares(&document.json);
        let (is_new, is_changed) = (!spec, !spec || !metadata);
        Self {
            generation: self.generation + i64::from(is_new),
            version: self.version + u64::from(is_changed),
            // No reconciler sees the file, so a move alone does not change the version.
            file: Some(document.file.clone()),
            document: document.json.clone(),
            reference: Reference::Declared,
            ..self.clone()
        }
    }

    /// The object without a manifest.
    pub fn undeclared(&self, object: &ObjectKey, reference: Reference, now: Timestamp) -> Self {
        if self.reference == reference {
            return self.clone();
        }
        let deleted = (reference == Reference::Deleted).then_some(now);
        let document = DocumentText::from(&rebuilt(object, declared(&self.document), deleted));
        Self { document, reference, ..self.clone() }
    }

    /// Why the object is not in sync with its document, if it is not: reason and message.
    pub fn out_of_sync(&self) -> Option<(&'static str, String)> {
        if let Some(why) = &self.undecodable {
            return Some(("Undecodable", why.clone()));
        }
        // Otherwise an object is its document, and only the annotations of commands are added.
        match self.requested.as_ref()? {
            Requested::Annotations(_) => None,
            Requested::Unreadable(why) => Some(("RequestUnreadable", why.clone())),
        }
    }

    /// The object with other requests. The new version makes a running reconcile stale: it has not seen them.
    pub fn requested(self, requested: Option<Requested>) -> Self {
        let is_seen = self.is_loaded() && self.requested != requested;
        Self { version: self.version + u64::from(is_seen), requested, ..self }
    }

    /// The object with another status.
    pub fn with_status(&self, status: &Value) -> Self {
        Self { version: self.version + 1, status: text(status), ..self.clone() }
    }

    /// Whether a document has the same spec, and the same annotations and labels.
    fn declares(&self, document: &DocumentText) -> (bool, bool) {
        if self.document == *document
            || raw(&self.document).is_some_and(|raw| self::raw(document) == Some(raw))
        {
            return (true, true);
        }
        let (known, new) = (declared(&self.document), declared(document));
        (known.spec == new.spec, known.annotations == new.annotations && known.labels == new.labels)
    }

    /// Whether the state directory must be written for it to become `next`.
    pub fn is_stored_as(&self, next: &Self) -> bool {
        (self.version, &self.file) == (next.version, &next.file)
    }

    /// Whether it looks the same to its reconciler, apart from the status.
    pub fn is_shown_as(&self, next: &Self) -> bool {
        (self.version, self.reference) == (next.version, next.reference)
            && self.document == next.document
            && self.requested == next.requested
    }

    /// Whether the loaded commit refers to it.
    pub fn is_loaded(&self) -> bool {
        self.reference != Reference::None
    }

    /// Whether its reconciler sees it.
    pub fn is_usable(&self) -> bool {
        self.is_loaded() && self.undecodable.is_none()
    }

    /// What is stored of it.
    pub fn stored(&self) -> Stored {
        let Declared { spec, annotations, labels } = declared(&self.document);
        Stored {
            generation: self.generation,
            version: self.version,
            spec,
            annotations,
            labels,
            status: self.status(),
            file: self.file.clone(),
            created: self.created,
            name: self.name.clone(),
        }
    }

    /// The object as an API server would return it.
    ///
    /// # Errors
    /// It cannot be decoded: the spec of an object without a document was stored by an older version of Opsy.
    pub fn decode<K: Decoded>(&self) -> Result<K, String> {
        let mut object: K = serde_json::from_str(self.document.as_str()).map_err(|error| {
            format!(
                "its stored state cannot be decoded ({error}): fix its manifest in Git, or delete it there"
            )
        })?;
        let metadata = object.meta_mut();
        requests::add(metadata, self.requested.as_ref());
        metadata.generation = Some(self.generation);
        metadata.resource_version = Some(self.version.to_string());
        metadata.creation_timestamp = Some(Time(self.created));
        // A status of an incompatible version is dropped: what must survive is in image tags.
        *object.status_mut() = self.status.as_deref().and_then(|status| serde_json::from_str(status).ok());
        Ok(object)
    }

    fn status(&self) -> Value {
        let status = self.status.as_deref().map(serde_json::from_str);
        status.transpose().expect("it was written from a value").unwrap_or_default()
    }
}

/// What a document declares.
fn declared(document: &DocumentText) -> Declared {
    let mut json = document.value();
    let [annotations, labels] = ["annotations", "labels"].map(|field| json["metadata"][field].take());
    Declared { spec: json["spec"].take(), annotations, labels }
}

/// What a document declares as text, which is compared without decoding: equal texts are equal values.
fn raw(document: &DocumentText) -> Option<(&str, [Option<&str>; 2])> {
    let [spec, metadata] = fields(document.as_str(), ["spec", "metadata"])?;
    Some((spec?, fields(metadata?, ["annotations", "labels"])?))
}

fn text(status: &Value) -> Option<Arc<str>> {
    (!status.is_null()).then(|| status.to_string().into())
}
