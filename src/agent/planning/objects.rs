//! The objects of a tree, with the status that the agent has published. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::builder::{InputsRecord, LaneImage};
use crate::api::{AMIRefresher, Key, Kind, ObjectKey, PackerBuilder, annotations};
use crate::manifest::ObjectSet;
use crate::publish::seeds::Seeds;
use crate::sync::StatusFile;

/// The objects that a tree declares, and the published status of all objects.
pub struct Objects {
    set: Arc<ObjectSet>,
    /// What the agent has loaded: it has handled what this tree requests, which is not published.
    base: Arc<ObjectSet>,
    status: Arc<Seeds>,
}

impl Objects {
    pub fn new(set: Arc<ObjectSet>, status: Arc<Vec<StatusFile>>) -> Self {
        Self { base: set.clone(), set, status: Arc::new(Seeds::new(status)) }
    }

    /// The objects of another tree with the same status.
    pub fn of_tree(&self, set: Arc<ObjectSet>) -> Self {
        Self { set, base: self.base.clone(), status: self.status.clone() }
    }

    pub fn builders(&self) -> impl Iterator<Item = PackerBuilder> {
        self.of(Kind::PackerBuilder)
    }

    pub fn refreshers(&self) -> impl Iterator<Item = AMIRefresher> {
        self.of(Kind::AMIRefresher)
    }

    /// The images that the status of a builder names; `None` if the builder does not exist. While a manifest is invalid,
    /// no builder is deleted.
    pub fn images_of(&self, builder: &Key) -> Option<Vec<LaneImage>> {
        let object = ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() };
        let status = self.status.get(&object);
        if !self.set.declares(&object) && (self.set.complete() || status.is_none()) {
            return None;
        }
        let images = status.and_then(|status| status.get("images").cloned()).unwrap_or_default();
        Some(serde_json::from_value(images).unwrap_or_default())
    }

    /// What the active images of a builder were built from.
    pub fn inputs_of(&self, builder: &Key) -> Option<InputsRecord> {
        let object = ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() };
        serde_json::from_value(self.status.get(&object)?.get("inputs")?.clone()).ok()
    }

    /// The objects that have a published status although the tree does not declare them.
    pub fn undeclared(&self) -> BTreeSet<ObjectKey> {
        self.status.objects_beside(&self.set.documents)
    }

    /// Objects that cannot be decoded are left out: the reader of manifests has reported them.
    fn of<K: DeserializeOwned>(&self, kind: Kind) -> impl Iterator<Item = K> {
        let of_kind = self.set.documents.iter().filter(move |document| document.object.kind == kind);
        of_kind.filter_map(|document| {
            let mut object = document.json.value();
            if let Some(status) = self.status.get(&document.object) {
                object["status"] = status;
            }
            if let Some(handled) = self.handled(&document.object) {
                object["status"]["lastHandledReconcileAt"] = handled;
            }
            serde_json::from_value(object).ok()
        })
    }

    /// The request for a reconcile that the agent has handled.
    fn handled(&self, object: &ObjectKey) -> Option<Value> {
        let base = self.base.documents.get(object)?.json.value();
        base.pointer("/metadata/annotations")?.get(annotations::RECONCILE_AT).cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::write::{self, ObjectStatus};
    use crate::manifest::{Document, DocumentText, Problem, Severity};

    fn object() -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: "node".to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    /// A tree with the builder `node`, with this request for a reconcile.
    fn tree(requested: Option<&str>) -> Arc<ObjectSet> {
        let annotations = requested.map(|at| json!({ annotations::RECONCILE_AT: at })).unwrap_or_default();
        let metadata = json!({ "name": "node", "namespace": "default", "annotations": annotations });
        let json = json!({ "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder", "metadata": metadata,
            "spec": { "region": "us-east-1" } });
        let json = DocumentText::from(&json);
        let document = Document { object: object(), json, file: "node.yaml".to_owned(), line: 1 };
        Arc::new(ObjectSet { documents: [document].into_iter().collect(), ..ObjectSet::default() })
    }

    fn published() -> Arc<Vec<StatusFile>> {
        let status = ObjectStatus::PackerBuilder(Box::default());
        let text = write::status_file(&object().key, &status, None).expect("a status file");
        let path = write::status_path(&object());
        Arc::new(vec![StatusFile { path, blob: String::new(), content: text.as_bytes().into() }])
    }

    #[test]
    fn a_builder_without_manifest_has_no_images_unless_it_is_not_pruned() {
        let base = Objects::new(tree(None), published());
        let builder = object().key;
        assert_eq!((base.images_of(&builder), base.undeclared()), (Some(Vec::new()), BTreeSet::new()));
        let gone = base.of_tree(Arc::default());
        assert_eq!((gone.images_of(&builder), gone.undeclared()), (None, [object()].into()));
        let message = "is not YAML".to_owned();
        let problem =
            Problem { file: "node.yaml".to_owned(), line: None, message, severity: Severity::Error };
        let broken = ObjectSet { problems: vec![problem], ..ObjectSet::default() };
        assert_eq!(base.of_tree(Arc::new(broken)).images_of(&builder), Some(Vec::new()));
    }

    #[test]
    fn what_the_base_requests_is_handled() {
        let base = Objects::new(tree(Some("1")), published());
        let is_requested = |objects: &Objects| {
            let builder = objects.builders().next().expect("a builder");
            let handled = builder.status.and_then(|status| status.last_handled_reconcile_at);
            annotations::reconcile_requested(&builder.metadata, handled.as_deref())
        };
        assert!(!is_requested(&base) && !is_requested(&base.of_tree(tree(Some("1")))));
        assert!(is_requested(&base.of_tree(tree(Some("2")))));
        assert!(!is_requested(&base.of_tree(tree(None))));
    }
}
