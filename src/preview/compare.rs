//! Compares two trees: what happens because of the change, what would happen anyway, and drift. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Action, Counts, Finding, Item, Report};
use super::words::short;
use super::{Side, builders, fields, refreshers};
use crate::api::{Key, Kind, ObjectKey};
use crate::builder::preview as builder;
use crate::manifest::{Problem, Severity};
use crate::refresher::preview::BuiltBy;
use crate::sync::prune;

/// Fills the parts of a report.
pub fn compare(base: &Side, head: &Side, mut report: Report) -> Report {
    report.problems = problems(base, head);
    let pruned = pruned(base, head);
    report.because.extend(pruned);
    let (old, new) = (items(base), items(head));
    for object in head.set.documents.iter().map(|document| &document.object) {
        sort(object, base, head, old.get(object), new.get(object), &mut report);
    }
    for part in [&mut report.because, &mut report.anyway, &mut report.drift] {
        part.sort_by(|a, b| (a.action, &a.object).cmp(&(b.action, &b.object)));
    }
    report.changes = counts(&report.because);
    report
}

/// Puts what happens to an object into the parts of the report.
fn sort(
    object: &ObjectKey,
    base: &Side,
    head: &Side,
    old: Option<&Item>,
    new: Option<&Item>,
    report: &mut Report,
) {
    let changed = changed_fields(object, base, head);
    let is_new = base.set.documents.get(object).is_none();
    let with_file = |item: &Item| Item { file: head.file(object), ..item.clone() };
    match new.filter(|item| item.action != Action::Drift) {
        Some(item) if old.is_some_and(|old| is_same(old, item)) => {
            report.anyway.push(with_file(item));
            report.because.extend(applied(object, base, head, &changed, is_new));
        }
        Some(item) => {
            let further = wave_details(object, base, head).into_iter();
            let further = further.filter(|detail| !item.details.contains(detail));
            let details = item.details.iter().cloned().chain(further).collect();
            report.because.push(Item { fields: changed.clone(), details, ..with_file(item) });
        }
        None => {
            let applied = applied(object, base, head, &changed, is_new);
            if applied.is_none() && new.is_none() {
                report.unchanged.push(short(object));
            }
            report.because.extend(applied);
        }
    }
    report.drift.extend(new.filter(|item| item.action == Action::Drift).map(with_file));
}

/// Whether the base would do the same. The words may differ: they contain times.
fn is_same(old: &Item, new: &Item) -> bool {
    let key = |item: &Item| (item.action, item.what.clone(), item.groups.clone());
    key(old) == key(new) && (new.action == Action::Rollout || old.why == new.why)
}

/// The item of an object whose manifest differs without an effect of its own.
fn applied(object: &ObjectKey, base: &Side, head: &Side, changed: &[String], is_new: bool) -> Option<Item> {
    if changed.is_empty() && !is_new {
        return None;
    }
    let why = match (is_new, state(object, head)) {
        (true, Some(state)) => state,
        (true, None) => "it is new".to_owned(),
        (false, _) => "its manifest changes".to_owned(),
    };
    Some(Item {
        object: short(object),
        file: head.file(object),
        action: Action::Apply,
        what: if is_new { "created".to_owned() } else { "updated".to_owned() },
        why,
        usual_seconds: None,
        groups: Vec::new(),
        fields: changed.to_vec(),
        details: wave_details(object, base, head),
    })
}

/// Why nothing happens to an object for now.
fn state(object: &ObjectKey, head: &Side) -> Option<String> {
    use crate::refresher::preview::Intent;
    match object.kind {
        Kind::PackerBuilder => match &head.builders.get(&object.key)?.intent {
            builder::Intent::Wait { message, .. } => Some(message.clone()),
            _ => None,
        },
        Kind::AMIRefresher => match &head.refreshers.get(&object.key)?.intent {
            Intent::Wait { message, .. } | Intent::Paused { message, .. } => Some(message.clone()),
            _ => None,
        },
    }
}

/// The waves of a refresher, and the groups that change their wave.
fn wave_details(object: &ObjectKey, base: &Side, head: &Side) -> Vec<String> {
    let (Some(before), Some(after)) = (base.refreshers.get(&object.key), head.refreshers.get(&object.key))
    else {
        return Vec::new();
    };
    if object.kind != Kind::AMIRefresher || (before.waves == after.waves && before.groups == after.groups) {
        return Vec::new();
    }
    let moved = refreshers::moved_waves(before, after);
    let waves = if before.waves == after.waves { Vec::new() } else { refreshers::waves(after) };
    waves.into_iter().chain(moved).collect()
}

fn changed_fields(object: &ObjectKey, base: &Side, head: &Side) -> Vec<String> {
    match (base.set.documents.get(object), head.set.documents.get(object)) {
        (Some(before), Some(after)) if before.json != after.json => {
            fields::differing(&before.json.value(), &after.json.value())
        }
        _ => Vec::new(),
    }
}

/// What the agent would do with each object of a tree, as items.
fn items(side: &Side) -> BTreeMap<ObjectKey, Item> {
    let built: Vec<&builder::Preview> = side
        .builders
        .values()
        .filter(|preview| matches!(preview.intent, builder::Intent::Build { .. }))
        .collect();
    let of_builder =
        |preview: &builder::Preview| Some((builders::object(&preview.key), builders::item(preview)?));
    let mut all: BTreeMap<ObjectKey, Item> = side.builders.values().filter_map(of_builder).collect();
    for preview in side.refreshers.values() {
        let takes = |built: &&&builder::Preview| {
            let (cluster, region) = (built.cluster.as_deref(), built.region.as_deref());
            preview.source.takes(BuiltBy { key: &built.key, cluster, region })
        };
        let builds: Vec<&Key> = built.iter().filter(takes).map(|built| &built.key).collect();
        let item = refreshers::item(preview, &builds);
        all.extend(item.map(|item| (refreshers::object(&preview.key), item)));
    }
    all
}

/// The objects that the head does not declare.
fn pruned(base: &Side, head: &Side) -> Vec<Item> {
    let known: BTreeSet<ObjectKey> =
        base.set.documents.iter().map(|document| document.object.clone()).collect();
    let gone: Vec<ObjectKey> = known.iter().filter(|object| !head.set.declares(object)).cloned().collect();
    let broken: BTreeSet<&str> = errors(head).map(|problem| problem.file.as_str()).collect();
    let is_broken = |object: &ObjectKey| base.file(object).is_some_and(|file| broken.contains(file.as_str()));
    let pruning = prune::judge(known.len(), gone.clone(), &head.set);
    let item = |object: &ObjectKey| {
        let (action, what, why) = match &pruning.refused {
            // The manifest of such an object may still be in the file.
            Some(_) if is_broken(object) => {
                let file = base.file(object).unwrap_or_default();
                let why = format!("its manifest in {file} is invalid");
                (Action::NeedsAttention, "stays as it is".to_owned(), why)
            }
            None => (Action::Prune, "pruned".to_owned(), "its manifest is removed".to_owned()),
            Some(why) => (Action::KeptAlthoughRemoved, "not pruned".to_owned(), why.clone()),
        };
        Item {
            object: short(object),
            file: base.file(object),
            action,
            what,
            why,
            usual_seconds: None,
            groups: Vec::new(),
            fields: Vec::new(),
            details: if action == Action::Prune { left_behind(object, base) } else { Vec::new() },
        }
    };
    gone.iter().map(item).collect()
}

/// What stays of an object that is pruned.
fn left_behind(object: &ObjectKey, base: &Side) -> Vec<String> {
    match object.kind {
        Kind::PackerBuilder => {
            let document = base.set.documents.get(object);
            let policy = document.map(|document| document.json.value()["spec"]["deletionPolicy"].clone());
            let fate = if policy.is_some_and(|policy| policy == "Deprecate") { "deprecated" } else { "kept" };
            vec![format!("its images are {fate}")]
        }
        Kind::AMIRefresher => {
            let preview = base.refreshers.get(&object.key);
            let groups = preview.map_or(0, |preview| preview.groups.len());
            (groups > 0)
                .then(|| format!("{} on the image that they run", super::words::count(groups, "node group")))
                .map(|words| format!("{words}; nothing moves them any more"))
                .into_iter()
                .collect()
        }
    }
}

fn errors(side: &Side) -> impl Iterator<Item = &Problem> {
    side.set.problems.iter().filter(|problem| problem.severity == Severity::Error)
}

fn problems(base: &Side, head: &Side) -> Vec<Finding> {
    let old: BTreeSet<(&str, &str)> =
        errors(base).map(|problem| (problem.file.as_str(), problem.message.as_str())).collect();
    let finding = |problem: &Problem| Finding {
        file: problem.file.clone(),
        line: problem.line,
        message: problem.message.clone(),
        is_old: old.contains(&(problem.file.as_str(), problem.message.as_str())),
    };
    errors(head).map(finding).collect()
}

fn counts(items: &[Item]) -> Counts {
    let of = |action: Action| items.iter().filter(move |item| item.action == action);
    Counts {
        builds: of(Action::Build).count(),
        node_groups: of(Action::Rollout).chain(of(Action::Wait)).map(|item| item.groups.len()).sum(),
        pruned: of(Action::Prune).count(),
    }
}
