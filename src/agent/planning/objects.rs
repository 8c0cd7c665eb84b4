//! The objects of a tree, with the status that the agent has published. Pure.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::api::builder::LaneImage;
use crate::api::{AMIRefresher, Key, Kind, ObjectKey, PackerBuilder};
use crate::manifest::Documents;
use crate::publish::seeds::Seeds;
use crate::sync::StatusFile;

/// The published status of all objects.
pub struct Objects(Seeds);

impl Objects {
    pub fn published(files: Arc<Vec<StatusFile>>) -> Self {
        Self(Seeds::new(files))
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
                object["status"] = status;
            }
            serde_json::from_value(object).ok()
        })
    }
}
