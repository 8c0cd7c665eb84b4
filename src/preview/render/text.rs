//! A report for a terminal. Characters of names and messages that are not visible are removed.

use super::super::report::{Facts, Item, Report};
use super::escape::visible;
use super::{ANYWAY, BECAUSE, DRIFT, UNKNOWN, closing, compared, facts, further, headline, reason, sign};

/// The report as text.
pub fn text(report: &Report) -> String {
    let at = match report.facts {
        Facts::Live => report.planned_at.strftime(" at %H:%M UTC").to_string(),
        Facts::Recorded => String::new(),
    };
    let mut lines = vec![
        format!("Opsy plan: {}", headline(report)),
        format!("{}; {}{at}", compared(report), facts(report)),
        String::new(),
    ];
    for problem in &report.problems {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        let old = if problem.is_old { " (also in the base)" } else { "" };
        lines.push(format!("  error: {}{line}: {}{old}", problem.file, problem.message));
    }
    if !report.problems.is_empty() {
        lines.push("  While a manifest is invalid, nothing is pruned.".to_owned());
        lines.push(String::new());
    }
    lines.extend(super::settings::text(&report.settings));
    part(UNKNOWN, &report.unknown, &mut lines);
    part(BECAUSE, &report.because, &mut lines);
    part(ANYWAY, &report.anyway, &mut lines);
    part(DRIFT, &report.drift, &mut lines);
    lines.extend(closing(report));
    let lines: Vec<String> = lines.iter().map(|line| visible(line)).collect();
    lines.join("\n").trim_end().to_owned() + "\n"
}

fn part(title: &str, items: &[Item], lines: &mut Vec<String>) {
    if items.is_empty() {
        return;
    }
    lines.push(format!("{title}:"));
    for item in items {
        lines.push(format!("  {} {}: {}", sign(item.action), item.object, item.what));
        lines.push(format!("      {}", reason(item)));
        lines.extend(further(item).into_iter().map(|line| format!("      {line}")));
    }
    lines.push(String::new());
}
