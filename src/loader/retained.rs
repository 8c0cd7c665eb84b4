//! Objects that exist although the commit does not declare them: which of them stay, and why. Pure.
//!
//! `sync::prune` decides what is pruned. The file that the engine has recorded for an object shows whether its manifest was
//! deleted or cannot be read.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{ObjectKey, Undeclared, reasons};
use crate::engine::objects::Retained;
use crate::manifest::{ObjectSet, Problem, Severity};
use crate::sync::prune::Pruning;

/// Objects that exist, with the file of the manifest that was applied last, where it is recorded.
pub type Existing = BTreeMap<ObjectKey, Option<String>>;

/// The recorded files of objects that the commit does not declare, except files that declare other objects. If such a
/// file has become unreadable, it has to be read as a manifest all the same: its object must not count as deleted.
pub fn unread_files(existing: &Existing, set: &ObjectSet) -> BTreeSet<String> {
    let undeclared = existing.iter().filter(|(object, _)| !set.declares(object));
    let mut files: BTreeSet<String> = undeclared.filter_map(|(_, file)| file.clone()).collect();
    if !files.is_empty() {
        let read: BTreeSet<&String> = set.documents.iter().map(|document| &document.file).collect();
        files.retain(|file| !read.contains(file));
    }
    files
}

/// The objects that stay although the commit does not declare them.
pub fn retained(existing: &Existing, pruning: &Pruning, set: &ObjectSet) -> Existing {
    let removed: BTreeSet<&ObjectKey> = pruning.remove.iter().collect();
    let stays = |object: &ObjectKey| !set.declares(object) && !removed.contains(object);
    existing
        .iter()
        .filter(|(object, _)| stays(object))
        .map(|(object, file)| (object.clone(), file.clone()))
        .collect()
}

/// Why retained objects stay: reason and message of their condition `Applied=False`. Empty if pruning was not refused.
pub fn reasons(retained: &Existing, pruning: &Pruning, set: &ObjectSet) -> Retained {
    let Some(refused) = &pruning.refused else { return Retained::new() };
    let general = if set.complete() { reasons::PRUNE_REFUSED } else { reasons::MANIFEST_BROKEN };
    let reason = |(object, file): (&ObjectKey, &Option<String>)| {
        let why = match broken_file(object, file.as_deref(), set) {
            Some((file, problem)) => {
                (reasons::MANIFEST_BROKEN, format!("its manifest in {file} is broken: {problem}"))
            }
            None => (general, refused.clone()),
        };
        (object.clone(), why)
    };
    retained.iter().map(reason).collect()
}

/// Why an object has no document: its file is broken, or, as far as is known, its manifest was deleted.
pub fn undeclared(object: &ObjectKey, file: Option<&str>, set: &ObjectSet) -> Undeclared {
    broken_file(object, file, set)
        .map_or(Undeclared::Gone, |(file, _)| Undeclared::Broken { file: file.to_owned() })
}

/// The broken file of an object, and the problem of the file or of a directory above it.
fn broken_file<'a>(
    object: &ObjectKey,
    file: Option<&'a str>,
    set: &'a ObjectSet,
) -> Option<(&'a str, &'a Problem)> {
    // An object that is declared twice has no document either.
    let file = set.duplicates.get(object).map(String::as_str).or(file)?;
    let contains =
        |path: &str| file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut errors = set.problems.iter().filter(|problem| problem.severity == Severity::Error);
    Some((file, errors.find(|problem| contains(&problem.file))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Kind};
    use crate::manifest::{Document, DocumentText};
    use crate::sync::prune;

    fn object() -> ObjectKey {
        named("web")
    }

    fn named(name: &str) -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    fn document(object: &ObjectKey, file: &str) -> Document {
        let json = DocumentText::from(&serde_json::Value::Null);
        Document { object: object.clone(), json, file: file.to_owned(), line: 1 }
    }

    fn problem(file: &str, severity: Severity) -> Problem {
        Problem { file: file.to_owned(), line: None, message: "cannot be read".to_owned(), severity }
    }

    #[test]
    fn a_file_is_broken_by_its_own_error_or_its_folders() {
        let problems = vec![
            problem("a.yaml", Severity::Error),
            problem("b", Severity::Error),
            problem("c.yaml", Severity::Note),
        ];
        let mut set = ObjectSet { problems, ..ObjectSet::default() };
        let files = ["a.yaml", "b/x.yaml", "c.yaml", "bb/x.yaml", "d.yaml"];
        let found = files.map(|file| broken_file(&object(), Some(file), &set).is_some());
        assert_eq!(found, [true, true, false, false, false]);
        assert_eq!(undeclared(&object(), None, &set), Undeclared::Gone);
        set.duplicates.insert(object(), "a.yaml".to_owned());
        let file = "a.yaml".to_owned();
        assert_eq!(undeclared(&object(), Some("d.yaml"), &set), Undeclared::Broken { file });
    }

    #[test]
    fn only_files_of_objects_without_a_document_are_read_as_theirs() {
        let other = ObjectKey { kind: Kind::AMIRefresher, ..object() };
        let existing = |file: Option<&str>| Existing::from([(object(), file.map(str::to_owned))]);
        let mut set = ObjectSet {
            documents: [document(&other, "b.yaml")].into_iter().collect(),
            ..ObjectSet::default()
        };
        assert_eq!(unread_files(&existing(Some("a.yaml")), &set), ["a.yaml".to_owned()].into());
        assert_eq!(
            unread_files(&existing(Some("b.yaml")), &set),
            BTreeSet::new(),
            "the file is read as ours"
        );
        assert_eq!(unread_files(&existing(None), &set), BTreeSet::new());
        set.documents.insert(document(&object(), "moved.yaml"));
        assert_eq!(unread_files(&existing(Some("a.yaml")), &set), BTreeSet::new());
    }

    #[test]
    fn an_object_that_is_neither_declared_nor_pruned_stays_and_says_why() {
        let file = |name: &str| Some(format!("{name}.yaml"));
        let existing: Existing = ["a", "b", "c"].map(|name| (named(name), file(name))).into();
        let set = ObjectSet {
            documents: [document(&named("a"), "a.yaml")].into_iter().collect(),
            problems: vec![problem("b.yaml", Severity::Error)],
            ..ObjectSet::default()
        };
        let pruning = prune::decide(&existing.keys().cloned().collect(), &set);
        let stay = retained(&existing, &pruning, &set);
        assert_eq!(stay.keys().cloned().collect::<Vec<_>>(), [named("b"), named("c")]);
        let why = reasons(&stay, &pruning, &set);
        assert_eq!(why[&named("b")].0, "ManifestBroken");
        assert!(why[&named("b")].1.starts_with("its manifest in b.yaml is broken"), "{why:?}");
        let (reason, message) = &why[&named("c")];
        assert_eq!((*reason, Some(message)), ("ManifestBroken", pruning.refused.as_ref()));
    }

    #[test]
    fn an_object_that_is_pruned_is_not_retained() {
        let existing: Existing = ["a", "b"].map(|name| (named(name), None)).into();
        let set = ObjectSet {
            documents: [document(&named("a"), "a.yaml")].into_iter().collect(),
            ..ObjectSet::default()
        };
        let pruning = prune::decide(&existing.keys().cloned().collect(), &set);
        let stay = retained(&existing, &pruning, &set);
        assert!(stay.is_empty() && reasons(&stay, &pruning, &set).is_empty(), "{stay:?}");
    }

    #[test]
    fn a_prune_that_the_guard_refuses_is_the_reason_in_a_complete_commit() {
        let existing: Existing = ["a", "b", "c", "d"].map(|name| (named(name), None)).into();
        let set = ObjectSet {
            documents: [document(&named("a"), "a.yaml")].into_iter().collect(),
            ..ObjectSet::default()
        };
        let pruning = prune::decide(&existing.keys().cloned().collect(), &set);
        let stay = retained(&existing, &pruning, &set);
        let why = reasons(&stay, &pruning, &set);
        assert_eq!(why.len(), 3, "{why:?}");
        assert!(why.values().all(|(reason, _)| *reason == "PruneRefused"), "{why:?}");
    }
}
