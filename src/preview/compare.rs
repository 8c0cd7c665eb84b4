//! Compares two trees: what happens because of the change, what could not be planned, what would happen anyway, and
//! drift. Pure.

use std::collections::BTreeSet;

use super::Side;
use super::change::Change;
use super::effects::effects;
use super::removals::{self, errors};
use super::report::{Action, Counts, Finding, Item, Report};
use crate::manifest::Problem;

/// Fills the parts of a report.
pub fn compare(base: &Side, head: &Side, mut report: Report) -> Report {
    report.problems = problems(base, head);
    report.assumed = assumed(head);
    let known = removals::known(base);
    removals::place(&known, base, head, &mut report);
    let (old, new) = (effects(base, None), effects(head, Some(base)));
    for object in head.set.documents.iter().map(|document| &document.object) {
        let (old, new, is_new) = (old.get(object), new.get(object), !known.contains(object));
        Change { object, base, head, is_new, old, new }.place(&mut report);
    }
    for part in [&mut report.because, &mut report.unknown, &mut report.anyway, &mut report.drift] {
        part.sort_by(|a, b| (a.action, &a.object).cmp(&(b.action, &b.object)));
    }
    report.changes = counts(&report.because);
    report
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
    let mut all: Vec<Finding> = errors(head).map(finding).collect();
    // The errors of the change first: a long list of others must not displace them.
    all.sort_by_key(|finding| finding.is_old);
    all
}

fn assumed(head: &Side) -> Vec<String> {
    let of_builders = head.builders.values().flat_map(|preview| &preview.assumed);
    let of_refreshers = head.refreshers.values().flat_map(|preview| &preview.assumed);
    let all: BTreeSet<&str> = of_builders.chain(of_refreshers).map(|assumed| assumed.what).collect();
    all.into_iter().map(str::to_owned).collect()
}

fn counts(items: &[Item]) -> Counts {
    let of = |action: Action| items.iter().filter(move |item| item.action == action);
    Counts {
        builds: of(Action::Build).count(),
        node_groups: of(Action::Rollout).chain(of(Action::Wait)).map(|item| item.groups.len()).sum(),
        pruned: of(Action::Prune).count(),
    }
}
