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

use super::fingerprint::{Fingerprint, Part};
use crate::api::{GROUP, Owner, VERSION, annotations};
use crate::engine::kubernetes::{MANAGED_BY, MANAGER, OWNER};

/// Managers whose fields the agent takes over: that of `kubectl apply`, and that of what existed before the first
/// apply.
pub const KUBECTL: [&str; 2] = ["kubectl-client-side-apply", "before-first-apply"];
/// The spec in a field set.
const SPEC: &str = "f:spec";
/// Domain of the finalizers of the agent and of the operator.
const FINALIZER_DOMAIN: &str = "opsy.dev";

/// The document as it is sent: with the agent's labels and the manifest's file, and without nulls, which the server
/// would refuse or store.
pub fn labelled(document: Value, file: &str, owner: &Owner) -> Value {
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
    let metadata = ["labels", "annotations"].map(|name| (name, Part::Whole(&metadata[name])));
    let fields = labelled.as_object().into_iter().flatten();
    let others = fields.filter(|(name, _)| !["apiVersion", "kind", "metadata"].contains(&name.as_str()));
    let mut applied: Vec<_> = others.map(|(name, value)| (name.as_str(), Part::Whole(value))).collect();
    applied.push(("metadata", Part::Map(metadata.into())));
    of_parts(Part::Map(applied), &labelled["spec"])
}

/// The fingerprint of a live object. `None` if the agent never applied it.
pub fn of_live(metadata: &ObjectMeta, spec: &Value) -> Option<Fingerprint> {
    let applied = applied(metadata)?;
    let metadata = json!({"labels": metadata.labels, "annotations": metadata.annotations});
    let live = [("metadata", &metadata), ("spec", spec)];
    let named = live.into_iter().filter_map(|(name, value)| {
        let fields = applied.get(format!("f:{name}"))?;
        Some((name, Part::owned(fields, value)))
    });
    Some(of_parts(Part::Map(named.collect()), spec))
}

/// The fingerprint of what the agent applied, and of the whole spec.
fn of_parts(applied: Part<'_>, spec: &Value) -> Fingerprint {
    Part::Map(vec![("applied", applied), ("spec", Part::Whole(spec))]).fingerprint()
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
    let own = || Part::Owned(&applied(metadata).unwrap_or(&Value::Null)[SPEC], spec);
    is_shared(metadata) || own().fingerprint() != Part::Whole(spec).fingerprint()
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

fn merge(into: &mut Value, fields: &Value) {
    let (Some(into), Some(fields)) = (into.as_object_mut(), fields.as_object()) else { return };
    for (name, inner) in fields {
        merge(into.entry(name.clone()).or_insert_with(|| Value::Object(Map::new())), inner);
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests;
