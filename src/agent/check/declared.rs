//! The objects that the manifests declare, decoded. An object that cannot be decoded has a problem, which the check of the
//! manifests reports. Pure.

use crate::api::notifier::Notifier;
use crate::api::{AMIRefresher, Kind, PackerBuilder};
use crate::manifest::{Document, ObjectSet};

pub enum Declared {
    Builder(Box<PackerBuilder>),
    Refresher(Box<AMIRefresher>),
}

/// Returns each object with its document.
pub fn declared(set: &ObjectSet) -> impl Iterator<Item = (&Document, Declared)> {
    set.documents.iter().filter_map(|document| {
        let json = document.json.as_str();
        let object = match document.object.kind {
            Kind::PackerBuilder => Declared::Builder(serde_json::from_str(json).ok()?),
            Kind::AMIRefresher => Declared::Refresher(serde_json::from_str(json).ok()?),
        };
        Some((document, object))
    })
}

impl Declared {
    pub fn notifier(&self) -> Option<&Notifier> {
        match self {
            Self::Builder(builder) => builder.spec.notifier.as_ref(),
            Self::Refresher(refresher) => refresher.spec.notifier.as_ref(),
        }
    }

    /// Returns the region as written.
    pub fn region(&self) -> Option<&str> {
        match self {
            Self::Builder(builder) => builder.spec.region.as_deref(),
            Self::Refresher(refresher) => Some(&refresher.spec.region),
        }
    }
}
