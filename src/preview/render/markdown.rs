//! A report as Markdown for a comment on a pull request. Everything that comes from the repository or from AWS is
//! escaped, and the result has at most `LIMIT` bytes: details are cut first, and what is cut is said.

use super::super::report::{Action, Facts, Item, Report};
use super::text::{because, further, sign, unchanged};
use super::{headline, revision};

/// Forges refuse longer comments: GitHub's message names 65,536 characters. The rest is for what is added to the text.
pub const LIMIT: usize = 59_000;
/// Rows of the table: more than a person reads.
const ROWS: usize = 50;
/// Bytes of one cell and of one detail.
const CELL: usize = 300;
const DETAIL: usize = 1_000;
/// The end of a text that was cut.
const CUT: &str = "\nThe details of further objects are cut.\n";

/// The report as Markdown. `link` leads to the whole output.
pub fn markdown(report: &Report, link: Option<&str>) -> String {
    let mut text = format!("### Opsy plan: {}\n\n{}\n", escape(&headline(report), CELL), about(report, link));
    let mut left = Room { text: &mut text, has_cut: false };
    problems(report, &mut left);
    warnings(report, &mut left);
    table(&report.because, &mut left);
    for item in &report.because {
        left.add(&details(item));
    }
    folded("Would happen anyway", &report.anyway, &mut left);
    folded("Drift that nothing corrects", &report.drift, &mut left);
    if let Some(line) = unchanged(&report.unchanged) {
        left.add(&format!("\n{}\n", escape(&line, DETAIL)));
    }
    if left.has_cut {
        text.push_str(CUT);
    }
    text
}

/// A text that takes no more than it has room for.
struct Room<'a> {
    text: &'a mut String,
    has_cut: bool,
}

impl Room<'_> {
    /// Adds a part as a whole, or not at all, so that no fence stays open.
    fn add(&mut self, part: &str) {
        if self.text.len() + part.len() + CUT.len() <= LIMIT {
            self.text.push_str(part);
        } else {
            self.has_cut = true;
        }
    }
}

fn about(report: &Report, link: Option<&str>) -> String {
    let facts = match report.facts {
        Facts::Live => "AWS was read",
        Facts::Recorded => "planned by the published status, without AWS",
    };
    let (head, base) = (revision(&report.head), revision(&report.base));
    // Without the time of the plan: a comment that says the same is not written again.
    let about = format!("{head} onto {base} · {facts}");
    let is_link = |link: &&str| {
        link.starts_with("https://") && !link.contains(|c: char| c.is_whitespace() || "()<>".contains(c))
    };
    let link = link.filter(is_link).map(|link| format!(" · [full output]({link})")).unwrap_or_default();
    escape(&about, CELL) + &link
}

/// Errors of manifests. GitHub shows an alert only at the top level, never in a folded part.
fn problems(report: &Report, room: &mut Room<'_>) {
    if report.problems.is_empty() {
        return;
    }
    let mut text = "\n> [!CAUTION]\n> Manifests are invalid. While they are, nothing is pruned.\n".to_owned();
    for problem in report.problems.iter().take(ROWS) {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        let old = if problem.is_old { " (also without this change)" } else { "" };
        text +=
            &format!("> - {}{line}: {}{old}\n", escape(&problem.file, CELL), escape(&problem.message, CELL));
    }
    room.add(&text);
}

fn warnings(report: &Report, room: &mut Room<'_>) {
    let is_warning = |item: &&Item| {
        matches!(item.action, Action::Prune | Action::KeptAlthoughRemoved | Action::NeedsAttention)
    };
    let warned: Vec<&Item> = report.because.iter().filter(is_warning).take(ROWS).collect();
    if warned.is_empty() {
        return;
    }
    let mut text = "\n> [!WARNING]\n".to_owned();
    for item in warned {
        let details = item.details.first().map(|detail| format!("; {detail}")).unwrap_or_default();
        let line = format!("{}: {}, because {}{details}", item.object, item.what, item.why);
        text += &format!("> - {}\n", escape(&line, DETAIL));
    }
    room.add(&text);
}

fn table(items: &[Item], room: &mut Room<'_>) {
    if items.is_empty() {
        return;
    }
    let mut text = "\n| | object | what | why |\n|---|---|---|---|\n".to_owned();
    for item in items.iter().take(ROWS) {
        let cells = [item.object.as_str(), item.what.as_str(), &because(item)];
        let cells: Vec<String> = cells.iter().map(|cell| escape(cell, CELL)).collect();
        text += &format!("| {} | {} |\n", icon(item.action), cells.join(" | "));
    }
    let more = items.len().saturating_sub(ROWS);
    if more > 0 {
        text += &format!("\n{more} more objects are not in this table.\n");
    }
    room.add(&text);
}

/// Unicode, because short codes are not replaced everywhere.
fn icon(action: Action) -> &'static str {
    match action {
        Action::Prune => "🗑️",
        Action::KeptAlthoughRemoved | Action::NeedsAttention => "⚠️",
        Action::Build => "🔨",
        Action::Rollout => "🔁",
        Action::Wait => "⏳",
        Action::Unknown => "❔",
        Action::Apply => "📝",
        Action::Drift => "↔️",
    }
}

/// One object, folded, with its verdict in the line that stays visible.
fn details(item: &Item) -> String {
    let file = item.file.as_ref().map(|file| format!(" · {}", escape(file, CELL))).unwrap_or_default();
    let summary =
        format!("{} {} · {}{file}", icon(item.action), escape(&item.object, CELL), escape(&item.what, CELL));
    format!("\n<details><summary>{summary}</summary>\n\n{}</details>\n", fence(item))
}

fn folded(title: &str, items: &[Item], room: &mut Room<'_>) {
    if items.is_empty() {
        return;
    }
    let objects: Vec<&str> = items.iter().map(|item| item.object.as_str()).take(ROWS).collect();
    let mut text =
        format!("\n<details><summary>{title}: {}</summary>\n\n", escape(&objects.join(", "), DETAIL));
    for item in items.iter().take(ROWS) {
        text += &fence(item);
    }
    room.add(&(text + "</details>\n"));
}

/// The lines of an item in a fence, in which nothing is interpreted.
fn fence(item: &Item) -> String {
    let head = format!("{} {}: {}", sign(item.action), item.object, item.what);
    let further = further(item).into_iter().map(|line| format!("    {line}"));
    let lines: Vec<String> = std::iter::once(head).chain(further).map(|line| literal(&line)).collect();
    format!("```diff\n{}\n```\n", lines.join("\n"))
}

/// A line that cannot end a fence.
fn literal(text: &str) -> String {
    let plain: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    cut(&plain.replace("```", "'''"), DETAIL)
}

/// Text in which Markdown and HTML have no meaning, no user is mentioned and nothing becomes a link.
pub fn escape(text: &str, most: usize) -> String {
    let mut escaped = String::new();
    for char in cut(text, most).chars() {
        match char {
            '&' | '<' | '>' | '|' | '`' | '*' | '_' | '[' | ']' | '#' | '@' | '~' | '\\' | '$' | '!' => {
                escaped.push_str(&format!("&#{};", u32::from(char)));
            }
            char if char.is_control() => escaped.push(' '),
            char => escaped.push(char),
        }
    }
    escaped.replace("://", "&#58;//").replace("www.", "www&#46;")
}

/// At most this many bytes of a text.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
