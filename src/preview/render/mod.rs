//! A report as text for a terminal, as Markdown for a comment, and as JSON.

mod escape;
mod markdown;
mod page;
mod settings;
mod text;

use super::report::{Action, Counts, Facts, Item, Report, Revision};
use super::words::{count, list, seconds, verb};
use crate::api::ids::short_commit;
pub use markdown::{LIMIT, markdown};
pub use text::text;

/// What the change does, in one line.
pub fn headline(report: &Report) -> String {
    let (old, new): (Vec<_>, Vec<_>) = report.problems.iter().partition(|problem| problem.is_old);
    let of = |action: Action| report.because.iter().filter(|item| item.action == action).count();
    let (attention, refused) = (of(Action::NeedsAttention), of(Action::KeptAlthoughRemoved));
    let Counts { builds, node_groups, pruned } = report.changes;
    let parts = [
        (new.len(), count(new.len(), "error")),
        (attention, format!("{} {} attention", count(attention, "object"), verb(attention, "need"))),
        (pruned, format!("{} pruned", count(pruned, "object"))),
        (refused, format!("pruning of {} refused", count(refused, "object"))),
        (builds, count(builds, "build")),
        (node_groups, format!("{} {}", count(node_groups, "node group"), verb(node_groups, "roll"))),
    ];
    let effects = parts.into_iter().filter(|(number, _)| *number > 0).map(|(_, part)| part);
    let mut parts: Vec<String> = settings::headline(&report.settings).into_iter().chain(effects).collect();
    let applied = of(Action::Apply);
    if parts.is_empty() && applied > 0 {
        parts.push(format!("no build, no rollout; {} updated", count(applied, "object")));
    }
    match report.unknown.len() {
        0 => {}
        unknown => parts.push(format!("the effect on {} is unknown", count(unknown, "object"))),
    }
    if parts.is_empty() {
        parts.push("no changes".to_owned());
    }
    if !old.is_empty() {
        parts.push(format!("{} also in the base", count(old.len(), "error")));
    }
    parts.join(", ")
}

/// Which trees were compared.
fn compared(report: &Report) -> String {
    let (head, base) = (revision(&report.head), revision(&report.base));
    match &report.head.commit {
        Some(commit) if report.base.commit.as_ref() == Some(commit) => format!("{base} as it is"),
        _ => format!("{head} merged into {base}"),
    }
}

/// A revision for people.
fn revision(revision: &Revision) -> String {
    let name = revision.name.strip_prefix("the ").unwrap_or(&revision.name);
    match &revision.commit {
        Some(commit) => {
            let short = short_commit(commit);
            if name.starts_with(&short) { short } else { format!("{name} ({short})") }
        }
        None => name.to_owned(),
    }
}

/// By which facts the plan was made.
fn facts(report: &Report) -> String {
    match report.facts {
        Facts::Live => "AWS read".to_owned(),
        Facts::Recorded => format!("AWS not read, status as published in {}", report.base.name),
    }
}

/// The reason of an item, with what its build replaces and how long it takes.
fn reason(item: &Item) -> String {
    let mut parts = vec![item.why.clone()];
    if !item.replaces.is_empty() {
        parts.push(format!("replaces {}", list(&item.replaces)));
    }
    parts.extend(item.usual_seconds.map(|usual| format!("the last build took {}", seconds(usual))));
    parts.join("; ")
}

/// What is to be said of an item beside its action and its reason.
fn further(item: &Item) -> Vec<String> {
    let mut lines = Vec::new();
    // The reason of an object that is only applied names its fields.
    if !item.fields.is_empty() && item.action != Action::Apply {
        lines.push(format!("changed: {}", list(&item.fields)));
    }
    lines.extend(item.groups.iter().map(|group| {
        let nodes = group.nodes.map(|nodes| format!(" ({})", count(nodes as usize, "node")));
        let from = group.from.as_deref().unwrap_or("an unknown image");
        format!("{}{}: {from} → {}", group.name, nodes.unwrap_or_default(), group.to)
    }));
    lines.extend(item.details.iter().cloned());
    lines
}

/// At most this many unchanged objects are named.
const NAMED: usize = 10;

/// The last lines: the objects with which nothing happens, and what was assumed.
fn closing(report: &Report) -> Vec<String> {
    let named = list(report.unchanged.iter().take(NAMED));
    let mut lines = Vec::new();
    match report.unchanged.len() {
        0 => {}
        all if all > NAMED => lines.push(format!("No change: {named} (and {} more)", all - NAMED)),
        _ => lines.push(format!("No change: {named}")),
    }
    if !report.assumed.is_empty() {
        let assumed = list(&report.assumed);
        lines.push(format!("Assumed to be as the agent reported last, because AWS was not read: {assumed}"));
    }
    lines
}

/// The sign of an action, as in a diff.
fn sign(action: Action) -> char {
    match action {
        Action::Prune => '-',
        Action::Build => '+',
        Action::Rollout | Action::Wait => '~',
        Action::KeptAlthoughRemoved | Action::NeedsAttention => '!',
        Action::Unknown => '?',
        Action::Apply | Action::Drift => ' ',
    }
}

/// Names of the parts of a report.
const BECAUSE: &str = "Because of this change";
const UNKNOWN: &str = "Could not be planned";
const ANYWAY: &str = "Would happen anyway";
const DRIFT: &str = "Drift that nothing corrects";
