//! The form of an object in the store: not decoded, which takes a third of the memory. Reconciles of one object may be hours
//! apart, and code that reads many objects decodes one at a time.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::object::HasStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::json_text::fields;
use crate::api::{Key, ObjectVersion};

/// What an object can be decoded from at any time.
pub trait Form<K>: Debug + Send + Sync {
    fn open(&self) -> K;
    /// The JSON of the status, if there is one.
    fn status(&self) -> Option<&str>;
    /// Whether the JSON of the object contains this text, which must not need escapes.
    fn contains(&self, text: &str) -> bool;
}

/// The JSON of a whole object.
#[derive(Debug)]
struct Text(Box<str>);

impl<K: DeserializeOwned> Form<K> for Text {
    fn open(&self) -> K {
        serde_json::from_str(&self.0).expect("it was written from an object of this kind")
    }

    fn status(&self) -> Option<&str> {
        let [status] = fields(&self.0, ["status"])?;
        status.filter(|status| *status != "null")
    }

    fn contains(&self, text: &str) -> bool {
        self.0.contains(text)
    }
}

/// An object, and the metadata by which the store distinguishes objects.
#[derive(Clone, Debug)]
pub struct Packed<K> {
    identity: ObjectMeta,
    form: Arc<dyn Form<K>>,
}

impl<K: Resource> Packed<K> {
    /// The object as its own text.
    pub fn of(object: &K) -> Self
    where
        K: Serialize + DeserializeOwned,
    {
        let text = serde_json::to_string(object).expect("an object has only string keys and finite numbers");
        Self::new(object, Arc::new(Text(text.into())))
    }

    /// The object in a form that something else keeps as well.
    pub fn new(object: &K, form: Arc<dyn Form<K>>) -> Self {
        let metadata = object.meta();
        let identity = ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            creation_timestamp: metadata.creation_timestamp.clone(),
            ..ObjectMeta::default()
        };
        Self { identity, form }
    }

    pub fn open(&self) -> K {
        self.form.open()
    }

    pub fn key(&self) -> Key {
        let ObjectMeta { namespace, name, .. } = &self.identity;
        Key { namespace: namespace.clone().unwrap_or_default(), name: name.clone().unwrap_or_default() }
    }

    /// The status of the object. The rest of it is not decoded.
    pub fn status(&self) -> Option<K::Status>
    where
        K: HasStatus<Status: DeserializeOwned>,
    {
        serde_json::from_str(self.form.status()?).ok()
    }

    /// The version of the object, which is known without decoding it.
    pub fn version(&self) -> Option<ObjectVersion> {
        ObjectVersion::of(&self.identity)
    }

    /// Whether the JSON of the object contains this text, which must not need escapes.
    pub fn contains(&self, text: &str) -> bool {
        self.form.contains(text)
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Packed<K> {
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
    /// Contains name, namespace, UID, resourceVersion and creation time only.
    fn meta(&self) -> &ObjectMeta {
        &self.identity
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.identity
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{AMIRefresher, AMIRefresherSpec, PackerBuilder};

    fn comes_back<K>(object: serde_json::Value)
    where
        K: Resource<DynamicType = ()> + HasStatus + Serialize + DeserializeOwned + PartialEq + Debug,
        K::Status: DeserializeOwned + PartialEq + Debug,
    {
        let object: K = serde_json::from_value(object).expect("an object");
        let packed = Packed::of(&object);
        assert_eq!(packed.open(), object);
        assert_eq!(packed.status().as_ref(), object.status());
        let (kept, whole) = (packed.meta(), object.meta());
        assert_eq!((&kept.name, &kept.namespace), (&whole.name, &whole.namespace));
        assert_eq!((&kept.uid, &kept.resource_version), (&whole.uid, &whole.resource_version));
        assert_eq!(packed.version(), ObjectVersion::of(whole));
        assert_eq!(packed.key().name, whole.name.clone().unwrap_or_default());
    }

    #[test]
    fn what_is_packed_comes_back_as_it_was() {
        let metadata = json!({
            "name": "a", "namespace": "default", "uid": "1", "resourceVersion": "7", "generation": 2,
            "creationTimestamp": "2026-03-01T12:00:00Z", "deletionTimestamp": "2026-03-02T12:00:00Z",
            "finalizers": ["x"], "labels": {"team": "a"}, "annotations": {"ami.opsy.dev/suspend": "true"},
        });
        let conditions = json!([{"type": "Ready", "status": "False", "reason": "Suspended"}]);
        comes_back::<PackerBuilder>(json!({
            "metadata": metadata,
            "spec": {"region": "us-east-1", "builder": {"commands": [{"subCommand": "build", "variables": {"a": "b"}}]}},
            "status": {"state": "FlightChecks", "conditions": conditions, "lastRun": "2026-03-01T12:00:00.5Z"},
        }));
        comes_back::<AMIRefresher>(
            json!({"metadata": metadata, "spec": AMIRefresherSpec::default(), "status": {"conditions": conditions}}),
        );
        comes_back::<AMIRefresher>(json!({"metadata": {"name": "b"}, "spec": AMIRefresherSpec::default()}));
    }
}
