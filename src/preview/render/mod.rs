//! A report as text for a terminal, as Markdown for a comment, and as JSON.

mod markdown;
mod text;

use super::report::{Action, Counts, Report, Revision};
use super::words::count;
pub use markdown::{LIMIT, markdown};
pub use text::text;

/// What the change does, in one line.
pub fn headline(report: &Report) -> String {
    let errors = report.problems.iter().filter(|problem| !problem.is_old).count();
    let Counts { builds, node_groups, pruned } = report.changes;
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(count(errors, "error"));
    }
    if pruned > 0 {
        parts.push(format!("{} pruned", count(pruned, "object")));
    }
    if builds > 0 {
        parts.push(count(builds, "build"));
    }
    if node_groups > 0 {
        parts.push(format!(
            "{} {}",
            count(node_groups, "node group"),
            if node_groups == 1 { "rolls" } else { "roll" }
        ));
    }
    let attention = report.because.iter().filter(|item| item.action == Action::NeedsAttention).count();
    if attention > 0 {
        parts.push(format!(
            "{} attention",
            if attention == 1 { "1 object needs".to_owned() } else { format!("{attention} objects need") }
        ));
    }
    if parts.is_empty() {
        let applied = report.because.iter().filter(|item| item.action == Action::Apply).count();
        return match applied {
            0 if report.because.is_empty() => "no changes".to_owned(),
            0 => "the effect is unknown".to_owned(),
            applied => format!("no build, no rollout; {} updated", count(applied, "object")),
        };
    }
    parts.join(", ")
}

/// A revision for people.
fn revision(revision: &Revision) -> String {
    match &revision.commit {
        Some(commit) => {
            let short = &commit[..commit.len().min(9)];
            if revision.name.starts_with(short) {
                short.to_owned()
            } else {
                format!("{} ({short})", revision.name)
            }
        }
        None => revision.name.clone(),
    }
}
