//! The objects of a tree, with the status that the agent has published. Pure.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::builder::LaneImage;
use crate::api::{AMIRefresher, Key, Kind, ObjectKey, PackerBuilder};
use crate::manifest::Documents;
use crate::publish::seeds::seeds;
use crate::sync::StatusFile;

/// The published status of all objects.
#[derive(Debug, Default)]
pub struct Objects(BTreeMap<ObjectKey, Value>);

impl Objects {
    pub fn published(files: &[StatusFile]) -> Self {
        Self(seeds(files))
    }

    pub fn builders<'a>(&'a self, documents: &'a Documents) -> impl Iterator<Item = PackerBuilder> {
        self.of(documents, Kind::PackerBuilder)
    }

    pub fn refreshers<'a>(&'a self, documents: &'a Documents) -> impl Iterator<Item = AMIRefresher> {
        self.of(documents, Kind::AMIRefresher)
    }

    /// The images that the status of a builder names.
    pub fn images_of(&self, builder: &Key) -> Option<Vec<LaneImage>> {
        let object = ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() };
        let images = self.0.get(&object)?.get("images").cloned().unwrap_or_default();
        Some(serde_json::from_value(images).unwrap_or_default())
    }

    /// Objects that cannot be decoded are left out: the reader of manifests has reported them.
    fn of<'a, K: DeserializeOwned>(
        &'a self,
        documents: &'a Documents,
        kind: Kind,
    ) -> impl Iterator<Item = K> {
        let of_kind = documents.iter().filter(move |document| document.object.kind == kind);
        of_kind.filter_map(|document| {
            let mut object = document.json.value();
            if let Some(status) = self.0.get(&document.object) {
                object["status"] = status.clone();
            }
            serde_json::from_value(object).ok()
        })
    }
}
