//! A report for a terminal. Control characters of names and messages are removed.

use super::super::report::{Action, Facts, GroupMove, Item, Report};
use super::super::words::seconds;
use super::{headline, revision};
use crate::api::time::to_second;

/// At most this many unchanged objects are named.
const NAMED: usize = 10;

/// The report as text.
pub fn text(report: &Report) -> String {
    let mut lines = vec![format!("Opsy plan: {}", headline(report)), about(report), String::new()];
    for problem in &report.problems {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        lines.push(format!("  error: {}{line}: {}", problem.file, problem.message));
    }
    if !report.problems.is_empty() {
        lines.push("  While a manifest is invalid, nothing is pruned.".to_owned());
        lines.push(String::new());
    }
    part("Because of this change:", &report.because, &mut lines);
    part("Would happen anyway:", &report.anyway, &mut lines);
    part("Drift that nothing corrects:", &report.drift, &mut lines);
    lines.extend(unchanged(&report.unchanged));
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    lines.join("\n").trim_end().to_owned() + "\n"
}

/// Which trees were compared, and by which facts.
pub fn about(report: &Report) -> String {
    let facts = match report.facts {
        Facts::Live => "AWS was read",
        Facts::Recorded => "by the published status, without AWS",
    };
    let (head, base) = (revision(&report.head), revision(&report.base));
    format!("{head} onto {base}, {facts}, at {}", to_second(report.planned_at))
}

fn part(title: &str, items: &[Item], lines: &mut Vec<String>) {
    if items.is_empty() {
        return;
    }
    lines.push(title.to_owned());
    for item in items {
        lines.push(format!("  {} {}: {}", sign(item.action), item.object, item.what));
        lines.extend(further(item).into_iter().map(|line| format!("      {line}")));
    }
    lines.push(String::new());
}

/// The sign of an action, as in a diff.
pub fn sign(action: Action) -> char {
    match action {
        Action::Prune => '-',
        Action::Build => '+',
        Action::Rollout | Action::Wait => '~',
        Action::KeptAlthoughRemoved | Action::NeedsAttention | Action::Unknown => '!',
        Action::Apply | Action::Drift => ' ',
    }
}

/// The reason of an item, and how long it takes.
pub fn because(item: &Item) -> String {
    let usual = item.usual_seconds.map(|usual| format!("; the last build took {}", seconds(usual)));
    format!("{}{}", item.why, usual.unwrap_or_default())
}

/// Everything about an item but its action.
pub fn further(item: &Item) -> Vec<String> {
    let mut lines = vec![because(item)];
    if !item.fields.is_empty() {
        lines.push(format!("changed: {}", item.fields.join(", ")));
    }
    lines.extend(item.groups.iter().map(group));
    lines.extend(item.details.iter().cloned());
    lines
}

fn group(group: &GroupMove) -> String {
    let nodes =
        group.nodes.map(|nodes| format!(", {}", super::count(nodes as usize, "node"))).unwrap_or_default();
    let from = group.from.as_deref().unwrap_or("an unknown image");
    format!("{}{nodes}: {from} → {}", group.name, group.to)
}

/// Names the objects with which nothing happens, in one line.
pub fn unchanged(objects: &[String]) -> Option<String> {
    let named = objects.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match objects.len() {
        0 => None,
        all if all > NAMED => Some(format!("No change: {named} (and {} more)", all - NAMED)),
        _ => Some(format!("No change: {named}")),
    }
}

fn plain(line: &str) -> String {
    line.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}
