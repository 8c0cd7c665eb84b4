//! Images that neither `amis.json` nor setters must name: refreshers hold them, or their rollout failed. What reads the
//! files, such as Terraform, gets the image that was active before instead. Read from refreshers, applied to builders. Pure.
//!
//! A refresher withholds images of the builders in its own namespace only, so that no namespace decides for another.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::builder::{LaneImage, PackerBuilderStatus};
use crate::api::refresher::RolloutRecord;
use crate::api::words::RolloutResult;
use crate::api::{AMIRefresher, Key};

/// The images that all refreshers withhold.
#[derive(Debug, Default)]
pub struct Withheld {
    by_refresher: BTreeMap<Key, Images>,
    /// Namespaces in which this has changed since the branch had it.
    changed: BTreeSet<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Images {
    ids: BTreeSet<String>,
    /// Hashes of what held images were built from: other images from the same inputs are held, too.
    inputs: BTreeSet<String>,
}

impl Withheld {
    /// Takes note of a refresher.
    pub fn record(&mut self, key: &Key, refresher: &AMIRefresher) {
        let images = Images::of(refresher);
        let is_new = self.by_refresher.get(key).map_or(!images.is_empty(), |before| *before != images);
        if is_new {
            self.changed.insert(key.namespace.clone());
        }
        if images.is_empty() {
            self.by_refresher.remove(key);
        } else {
            self.by_refresher.insert(key.clone(), images);
        }
    }

    /// Takes note that a refresher does not exist any more.
    pub fn remove(&mut self, key: &Key) {
        if self.by_refresher.remove(key).is_some() {
            self.changed.insert(key.namespace.clone());
        }
    }

    /// The refreshers that withhold images.
    pub fn refreshers(&self) -> impl Iterator<Item = &Key> {
        self.by_refresher.keys()
    }

    /// Returns whether the entry of a builder may have to change because of a refresher.
    pub fn concerns(&self, builder: &Key) -> bool {
        self.changed.contains(&builder.namespace)
    }

    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The branch has what has changed.
    pub fn published(&mut self) {
        self.changed.clear();
    }

    /// It is not known any more what the branch has.
    pub fn forget(&mut self) {
        self.changed = self.by_refresher.keys().map(|key| key.namespace.clone()).collect();
    }

    /// Returns the images of a builder that `amis.json` and setters name. Instead of an image that is withheld, it is the newest
    /// one before it that is not; if there is none, the image is marked as gone.
    pub fn replace(&self, builder: &Key, status: &PackerBuilderStatus) -> Vec<LaneImage> {
        let of_namespace = || self.by_refresher.iter().filter(|(key, _)| key.namespace == builder.namespace);
        let names = |id: &str| of_namespace().any(|(_, images)| images.ids.contains(id));
        let is_same = |inputs: &str| of_namespace().any(|(_, images)| images.inputs.contains(inputs));
        let is_withheld =
            |id: &str| names(id) || status.inputs_digest(id).is_some_and(|inputs| is_same(&inputs));
        // An earlier image from the same inputs as one that failed was rolled out: only its own failure counts.
        let usable = |image: &LaneImage| image.previous.iter().flatten().find(|id| !names(id)).cloned();
        let images = status.images.iter().flatten().map(|image| match usable(image) {
            _ if !is_withheld(&image.id) => image.clone(),
            Some(id) => LaneImage { id, name: None, gone: None, ..image.clone() },
            None => LaneImage { gone: Some(true), ..image.clone() },
        });
        images.collect()
    }
}

impl Images {
    fn of(refresher: &AMIRefresher) -> Self {
        let by_person = refresher.spec.held.iter().flatten().filter_map(|held| held.ami.clone());
        let Some(status) = &refresher.status else {
            return Self { ids: by_person.collect(), inputs: BTreeSet::new() };
        };
        let held = || status.held.iter().flatten();
        let failed = failed(status.history.as_deref().unwrap_or_default());
        Self {
            ids: by_person.chain(held().map(|held| held.ami.clone())).chain(failed).collect(),
            inputs: held().filter_map(|held| held.inputs.clone()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.inputs.is_empty()
    }
}

/// The images whose last rollout failed, with or without a rollback. `history` has the newest rollout first.
fn failed(history: &[RolloutRecord]) -> Vec<String> {
    let (mut known, mut failed) = (BTreeSet::new(), Vec::new());
    for record in history {
        let has_failed = match RolloutResult::parse(&record.result) {
            Some(RolloutResult::Done | RolloutResult::RolledBack) => false,
            // A rollback that fails says nothing about the image to which it returns.
            Some(RolloutResult::Failed) if record.rollback_of.is_none() => true,
            _ => continue,
        };
        let is_new = |image: &&str| known.insert((*image).to_owned());
        let images = record.target.split(',').map(str::trim).filter(is_new);
        failed.extend(images.filter(|_| has_failed).map(str::to_owned));
    }
    failed
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::tags;

    fn key(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn refresher(held: Value, status: Value) -> AMIRefresher {
        let spec = json!({"region": "us-east-1", "clusterName": "demo", "held": held});
        let mut refresher = AMIRefresher::new("demo", serde_json::from_value(spec).expect("a spec"));
        refresher.status = serde_json::from_value(status).expect("a status");
        refresher
    }

    /// A builder with one active image, the images before it, and the inputs of the active one.
    fn builder(id: &str, previous: &[&str], template: &str) -> PackerBuilderStatus {
        let image = json!({"region": "us-east-1", "architecture": "x86_64", "id": id, "previous": previous});
        let inputs = json!({"template": template, "spec": "s", "baseAMI": "ami-base"});
        serde_json::from_value(json!({"images": [image], "inputs": inputs})).expect("a status")
    }

    /// The image that is named for this builder.
    fn named(refresher: &AMIRefresher, status: &PackerBuilderStatus) -> Option<String> {
        let mut withheld = Withheld::default();
        withheld.record(&key("a", "demo"), refresher);
        assert_eq!(withheld.replace(&key("b", "node"), status), status.images.clone().unwrap_or_default());
        let images = withheld.replace(&key("a", "node"), status);
        images.into_iter().find(|image| image.gone.is_none()).map(|image| image.id)
    }

    #[test]
    fn an_image_that_is_held_or_failed_is_replaced_with_the_one_before() {
        let record = |target: &str, result: &str| json!({"id": "r", "target": target, "result": result});
        let history = |records: Value| refresher(json!(null), json!({"history": records}));
        let back = json!({"id": "r", "target": "ami-3", "result": "Failed", "rollbackOf": "q"});
        let status = builder("ami-3", &["ami-2", "ami-1"], "t");
        for (refresher, expected) in [
            (refresher(json!(null), json!(null)), "ami-3"),
            (refresher(json!([{"ami": "ami-3"}]), json!(null)), "ami-2"),
            (refresher(json!([{"ami": "ami-2"}]), json!({"held": [{"ami": "ami-3"}]})), "ami-1"),
            (history(json!([record("ami-3", "Failed")])), "ami-2"),
            (history(json!([record("ami-3, ami-4", "Failed")])), "ami-2"),
            (history(json!([record("ami-2", "RolledBack"), record("ami-3", "Failed")])), "ami-2"),
            (history(json!([record("ami-3", "Done"), record("ami-3", "Failed")])), "ami-3"),
            (history(json!([record("ami-3", "Replaced"), record("ami-3", "Failed")])), "ami-2"),
            (history(json!([back])), "ami-3"),
        ] {
            assert_eq!(named(&refresher, &status).as_deref(), Some(expected), "{refresher:?}");
        }
        let all = json!([{"ami": "ami-1"}, {"ami": "ami-2"}, {"ami": "ami-3"}]);
        assert_eq!(named(&refresher(all, json!(null)), &status), None);
        assert_eq!(
            named(&refresher(json!([{"ami": "ami-3"}]), json!(null)), &builder("ami-3", &[], "t")),
            None
        );
    }

    #[test]
    fn another_image_from_the_inputs_of_one_that_failed_is_withheld_unless_it_was_rolled_out_before() {
        let inputs = tags::inputs_digest("t", "s", "ami-base");
        let held = refresher(json!(null), json!({"held": [{"ami": "ami-2", "inputs": inputs}]}));
        assert_eq!(named(&held, &builder("ami-3", &["ami-2", "ami-1"], "t")).as_deref(), Some("ami-1"));
        assert_eq!(named(&held, &builder("ami-3", &["ami-2", "ami-1"], "u")).as_deref(), Some("ami-3"));
        let mut rebuilt = builder("ami-3", &["ami-1"], "u");
        let run = json!([{"id": "b", "result": "Succeeded", "images": ["ami-3"], "baseAMI": "ami-base",
            "inputs": {"template": "t", "spec": "s", "baseAMI": "ami-asked"}}]);
        rebuilt.history = serde_json::from_value(run).expect("a history");
        assert_eq!(named(&held, &rebuilt).as_deref(), Some("ami-1"), "the run tells its inputs");
    }

    #[test]
    fn builders_are_concerned_until_the_branch_has_the_change() {
        let mut withheld = Withheld::default();
        let (demo, node) = (key("a", "demo"), key("a", "node"));
        withheld.record(&demo, &refresher(json!(null), json!(null)));
        assert!(!withheld.has_changed());
        let holding = refresher(json!([{"ami": "ami-1"}]), json!(null));
        withheld.record(&demo, &holding);
        assert!(withheld.concerns(&node) && !withheld.concerns(&key("b", "node")));
        withheld.published();
        withheld.record(&demo, &holding);
        assert!(!withheld.concerns(&node));
        withheld.forget();
        assert!(withheld.concerns(&node));
        withheld.published();
        withheld.remove(&demo);
        assert!(withheld.concerns(&node) && withheld.refreshers().next().is_none());
    }
}
