//! The version of an object: which of its states was read.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Identifies one state of an object: the creation time differs for every object of a name, and the resourceVersion
/// changes with every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    created: Timestamp,
    resource: Box<str>,
}

impl ObjectVersion {
    /// Returns the version, if the metadata has one.
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        let created = metadata.creation_timestamp.as_ref()?.0;
        Some(Self { created, resource: metadata.resource_version.as_deref()?.into() })
    }
}

impl fmt::Display for ObjectVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.created, self.resource)
    }
}
