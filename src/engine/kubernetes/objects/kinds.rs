//! Both kinds, in the form that the API server returns and in the form that the loop reads.
//!
//! An object that cannot be decoded is never an absent one: an undecodable status is dropped, and an undecodable spec
//! is read as an empty one, which no reconciler acts on, and reported.

use std::borrow::Cow;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{
    AMIRefresher, AMIRefresherSpec, AMIRefresherStatus, Key, Kind, ObjectKey, PackerBuilder,
    PackerBuilderSpec, PackerBuilderStatus,
};
use crate::engine::feed::Feed;
use crate::engine::objects::Objects;

/// Annotation of `kubectl apply`, which only kubectl reads. It is as large as the object.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object of which only the metadata is decoded.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Raw<K> {
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: Value,
    #[serde(skip)]
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K: Custom> Resource for Raw<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }
    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }
    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }
    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// One of the two kinds.
pub trait Custom:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    const KIND: Kind;
    type Spec: DeserializeOwned + Default;
    type Status: DeserializeOwned;

    fn feed(objects: &Objects) -> &Feed<Self>;
    fn assemble(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
    fn set_status(&mut self, status: Option<Self::Status>);
}

impl Custom for PackerBuilder {
    const KIND: Kind = Kind::PackerBuilder;
    type Spec = PackerBuilderSpec;
    type Status = PackerBuilderStatus;

    fn feed(objects: &Objects) -> &Feed<Self> {
        &objects.builders
    }
    fn assemble(metadata: ObjectMeta, spec: PackerBuilderSpec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }
    fn set_status(&mut self, status: Option<Self::Status>) {
        self.status = status;
    }
}

impl Custom for AMIRefresher {
    const KIND: Kind = Kind::AMIRefresher;
    type Spec = AMIRefresherSpec;
    type Status = AMIRefresherStatus;

    fn feed(objects: &Objects) -> &Feed<Self> {
        &objects.refreshers
    }
    fn assemble(metadata: ObjectMeta, spec: AMIRefresherSpec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }
    fn set_status(&mut self, status: Option<Self::Status>) {
        self.status = status;
    }
}

/// The key of an object.
pub fn object_key<K: Custom>(metadata: &ObjectMeta) -> ObjectKey {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    ObjectKey { kind: K::KIND, key: Key { namespace: text(&metadata.namespace), name: text(&metadata.name) } }
}

/// Decodes an object. Also returns why its spec cannot be decoded, if so. What only the API server and kubectl read is
/// dropped, because it is most of an object's size.
pub fn typed<K: Custom>(raw: Raw<K>) -> (K, Option<String>) {
    let Raw { mut metadata, spec, status, .. } = raw;
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let (spec, undecodable) = match K::Spec::deserialize(spec) {
        Ok(spec) => (spec, None),
        Err(error) => (K::Spec::default(), Some(format!("the spec cannot be decoded: {error}"))),
    };
    (K::assemble(metadata, spec, read_status::<K>(status)), undecodable)
}

/// Decodes a status. One of an incompatible version is dropped: what must survive is in image tags.
pub fn read_status<K: Custom>(status: Value) -> Option<K::Status> {
    if status.is_null() { None } else { K::Status::deserialize(status).ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw<K: Custom>(spec: Value, status: Value) -> Raw<K> {
        let metadata = json!({
            "name": "a", "namespace": "default", "resourceVersion": "7", "finalizers": ["x"],
            "annotations": {LAST_APPLIED: "{}", "ours": "y"}, "managedFields": [{"manager": "opsy"}],
        });
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status}))
            .expect("an object")
    }

    #[test]
    fn an_undecodable_status_is_dropped_and_an_undecodable_spec_reported() {
        let (builder, undecodable) =
            typed::<PackerBuilder>(raw(json!({"region": "us-east-1"}), json!({"images": 7})));
        assert_eq!(
            (builder.status, undecodable, builder.spec.region.as_deref()),
            (None, None, Some("us-east-1"))
        );
        let (builder, undecodable) =
            typed::<PackerBuilder>(raw(json!({"region": 7}), json!({"state": "JobRunning"})));
        assert!(undecodable.expect("reported").contains("invalid type: integer `7`, expected a string"));
        assert_eq!(builder.spec, PackerBuilderSpec::default());
        assert_eq!(builder.status.and_then(|status| status.state).as_deref(), Some("JobRunning"));
        let (refresher, undecodable) = typed::<AMIRefresher>(raw(Value::Null, Value::Null));
        assert!(undecodable.is_some() && refresher.metadata.name.as_deref() == Some("a"));
    }

    #[test]
    fn metadata_that_nobody_reads_is_dropped() {
        let (builder, _) = typed::<PackerBuilder>(raw(json!({}), Value::Null));
        assert_eq!(builder.metadata.managed_fields, None);
        assert_eq!(
            builder.metadata.annotations.map(|all| all.into_keys().collect()),
            Some(vec!["ours".to_owned()])
        );
        assert_eq!(builder.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(builder.metadata.finalizers, Some(vec!["x".to_owned()]));
    }
}
