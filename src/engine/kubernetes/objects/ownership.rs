//! Field ownership: whether a live object is in sync with its document, and how the agent takes over fields of others.
//! Pure.
//!
//! A live object is compared by the fields that the agent applied last, according to its `managedFields`: a field that
//! another manager has overwritten is no longer among them, one that the document dropped still is, and a changed one
//! has another value. The spec is also compared as a whole, because others may not add fields there. Labels and
//! annotations that others add belong to them. A fingerprint of both parts therefore equals the fingerprint of the
//! document if and only if nothing has to be sent, and no object has to be kept in memory as a whole to be compared
//! with a later commit.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api::{GROUP, Owner, VERSION, annotations};
use crate::engine::kubernetes::{MANAGED_BY, MANAGER, OWNER};

/// Managers whose fields the agent takes over: that of `kubectl apply`, and that of what existed before the first
/// apply.
pub const KUBECTL: [&str; 2] = ["kubectl-client-side-apply", "before-first-apply"];
/// The spec in a field set.
const SPEC: &str = "f:spec";
/// Domain of the finalizers of the agent and of the operator.
const FINALIZER_DOMAIN: &str = "opsy.dev";

/// A digest of fields and their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

/// The document as it is sent: with the agent's labels and the manifest's file, and without nulls, which the server
/// would refuse or store.
pub fn labelled(document: &Value, file: &str, owner: &Owner) -> Value {
    let mut whole = without_nulls(document);
    let labels = [MANAGED_BY, (OWNER, owner.as_str())];
    for (name, value) in labels {
        whole["metadata"]["labels"][name] = json!(value);
    }
    whole["metadata"]["annotations"][annotations::FILE] = json!(file);
    whole
}

/// The fingerprint of an object that is in sync with this document.
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
    let spec = applied.get("spec").cloned();
    fingerprint(&json!({"applied": applied, "spec": spec}))
}

/// The fingerprint of a live object. `None` if the agent never applied it.
pub fn of_live(metadata: &ObjectMeta, spec: &Value) -> Option<Fingerprint> {
    let applied = applied(metadata)?;
    let live = json!({
        "metadata": {"labels": metadata.labels, "annotations": metadata.annotations},
        "spec": spec,
    });
    Some(fingerprint(&json!({"applied": owned(applied, &live), "spec": spec})))
}

/// Whether the document that the agent applied last contains this annotation.
pub fn applies_annotation(metadata: &ObjectMeta, name: &str) -> bool {
    let own = metadata.managed_fields.iter().flatten().filter(|entry| is_own(entry));
    let fields = own.filter_map(|entry| entry.fields_v1.as_ref());
    let name = format!("f:{name}");
    fields.into_iter().any(|fields| !fields.0["f:metadata"]["f:annotations"][&name].is_null())
}

/// Whether others own fields under `spec`, or kubectl's client-side apply owns any field.
pub fn is_shared(metadata: &ObjectMeta) -> bool {
    let others = |entry: &ManagedFieldsEntry| {
        is_kubectls(entry) || (is_others(entry) && !fields(entry)[SPEC].is_null())
    };
    metadata.managed_fields.iter().flatten().any(others)
}

/// Whether an apply that lacks a field would leave it in place: all fields of kubectl's client-side apply, and those
/// under `spec` that others or no manager owns.
pub fn has_others(metadata: &ObjectMeta, spec: &Value) -> bool {
    let own = || owned(&applied(metadata).unwrap_or(&Value::Null)[SPEC], spec);
    is_shared(metadata) || fingerprint(&own()) != fingerprint(spec)
}

/// The last other field manager that wrote a field which only the document may set: the spec, or one of the agent's
/// labels.
pub fn writer(metadata: &ObjectMeta) -> Option<&str> {
    let labels = [MANAGED_BY.0, OWNER].map(|label| format!("f:{label}"));
    let wrote = |entry: &&ManagedFieldsEntry| {
        let fields = fields(entry);
        let labelled = labels.iter().any(|label| !fields["f:metadata"]["f:labels"][label].is_null());
        is_others(entry) && (labelled || !fields[SPEC].is_null())
    };
    let last =
        metadata.managed_fields.iter().flatten().filter(wrote).max_by_key(|entry| entry.time.as_ref())?;
    last.manager.as_deref()
}

/// A patch that gives the agent the ownership of kubectl's fields and of the whole spec, so that the next apply removes
/// what the document does not have. It conflicts if the object has changed meanwhile.
pub fn takeover(metadata: &ObjectMeta, spec: &Value) -> Value {
    let (mut own, mut kept, mut time) = (json!({}), Vec::new(), None);
    for entry in metadata.managed_fields.iter().flatten() {
        if is_own(entry) || is_kubectls(entry) {
            merge(&mut own, fields(entry));
            time = time.max(entry.time.clone().filter(|_| is_kubectls(entry)));
            continue;
        }
        // Other managers keep everything but the spec, such as their labels.
        let mut left = entry.clone();
        let spec =
            left.fields_v1.as_mut().filter(|_| is_others(entry)).and_then(|left| left.0.as_object_mut());
        if let Some(spec) = spec.and_then(|left| left.remove(SPEC)) {
            merge(&mut own, &json!({SPEC: spec}));
        }
        let is_empty = fields(&left).as_object().is_none_or(Map::is_empty);
        kept.extend((!is_empty).then_some(left));
    }
    merge(&mut own, &json!({SPEC: field_set(spec)}));
    kept.push(ManagedFieldsEntry {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        fields_type: Some("FieldsV1".to_owned()),
        fields_v1: Some(FieldsV1(own)),
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

/// The field set of a value. A list is one field.
fn field_set(value: &Value) -> Value {
    let fields = value.as_object().into_iter().flatten();
    Value::Object(fields.map(|(name, inner)| (format!("f:{name}"), field_set(inner))).collect())
}

/// The fields that the agent applied last.
fn applied(metadata: &ObjectMeta) -> Option<&Value> {
    let own = metadata.managed_fields.iter().flatten().find(|entry| is_own(entry))?;
    own.fields_v1.as_ref().map(|fields| &fields.0)
}

fn fields(entry: &ManagedFieldsEntry) -> &Value {
    entry.fields_v1.as_ref().map_or(&Value::Null, |fields| &fields.0)
}

/// The finalizers that are neither the agent's nor the operator's.
pub fn finalizers_of_others(finalizers: &[String]) -> Vec<String> {
    let is_own = |finalizer: &&String| {
        let domain = finalizer.split_once('/').map_or("", |(domain, _)| domain);
        domain == FINALIZER_DOMAIN || domain.ends_with(&format!(".{FINALIZER_DOMAIN}"))
    };
    finalizers.iter().filter(|finalizer| !is_own(finalizer)).cloned().collect()
}

fn is_own(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

/// Whether the entry is not that of the agent's applies. Entries of the status never count.
fn is_others(entry: &ManagedFieldsEntry) -> bool {
    !is_own(entry) && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn is_kubectls(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref().is_some_and(|manager| KUBECTL.contains(&manager))
        && entry.operation.as_deref() == Some("Update")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

/// The part of a live value that a field set contains. A map without fields in the set is an empty one: what is in it
/// belongs to others. A list is owned as a whole or not at all.
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

/// Hashes a value. Fields that are null or empty maps are left out, 1 and 1.0 are equal, and order does not matter.
/// Each part begins with its type and length, so that different values never produce the same input.
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
