//! The objects that the change no longer declares: pruned, or not and why. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::effects::takes;
use super::report::{Action, Item, Report};
use super::words::{count, list, short};
use super::{Side, builders, refreshers};
use crate::api::{Kind, ObjectKey};
use crate::manifest::{Problem, Severity};
use crate::sync::prune::{self, Refusal};

/// The objects that exist: those that the base declares, and those that are not pruned although it does not.
pub fn known(base: &Side) -> BTreeSet<ObjectKey> {
    let mut known: BTreeSet<ObjectKey> =
        base.set.documents.iter().map(|document| document.object.clone()).collect();
    let undeclared: Vec<ObjectKey> = base.undeclared.iter().cloned().collect();
    if prune::refusal(known.len() + undeclared.len(), &undeclared, &base.set).is_some() {
        known.extend(undeclared);
    }
    known
}

/// Adds the objects that the head does not declare to the report.
pub fn place(known: &BTreeSet<ObjectKey>, base: &Side, head: &Side, report: &mut Report) {
    let before = fates(known, base, base);
    for (object, fate) in fates(known, base, head) {
        let item = item(&object, &fate, base, head);
        let is_same = before.get(&object).is_some_and(|before| before.action() == fate.action());
        if is_same { report.anyway.push(item) } else { report.because.push(item) }
    }
}

/// What happens to an object without a manifest.
enum Fate {
    Pruned,
    /// Its manifest is in this file, which is invalid.
    Broken(String),
    Refused(Refusal),
}

impl Fate {
    fn action(&self) -> Action {
        match self {
            Self::Pruned => Action::Prune,
            Self::Broken(_) => Action::NeedsAttention,
            Self::Refused(_) => Action::KeptAlthoughRemoved,
        }
    }
}

fn fates(known: &BTreeSet<ObjectKey>, base: &Side, side: &Side) -> BTreeMap<ObjectKey, Fate> {
    let gone: Vec<ObjectKey> = known.iter().filter(|object| !side.set.declares(object)).cloned().collect();
    let broken: BTreeSet<&str> = errors(side).map(|problem| problem.file.as_str()).collect();
    let refusal = prune::refusal(known.len(), &gone, &side.set);
    let fate = |object: &ObjectKey| match (&refusal, base.file(object)) {
        (None, _) => Fate::Pruned,
        // The manifest of such an object may still be in the file.
        (Some(_), Some(file)) if broken.contains(file.as_str()) => Fate::Broken(file),
        (Some(refusal), _) => Fate::Refused(refusal.clone()),
    };
    gone.iter().map(|object| (object.clone(), fate(object))).collect()
}

/// The errors of the manifests of a tree.
pub fn errors(side: &Side) -> impl Iterator<Item = &Problem> {
    side.set.problems.iter().filter(|problem| problem.severity == Severity::Error)
}

fn item(object: &ObjectKey, fate: &Fate, base: &Side, head: &Side) -> Item {
    let (what, why) = match fate {
        Fate::Pruned => {
            let left = left_behind(object, base, head);
            let why = ["its manifest is removed".to_owned()].into_iter().chain(left);
            ("pruned", why.collect::<Vec<_>>().join("; "))
        }
        Fate::Broken(file) => ("stays as it is", format!("its manifest in {file} is invalid")),
        Fate::Refused(refusal) => ("not pruned", explain(refusal)),
    };
    let item = Item::new(short(object), fate.action(), what, why);
    Item { file: base.file(object), ..item }
}

fn explain(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Invalid { problem, .. } => {
            format!("nothing is pruned while a manifest is invalid; fix {}", problem.file)
        }
        Refusal::NoneLeft { .. } => format!("no manifest would be left; {}", prune::ALLOW),
        Refusal::Most { objects, known } => {
            format!("the change removes {objects} of {known}, more than half; {}", prune::ALLOW)
        }
    }
}

/// What stays of an object that is pruned.
fn left_behind(object: &ObjectKey, base: &Side, head: &Side) -> Vec<String> {
    match object.kind {
        Kind::PackerBuilder => {
            let document = base.set.documents.get(object);
            let policy = document.map(|document| document.json.value()["spec"]["deletionPolicy"].clone());
            let fate = if policy.is_some_and(|policy| policy == "Deprecate") { "deprecated" } else { "kept" };
            let images = format!("its images are {fate}");
            [Some(images), users(object, base, head)].into_iter().flatten().collect()
        }
        Kind::AMIRefresher => {
            let groups = base.refreshers.get(&object.key).map(|preview| &preview.groups);
            let moved = groups.into_iter().flatten().filter(|group| group.is_movable()).count();
            let left = format!("{} keep the images that they run", count(moved, "node group"));
            if moved > 0 { vec![left.replace("group keep", "group keeps")] } else { Vec::new() }
        }
    }
}

/// The refreshers that roll out the images of a builder after the change.
fn users(object: &ObjectKey, base: &Side, head: &Side) -> Option<String> {
    let built = base.builders.get(&object.key)?;
    debug_assert_eq!(builders::object(&built.key), *object);
    let users = head.refreshers.values().filter(|preview| takes(&preview.source, built));
    let users: Vec<String> = users.map(|preview| short(&refreshers::object(&preview.key))).collect();
    match users.as_slice() {
        [] => None,
        [one] => Some(format!("{one} uses them and gets no new images")),
        many => Some(format!("{} use them and get no new images", list(many))),
    }
}
