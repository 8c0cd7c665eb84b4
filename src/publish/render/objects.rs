//! Which objects the branch has status files of, and which of these files are to be removed. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use super::known::{Changes, Known};
use crate::api::ObjectKey;
use crate::manifest::write::{read_status_file, status_path};
use crate::manifest::{Documents, ObjectSet};
use crate::sync::{StatusFile, Synced, prune};

/// The objects with a status file in the branch, updated with each batch.
#[derive(Debug, Default)]
pub struct PublishedObjects {
    /// The status files that were read: they do not change until the next commit with other manifests is loaded.
    read: Weak<Vec<StatusFile>>,
    set: Weak<ObjectSet>,
    objects: BTreeSet<ObjectKey>,
    /// The documents of the last commit, and those of the objects that it does not declare.
    documents: Documents,
    undeclared: BTreeSet<ObjectKey>,
    /// Objects that were pruned since: their files and entries are removed.
    pruned: BTreeMap<ObjectKey, Removal>,
    /// Objects that still exist are to be pruned. Those that cannot be decoded vanish without a sign.
    waits: bool,
}

/// What is known of the removal of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Removal {
    Due,
    /// The branch does not have the file.
    Done,
}

/// The objects that exist.
pub struct Existing<'a> {
    pub known: &'a Known,
    /// How they have changed since the last update.
    pub changes: Changes,
    /// Returns all objects that the engine has, also those that cannot be decoded.
    pub owned: &'a dyn Fn() -> BTreeSet<ObjectKey>,
}

impl PublishedObjects {
    /// Takes note of the objects that exist now. The status file of an object that does not exist any more is removed
    /// only if the prune guard allows the removal of the object.
    pub fn update(&mut self, existing: &Existing<'_>, synced: &Arc<Synced>) {
        let is_new = self.follow(synced);
        let Changes { new, has_gone } = &existing.changes;
        if !is_new && new.is_empty() && !has_gone && !self.waits {
            return;
        }
        self.extend(new.iter().cloned());
        self.pruned.retain(|object, _| !existing.known.has(object));
        if self.undeclared.is_empty() {
            self.waits = false;
            return;
        }
        let owned = (existing.owned)();
        self.extend(owned.iter().cloned());
        self.pruned.retain(|object, _| !owned.contains(object));
        let undeclared = self.undeclared.iter().cloned().collect();
        let removable = prune::judge(self.objects.len(), undeclared, &synced.set).remove;
        let exists = |object: &ObjectKey| existing.known.has(object) || owned.contains(object);
        let (left, gone): (Vec<_>, Vec<_>) = removable.into_iter().partition(exists);
        self.waits = !left.is_empty();
        for object in gone {
            self.objects.remove(&object);
            self.undeclared.remove(&object);
            self.pruned.insert(object, Removal::Due);
        }
    }

    /// Takes note of a commit. Returns whether its manifests or status files are others than before.
    fn follow(&mut self, synced: &Arc<Synced>) -> bool {
        let has_files = !std::ptr::eq(self.read.as_ptr(), Arc::as_ptr(&synced.status_files));
        let has_set = !std::ptr::eq(self.set.as_ptr(), Arc::as_ptr(&synced.set));
        if has_set {
            let before = std::mem::replace(&mut self.documents, synced.set.documents.clone());
            for (old, new) in before.differences(&self.documents) {
                match (old, new) {
                    (Some(old), None) if self.objects.contains(&old.object) => {
                        self.undeclared.insert(old.object.clone());
                    }
                    (_, Some(new)) => drop(self.undeclared.remove(&new.object)),
                    _ => {}
                }
            }
            self.pruned.retain(|object, _| !synced.set.declares(object));
            self.set = Arc::downgrade(&synced.set);
        }
        if has_files {
            self.extend(objects_of(synced));
            self.read = Arc::downgrade(&synced.status_files);
        }
        has_files || has_set
    }

    fn extend(&mut self, objects: impl IntoIterator<Item = ObjectKey>) {
        for object in objects {
            if self.documents.get(&object).is_none() {
                self.undeclared.insert(object.clone());
            }
            self.objects.insert(object);
        }
    }

    /// Whether objects that are to be pruned still exist.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Objects whose status files are to be removed, and that are not known to be removed.
    pub fn unremoved(&self) -> impl Iterator<Item = &ObjectKey> {
        self.pruned.iter().filter(|(_, removal)| **removal == Removal::Due).map(|(object, _)| object)
    }

    /// The files of the last batch are removed.
    pub fn published(&mut self) {
        self.pruned.values_mut().for_each(|removal| *removal = Removal::Done);
    }

    /// It is not known any more what the branch has.
    pub fn forget(&mut self) {
        self.pruned.values_mut().for_each(|removal| *removal = Removal::Due);
    }
}

/// The objects that a commit has status files of. The path of a declared object suffices. Any other file is read: only
/// if it is a status file of Opsy, it may be removed.
fn objects_of(synced: &Synced) -> Vec<ObjectKey> {
    let declared = synced.set.documents.iter().map(|document| &document.object);
    let declared: HashMap<String, &ObjectKey> =
        declared.map(|object| (status_path(object), object)).collect();
    let object = |file: &StatusFile| match declared.get(&file.path) {
        Some(object) => Some((*object).clone()),
        None => Some(read_status_file(std::str::from_utf8(&file.content).ok()?).ok()?.0),
    };
    synced.status_files.iter().filter_map(object).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::known::State;
    use super::*;
    use crate::api::{CommitId, Key, Kind};
    use crate::manifest::{Document, DocumentText, Problem, Severity, write};

    fn object(name: &str) -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    fn objects(names: &[&str]) -> BTreeSet<ObjectKey> {
        names.iter().map(|name| object(name)).collect()
    }

    fn status_file(path: &str, content: &[u8]) -> StatusFile {
        StatusFile { path: path.to_owned(), blob: String::new(), content: content.into() }
    }

    /// A commit that declares some objects and has status files of others.
    fn synced(commit: &str, declared: &[&str], files: &[&str]) -> Arc<Synced> {
        let document = |name: &&str| Document {
            object: object(name),
            json: DocumentText::from(&Value::Null),
            file: format!("{name}.yaml"),
            line: 1,
        };
        let file = |name: &&str| {
            let status = write::ObjectStatus::PackerBuilder(Box::default());
            let text = write::status_file(&object(name).key, &status, None).expect("a status file");
            status_file(&write::status_path(&object(name)), text.as_bytes())
        };
        Arc::new(Synced {
            commit: CommitId::parse(commit.repeat(40)).expect("an id"),
            set: Arc::new(ObjectSet {
                documents: declared.iter().map(document).collect(),
                ..ObjectSet::default()
            }),
            difference: None,
            status_files: Arc::new(files.iter().map(file).collect()),
        })
    }

    /// An update with objects that can be decoded. Returns what is pruned.
    fn update(
        published: &mut PublishedObjects,
        existing: &[&str],
        synced: &Arc<Synced>,
    ) -> BTreeSet<ObjectKey> {
        let mut known = Known::default();
        known.begin();
        for object in objects(existing) {
            known.look(&object, None);
            known.record(object, None, State::Nothing);
        }
        let changes = known.end();
        let owned = || objects(existing);
        published.update(&Existing { known: &known, changes, owned: &owned }, synced);
        published.unremoved().cloned().collect()
    }

    #[test]
    fn the_file_of_an_object_that_does_not_exist_any_more_is_removed() {
        let mut published = PublishedObjects::default();
        let pruned = update(&mut published, &["a", "b"], &synced("a", &["a", "b"], &[]));
        assert_eq!(pruned, objects(&[]));
        let pruned = update(&mut published, &["a"], &synced("b", &["a"], &["a", "b"]));
        assert_eq!(pruned, objects(&["b"]));
        let pruned = update(&mut published, &["a", "b"], &synced("c", &["a", "b"], &["a"]));
        assert_eq!(pruned, objects(&[]), "it is declared again");
    }

    #[test]
    fn a_file_that_an_earlier_agent_left_behind_is_removed_too() {
        let mut published = PublishedObjects::default();
        let pruned = update(&mut published, &["a"], &synced("a", &["a"], &["a", "left"]));
        assert_eq!(pruned, objects(&["left"]));
    }

    #[test]
    fn no_file_is_removed_while_the_prune_guard_refuses_or_the_object_still_exists() {
        let mut published = PublishedObjects::default();
        let mut broken = Arc::unwrap_or_clone(synced("a", &["a"], &["a", "b"]));
        Arc::make_mut(&mut broken.set).problems.push(Problem {
            file: "b.yaml".to_owned(),
            line: None,
            message: "is not YAML".to_owned(),
            severity: Severity::Error,
        });
        let broken = Arc::new(broken);
        let pruned = update(&mut published, &["a"], &broken);
        assert_eq!(pruned, objects(&[]), "the broken file may declare it");
        let pruned = update(&mut published, &["a", "b"], &synced("b", &["a"], &["a", "b"]));
        assert_eq!(pruned, objects(&[]), "it is being deleted");
    }

    #[test]
    fn a_file_that_is_no_status_file_is_never_removed() {
        let mut published = PublishedObjects::default();
        let mut synced = Arc::unwrap_or_clone(synced("a", &["a"], &["a", "left"]));
        let files = Arc::make_mut(&mut synced.status_files);
        files.push(status_file(&status_path(&object("notes")), b"our notes"));
        files.push(status_file("README.md", b"# Status"));
        let pruned = update(&mut published, &["a"], &Arc::new(synced));
        assert_eq!(pruned, objects(&["left"]));
    }

    #[test]
    fn a_file_is_removed_once_and_again_only_if_the_branch_may_have_it() {
        let mut published = PublishedObjects::default();
        let first = synced("a", &["a"], &["a", "b"]);
        assert_eq!(update(&mut published, &["a"], &first), objects(&["b"]));
        assert_eq!(update(&mut published, &["a"], &first), objects(&["b"]), "the push may have failed");
        published.published();
        assert_eq!(update(&mut published, &["a"], &first), objects(&[]));
        published.forget();
        assert_eq!(update(&mut published, &["a"], &first), objects(&["b"]));
        assert_eq!(update(&mut published, &["a", "b"], &first), objects(&[]), "it exists again");
    }

    #[test]
    fn an_object_that_cannot_be_decoded_is_waited_for() {
        let mut published = PublishedObjects::default();
        let synced = synced("a", &["a"], &["a", "b"]);
        let mut known = Known::default();
        let mut update = |owned: &[&str]| {
            known.begin();
            known.look(&object("a"), None);
            known.record(object("a"), None, State::Nothing);
            let changes = known.end();
            let owned = objects(owned);
            let owned = || owned.clone();
            published.update(&Existing { known: &known, changes, owned: &owned }, &synced);
            published.unremoved().cloned().collect::<BTreeSet<_>>()
        };
        assert_eq!(update(&["a", "b"]), objects(&[]), "it is being deleted");
        assert_eq!(update(&["a", "b"]), objects(&[]));
        assert_eq!(update(&["a"]), objects(&["b"]), "it has vanished");
    }
}
