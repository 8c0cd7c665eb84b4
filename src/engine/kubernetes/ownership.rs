//! Who owns which field: is a live object what its document says, and how kubectl's claim is taken over.
//!
//! Pure. A live object is compared by the part of it that we applied last, as its `managedFields` tell:
//! a field somebody wrote over is no longer in that part, one that the document dropped still is, and a
//! changed one has another value. So a fingerprint of that part equals the document's fingerprint exactly
//! where nothing needs to be sent, and no object has to be kept whole to be compared with a later commit.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{MANAGED_BY, MANAGER, OWNER};
use crate::api::{GROUP, Owner, VERSION, annotations};

/// Managers whose fields become ours: what `kubectl apply` wrote, and what was there before it did.
pub const KUBECTL: [&str; 2] = ["kubectl-client-side-apply", "before-first-apply"];
/// Domain of our finalizers and the operator's.
const FINALIZER_DOMAIN: &str = "opsy.dev";

/// Stands for the fields one manager applied, with their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

/// The document as it is sent: with our labels and its file, and without nulls, which would be refused or stored.
pub fn labelled(document: &Value, file: &str, owner: &Owner) -> Value {
    let mut whole = without_nulls(document);
    let labels = [MANAGED_BY, (OWNER, owner.as_str())];
    for (name, value) in labels {
        whole["metadata"]["labels"][name] = json!(value);
    }
    whole["metadata"]["annotations"][annotations::FILE] = json!(file);
    whole
}

/// What applying this document would make ours.
pub fn of_document(labelled: &Value) -> Fingerprint {
    let metadata = &labelled["metadata"];
    let mut applied = labelled.as_object().cloned().unwrap_or_default();
    for identity in ["apiVersion", "kind"] {
        applied.remove(identity);
    }
    applied.insert(
        "metadata".to_owned(),
        json!({"labels": metadata["labels"], "annotations": metadata["annotations"]}),
    );
    fingerprint(&Value::Object(applied))
}

/// What of a live object is ours; none where we never applied it.
pub fn of_live(metadata: &ObjectMeta, spec: &Value) -> Option<Fingerprint> {
    let applied = metadata.managed_fields.iter().flatten().find(|entry| is_ours(entry))?;
    let fields = &applied.fields_v1.as_ref()?.0;
    let live = json!({
        "metadata": {"labels": metadata.labels, "annotations": metadata.annotations},
        "spec": spec,
    });
    Some(fingerprint(&owned(fields, &live)))
}

/// Is this annotation in the document that we applied last?
pub fn applies_annotation(metadata: &ObjectMeta, name: &str) -> bool {
    let ours = metadata.managed_fields.iter().flatten().filter(|entry| is_ours(entry));
    let fields = ours.filter_map(|entry| entry.fields_v1.as_ref());
    let name = format!("f:{name}");
    fields.into_iter().any(|fields| !fields.0["f:metadata"]["f:annotations"][&name].is_null())
}

/// Does kubectl's client-side apply hold fields of this object?
pub fn held_by_kubectl(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(is_kubectls)
}

/// Makes kubectl's fields ours, so that those a document drops disappear. Refused with a conflict if the
/// object has changed meanwhile.
pub fn takeover(metadata: &ObjectMeta) -> Value {
    let entries = metadata.managed_fields.as_deref().unwrap_or_default();
    let (theirs, mut kept): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(is_kubectls);
    let mut fields = Value::Object(Map::new());
    for entry in theirs.iter().chain(kept.iter().filter(|entry| is_ours(entry))) {
        merge(&mut fields, entry.fields_v1.as_ref().map_or(&Value::Null, |fields| &fields.0));
    }
    kept.retain(|entry| !is_ours(entry));
    let time = theirs.iter().filter_map(|entry| entry.time.clone()).max();
    kept.push(ManagedFieldsEntry {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        manager: Some(MANAGER.to_owned()),
        operation: Some("Apply".to_owned()),
        subresource: None,
        time,
    });
    json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": kept},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": metadata.resource_version},
    ])
}

/// The finalizers that stay when we and the operator let go.
pub fn finalizers_of_others(finalizers: &[String]) -> Vec<String> {
    let is_ours = |finalizer: &&String| {
        let domain = finalizer.split_once('/').map_or("", |(domain, _)| domain);
        domain == FINALIZER_DOMAIN || domain.ends_with(&format!(".{FINALIZER_DOMAIN}"))
    };
    finalizers.iter().filter(|finalizer| !is_ours(finalizer)).cloned().collect()
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn is_kubectls(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref().is_some_and(|manager| KUBECTL.contains(&manager))
        && entry.operation.as_deref() == Some("Update")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

/// The part of a live value that a set of fields names. A map that is named without fields of its own is
/// an empty one: what others put into it is theirs. Lists are ours as a whole or not at all.
fn owned(fields: &Value, live: &Value) -> Value {
    let named = fields.as_object().into_iter().flatten();
    let part = named.filter_map(|(name, inner)| {
        let name = name.strip_prefix("f:")?;
        let value = live.get(name)?;
        let part = if value.is_object() { owned(inner, value) } else { value.clone() };
        Some((name.to_owned(), part))
    });
    Value::Object(part.collect())
}

fn merge(into: &mut Value, fields: &Value) {
    let (Some(into), Some(fields)) = (into.as_object_mut(), fields.as_object()) else { return };
    for (name, inner) in fields {
        merge(into.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())), inner);
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn fingerprint(value: &Value) -> Fingerprint {
    let mut hash = Sha256::new();
    feed(&mut hash, value);
    let digest = hash.finalize();
    Fingerprint(std::array::from_fn(|index| digest[index]))
}

/// Hashes a value: null and an empty map are nothing, 1 and 1.0 are the same, order of fields does not
/// matter. Every part is preceded by its kind and length, so that no two values run into each other.
fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(value) => hash.update([b'b', u8::from(*value)]),
        Value::Number(number) => {
            hash.update(b"d");
            hash.update(number.as_f64().unwrap_or(f64::NAN).to_bits().to_be_bytes());
        }
        Value::String(text) => feed_text(hash, text),
        Value::Array(items) => {
            hash.update(b"l");
            hash.update((items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| feed(hash, item));
        }
        Value::Object(fields) => {
            let mut present: Vec<_> = fields.iter().filter(|(_, value)| !is_nothing(value)).collect();
            present.sort_unstable_by_key(|(name, _)| *name);
            hash.update(b"m");
            hash.update((present.len() as u64).to_be_bytes());
            for (name, value) in present {
                feed_text(hash, name);
                feed(hash, value);
            }
        }
    }
}

fn feed_text(hash: &mut Sha256, text: &str) {
    hash.update(b"s");
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
