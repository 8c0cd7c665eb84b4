//! Which objects the branch has status files of, and which of these files are to be removed. Pure.

use std::collections::BTreeSet;

use crate::api::{CommitId, ObjectKey};
use crate::publish::seeds::seeds;
use crate::sync::{Synced, prune};

/// The objects with a status file in the branch, updated with each batch.
#[derive(Debug, Default)]
pub struct PublishedObjects {
    /// The commit whose status files were read: they do not change until the next commit is loaded.
    commit: Option<CommitId>,
    objects: BTreeSet<ObjectKey>,
    /// Objects that were pruned since: their files and entries are removed.
    pruned: BTreeSet<ObjectKey>,
}

impl PublishedObjects {
    /// Takes note of the objects that exist now. The status file of an object that does not exist any more is removed
    /// only if the prune guard allows the removal of the object.
    pub fn update(&mut self, existing: &BTreeSet<ObjectKey>, synced: &Synced) {
        if self.commit.as_ref() != Some(&synced.commit) {
            self.objects.extend(seeds(&synced.status_files).into_keys());
            self.commit = Some(synced.commit.clone());
        }
        self.objects.extend(existing.iter().cloned());
        let removable = prune::decide(&self.objects, &synced.set).remove;
        for object in removable.into_iter().filter(|object| !existing.contains(object)) {
            self.objects.remove(&object);
            self.pruned.insert(object);
        }
        self.pruned.retain(|object| !existing.contains(object));
    }

    /// Objects whose status files are to be removed.
    pub fn pruned(&self) -> &BTreeSet<ObjectKey> {
        &self.pruned
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api::{Key, Kind};
    use crate::manifest::{Document, DocumentText, ObjectSet, Problem, Severity, write};

    fn object(name: &str) -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    fn objects(names: &[&str]) -> BTreeSet<ObjectKey> {
        names.iter().map(|name| object(name)).collect()
    }

    /// A commit that declares some objects and has status files of others.
    fn synced(commit: &str, declared: &[&str], files: &[&str]) -> Synced {
        let document = |name: &&str| Document {
            object: object(name),
            json: DocumentText::from(&Value::Null),
            file: format!("{name}.yaml"),
            line: 1,
        };
        let file = |name: &&str| {
            let status = write::ObjectStatus::PackerBuilder(Box::default());
            let text = write::status_file(&object(name).key, &status, None).expect("a status file");
            (write::status_path(&object(name)), text.into_bytes())
        };
        Synced {
            commit: CommitId::parse(commit.repeat(40)).expect("an id"),
            input: String::new(),
            set: ObjectSet { documents: declared.iter().map(document).collect(), ..ObjectSet::default() },
            difference: None,
            status_files: files.iter().map(file).collect(),
        }
    }

    #[test]
    fn the_file_of_an_object_that_does_not_exist_any_more_is_removed() {
        let mut published = PublishedObjects::default();
        published.update(&objects(&["a", "b"]), &synced("a", &["a", "b"], &[]));
        assert_eq!(published.pruned(), &objects(&[]));
        published.update(&objects(&["a"]), &synced("b", &["a"], &["a", "b"]));
        assert_eq!(published.pruned(), &objects(&["b"]));
        published.update(&objects(&["a", "b"]), &synced("c", &["a", "b"], &["a"]));
        assert_eq!(published.pruned(), &objects(&[]), "it is declared again");
    }

    #[test]
    fn a_file_that_an_earlier_agent_left_behind_is_removed_too() {
        let mut published = PublishedObjects::default();
        published.update(&objects(&["a"]), &synced("a", &["a"], &["a", "left"]));
        assert_eq!(published.pruned(), &objects(&["left"]));
    }

    #[test]
    fn no_file_is_removed_while_the_prune_guard_refuses_or_the_object_still_exists() {
        let mut published = PublishedObjects::default();
        let mut broken = synced("a", &["a"], &["a", "b"]);
        broken.set.problems.push(Problem {
            file: "b.yaml".to_owned(),
            line: None,
            message: "is not YAML".to_owned(),
            severity: Severity::Error,
        });
        published.update(&objects(&["a"]), &broken);
        assert_eq!(published.pruned(), &objects(&[]), "the broken file may declare it");
        published.update(&objects(&["a", "b"]), &synced("b", &["a"], &["a", "b"]));
        assert_eq!(published.pruned(), &objects(&[]), "it is being deleted");
    }
}
