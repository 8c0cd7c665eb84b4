//! Decides which objects to prune because no manifest declares them. Pure. In case of doubt nothing is pruned: a broken
//! file, an empty tree or the deletion of most manifests is usually a mistake.

use std::collections::BTreeSet;
use std::fmt;

use crate::api::ObjectKey;
use crate::manifest::{ObjectSet, Problem, Severity};

/// The removal of this many objects at once is never too much.
const FEW: usize = 2;

/// The objects to remove, or why none is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    pub remove: Vec<ObjectKey>,
    /// Why objects without a manifest are kept, and what to do.
    pub refused: Option<String>,
}

/// Compares the known objects with those of a commit.
pub fn decide(known: &BTreeSet<ObjectKey>, set: &ObjectSet) -> Pruning {
    let gone = known.iter().filter(|object| !set.declares(object)).cloned().collect();
    judge(known.len(), gone, set)
}

/// Decides about the objects that a commit does not declare, out of this many known ones.
pub fn judge(known: usize, gone: Vec<ObjectKey>, set: &ObjectSet) -> Pruning {
    match refusal(known, &gone, set) {
        Some(why) => Pruning { remove: Vec::new(), refused: Some(why.to_string()) },
        None => Pruning { remove: gone, refused: None },
    }
}

/// Why objects without a manifest are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A file is invalid: the manifest of an object may be in it.
    Invalid { objects: String, problem: Problem },
    /// No manifest is left.
    NoneLeft { objects: String },
    /// More than half of the known objects would be removed.
    Most { objects: String, known: usize },
}

/// How a person allows such a removal.
pub const ALLOW: &str = "if this is intended, set prune.allowMass: true in opsy.yaml";

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { objects, problem } => write!(
                f,
                "{objects} kept although not in Git, because a file in Git is not valid; fix it: {problem}"
            ),
            Self::NoneLeft { objects } => {
                write!(f, "{objects} kept, because no manifest is left in Git; {ALLOW}")
            }
            Self::Most { objects, known } => write!(
                f,
                "{objects} of {known} kept although not in Git, because they are more than half; {ALLOW}"
            ),
        }
    }
}

/// Why none of these objects is removed, out of this many known ones; `None` if they are.
pub fn refusal(known: usize, gone: &[ObjectKey], set: &ObjectSet) -> Option<Refusal> {
    let count = gone.len();
    let objects = match gone {
        [] => return None,
        [one] => one.to_string(),
        _ => format!("{count} objects"),
    };
    if let Some(problem) = set.problems.iter().find(|problem| problem.severity == Severity::Error) {
        return Some(Refusal::Invalid { objects, problem: problem.clone() });
    }
    if set.settings.allow_mass_prune() {
        return None;
    }
    if set.documents.is_empty() {
        return Some(Refusal::NoneLeft { objects });
    }
    (count > FEW && count * 2 > known).then_some(Refusal::Most { objects, known })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::api::{Key, Kind};
    use crate::manifest::{Document, DocumentText};
    use crate::settings::PruneSettings;

    fn object(name: &str) -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    fn known(names: &[&str]) -> BTreeSet<ObjectKey> {
        names.iter().map(|name| object(name)).collect()
    }

    fn set(names: &[&str]) -> ObjectSet {
        let document = |name: &&str| Document {
            object: object(name),
            json: DocumentText::from(&Value::Null),
            file: format!("{name}.yaml"),
            line: 1,
        };
        ObjectSet { documents: names.iter().map(document).collect(), ..ObjectSet::default() }
    }

    fn allowed(names: &[&str]) -> ObjectSet {
        let mut set = set(names);
        set.settings.prune = Some(PruneSettings { allow_mass: Some(true) });
        set
    }

    fn broken(mut set: ObjectSet, severity: Severity) -> ObjectSet {
        let message = "is not YAML".to_owned();
        set.problems.push(Problem { file: "x.yaml".to_owned(), line: Some(3), message, severity });
        set
    }

    /// The number of removed objects, or the message of the refusal.
    fn outcome(names: &[&str], set: &ObjectSet) -> Result<usize, String> {
        let pruning = decide(&known(names), set);
        pruning.refused.map_or(Ok(pruning.remove.len()), Err)
    }

    const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

    #[test]
    fn removes_what_has_no_manifest() {
        assert_eq!(decide(&known(&FIVE), &set(&FIVE)), Pruning::default());
        assert_eq!(decide(&known(&["a", "b"]), &set(&["b", "c"])).remove, [object("a")]);
        assert_eq!(outcome(&FIVE, &set(&["a", "b", "c"])), Ok(2));
        assert_eq!(outcome(&["a", "b", "c"], &set(&["a"])), Ok(2), "two are few");
    }

    #[test]
    fn a_sweeping_deletion_needs_leave() {
        let words = outcome(&FIVE, &set(&["a", "b"])).expect_err("three of five");
        assert!(words.contains("3 objects of 5") && words.contains("prune.allowMass"), "{words}");
        assert_eq!(outcome(&FIVE, &allowed(&["a", "b"])), Ok(3));
        let six = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(outcome(&six, &set(&["a", "b", "c"])), Ok(3), "half is not more than half");
    }

    #[test]
    fn an_empty_tree_needs_leave() {
        let words = outcome(&["a"], &set(&[])).expect_err("the only one");
        assert!(words.contains("PackerBuilder/default/a kept"), "{words}");
        assert_eq!(outcome(&["a"], &allowed(&[])), Ok(1));
        assert_eq!(outcome(&[], &set(&[])), Ok(0));
    }

    #[test]
    fn a_broken_file_stops_pruning_even_with_leave() {
        let words = outcome(&["a", "b"], &broken(allowed(&["a"]), Severity::Error)).expect_err("broken");
        assert!(words.contains("x.yaml:3: is not YAML"), "{words}");
        assert_eq!(outcome(&["a", "b"], &broken(set(&["a"]), Severity::Note)), Ok(1));
    }
}
