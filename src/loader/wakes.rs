//! Which objects a commit concerns although their document is the same. Pure.
//!
//! A reconcile reads from the commit: the document, the template, the settings, whether all files are valid, and why an
//! object without a document stays. The engine knows which documents differ. Everything else is compared here.

use crate::api::{Kind, ObjectKey};
use crate::sync::{Difference, Synced};
use std::collections::BTreeSet;

/// What a commit concerns, compared with the loaded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern<'a> {
    /// Every object, for this reason.
    All(&'static str),
    /// The builders whose templates differ.
    Templates(&'a Difference),
}

/// Compares a commit with the loaded one.
pub fn concern<'a>(loaded: Option<&Synced>, now: &'a Synced) -> Concern<'a> {
    let Some(loaded) = loaded else { return Concern::All("no commit is loaded, or the last load failed") };
    let Some(difference) = now.difference.as_ref().filter(|it| it.from == loaded.commit) else {
        return Concern::All("the difference to the loaded commit is not known");
    };
    if now.set.settings != loaded.set.settings {
        return Concern::All("the settings differ");
    }
    // What was not pruned, retired or garbage-collected may be now.
    if now.set.complete() && !loaded.set.complete() {
        return Concern::All("all files are valid again");
    }
    Concern::Templates(difference)
}

/// The refreshers, if the commit declares other builders than the loaded one: a refresher can name a builder that does
/// not exist yet.
pub fn refreshers(loaded: Option<&Synced>, now: &Synced) -> BTreeSet<ObjectKey> {
    let is_same = |loaded: &Synced| {
        let mut others = loaded.set.documents.differences(&now.set.documents);
        !others.any(|pair| matches!(pair, (Some(one), None) | (None, Some(one)) if one.object.kind == Kind::PackerBuilder))
    };
    if loaded.is_some_and(is_same) {
        return BTreeSet::new();
    }
    let objects = now.set.documents.iter().map(|document| &document.object);
    objects.filter(|object| object.kind == Kind::AMIRefresher).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{CommitId, Key};
    use crate::manifest::{Document, DocumentText, Problem, Severity};

    fn commit(digit: &str) -> CommitId {
        CommitId::parse(digit.repeat(40)).expect("an id")
    }

    fn synced(at: &str, from: Option<&str>) -> Synced {
        let difference =
            from.map(|from| Difference { from: commit(from), paths: Some(["README.md".to_owned()].into()) });
        Synced { commit: commit(at), set: Arc::default(), status_files: Arc::default(), difference }
    }

    fn is_all(loaded: Option<&Synced>, now: &Synced) -> bool {
        matches!(concern(loaded, now), Concern::All(_))
    }

    #[test]
    fn only_templates_matter_if_everything_else_is_equal() {
        let (loaded, now) = (synced("a", None), synced("b", Some("a")));
        assert_eq!(concern(Some(&loaded), &now), Concern::Templates(now.difference.as_ref().expect("known")));
    }

    #[test]
    fn what_cannot_be_compared_concerns_all() {
        assert!(is_all(None, &synced("a", None)));
        assert!(is_all(Some(&synced("a", None)), &synced("c", Some("b"))), "a commit was not loaded");
        assert!(is_all(Some(&synced("a", None)), &synced("a", None)), "it is loaded again");
    }

    #[test]
    fn settings_and_files_that_are_valid_again_concern_all() {
        let mut now = synced("b", Some("a"));
        Arc::make_mut(&mut now.set).settings.agent_id = Some("team".to_owned());
        assert!(is_all(Some(&synced("a", None)), &now));
        let problem = Problem {
            file: "a.yaml".to_owned(),
            line: None,
            message: "is not YAML".to_owned(),
            severity: Severity::Error,
        };
        let (mut broken, valid) = (synced("a", None), synced("b", Some("a")));
        Arc::make_mut(&mut broken.set).problems.push(problem.clone());
        assert!(is_all(Some(&broken), &valid));
        let (loaded, mut broken) = (synced("a", None), synced("b", Some("a")));
        Arc::make_mut(&mut broken.set).problems.push(problem);
        assert!(!is_all(Some(&loaded), &broken), "each reconcile sees that nothing may be pruned");
    }

    #[test]
    fn refreshers_are_concerned_by_other_builders() {
        let with = |at: &str, builders: &[&str]| {
            let document = |kind: Kind, name: &str| Document {
                object: ObjectKey {
                    kind,
                    key: Key { namespace: "default".to_owned(), name: name.to_owned() },
                },
                json: DocumentText::from(&serde_json::Value::Null),
                file: format!("{name}.yaml"),
                line: 1,
            };
            let mut synced = synced(at, None);
            let documents = &mut Arc::make_mut(&mut synced.set).documents;
            builders.iter().for_each(|name| documents.insert(document(Kind::PackerBuilder, name)));
            documents.insert(document(Kind::AMIRefresher, "r"));
            synced
        };
        assert_eq!(refreshers(Some(&with("a", &["x"])), &with("b", &["x"])), BTreeSet::new());
        assert_eq!(refreshers(Some(&with("a", &["x"])), &with("b", &["x", "y"])).len(), 1);
        assert_eq!(refreshers(None, &with("b", &["x"])).len(), 1);
    }
}
