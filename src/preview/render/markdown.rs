//! A report as Markdown for a comment on a pull request. Everything that comes from the repository or from AWS is
//! escaped, and the result has at most `LIMIT` bytes: what must not be overlooked comes first and has room of its own,
//! details are cut first, and what is cut is said.

use super::super::report::{Action, Finding, Item, Report};
use super::escape::{escape, literal};
use super::page::{Page, Part};
use super::{ANYWAY, DRIFT, UNKNOWN, closing, compared, facts, further, headline, reason, settings, sign};

/// Forges refuse longer comments: GitHub's message names 65,536 characters. The rest is for what is added to the text.
pub const LIMIT: usize = 59_000;
/// The end of a text that was cut, and the room for it.
const CUT: &str = "\nThis comment is not complete.\n";
/// Bytes of each part that must not be overlooked. All of them, and the line below the title, fit in any case.
const ALERT: usize = 3_500;
/// Bytes of each table and of the rest, so that a long one leaves room for what follows.
const TABLE: usize = 16_000;
/// Names in the visible line of a folded part.
const NAMES: usize = 50;
/// Bytes of a name, of a cell and of a line.
const NAME: usize = 150;
const CELL: usize = 700;
const LINE: usize = 300;
/// Lines of a folded item.
const LINES: usize = 40;

/// The report as Markdown. `link` leads to the whole output.
pub fn markdown(report: &Report, link: Option<&str>) -> String {
    let of =
        if report.target == "." { String::new() } else { format!(" of {}", escape(&report.target, NAME)) };
    let title =
        format!("### Opsy plan{of}: {}\n\n{}\n", escape(&headline(report), CELL), about(report, link));
    let mut page = Page::new(title, LIMIT - CUT.len());
    settings::markdown(&report.settings, &mut page);
    alerts(report, &mut page);
    table("", "what", &report.because, &mut page);
    table(&format!("\n#### {UNKNOWN}\n"), "", &report.unknown, &mut page);
    let folds = report.because.iter().chain(&report.unknown).filter_map(fold).collect();
    page.add(&Part {
        head: "\n",
        items: folds,
        foot: "",
        room: TABLE,
        more: |cut| format!("The details of {cut} more objects are left out.\n"),
    });
    folded(ANYWAY, &report.anyway, &mut page);
    folded(DRIFT, &report.drift, &mut page);
    let closing = closing(report).iter().map(|line| format!("\n{}\n", escape(line, CELL))).collect();
    page.add(&Part { head: "", items: closing, foot: "", room: TABLE, more: |_| String::new() });
    page.finish(CUT)
}

/// What was compared. Without the time of the plan: a comment that says the same is not written again.
fn about(report: &Report, link: Option<&str>) -> String {
    let is_link = |link: &&str| {
        link.starts_with("https://")
            && link.len() <= CELL
            && !link.contains(|c: char| c.is_whitespace() || "()<>".contains(c))
    };
    let link = link.filter(is_link).map(|link| format!(" · [full output]({link})")).unwrap_or_default();
    escape(&format!("{}; {}", compared(report), facts(report)), CELL) + &link
}

/// Names what must not be overlooked. GitHub shows an alert only at the top level, never in a folded part.
fn alerts(report: &Report, page: &mut Page) {
    let all = [
        ("Pruned", Action::Prune),
        ("Not pruned, although removed", Action::KeptAlthoughRemoved),
        ("Needs attention", Action::NeedsAttention),
        (UNKNOWN, Action::Unknown),
    ];
    let mut begin = "\n> [!WARNING]\n";
    for (title, action) in all {
        let items = report.because.iter().chain(&report.unknown).filter(|item| item.action == action);
        let names: Vec<&str> = items.map(|item| item.object.as_str()).collect();
        let head = format!("{begin}> - **{title}:** ");
        page.add(&Part {
            head: &head,
            items: listed(&names),
            foot: "\n",
            room: ALERT,
            more: |cut| format!(" and {cut} more"),
        });
        begin = if names.is_empty() { begin } else { "" };
    }
    page.add(&Part {
        head: "\n> [!CAUTION]\n> While a manifest is invalid, nothing is pruned.\n",
        items: report.problems.iter().map(problem).collect(),
        foot: "",
        room: 2 * ALERT,
        more: |cut| format!("> - and {cut} more errors\n"),
    });
}

/// Names with commas between them.
fn listed(names: &[&str]) -> Vec<String> {
    let one = |(place, name): (usize, &&str)| {
        let comma = if place == 0 { "" } else { ", " };
        format!("{comma}{}", escape(name, NAME))
    };
    names.iter().enumerate().map(one).collect()
}

fn problem(problem: &Finding) -> String {
    let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
    let old = if problem.is_old { " (also in the base)" } else { "" };
    let (file, message) = (escape(&problem.file, LINE), escape(&problem.message, CELL));
    format!("> - {file}{line}: {message}{old}\n")
}

/// One row per object. Without a title for what happens, the column is left out.
fn table(title: &str, what: &str, items: &[Item], page: &mut Page) {
    let row = |item: &Item| {
        let mut cells = vec![icon(item.action).to_owned(), escape(&item.object, NAME)];
        if !what.is_empty() {
            cells.push(escape(&item.what, LINE));
        }
        cells.push(escape(&reason(item), CELL));
        format!("| {} |\n", cells.join(" | "))
    };
    let columns = match what {
        "" => "\n| | object | why |\n|---|---|---|\n".to_owned(),
        what => format!("\n| | object | {what} | why |\n|---|---|---|---|\n"),
    };
    page.add(&Part {
        head: &format!("{title}{columns}"),
        items: items.iter().map(row).collect(),
        foot: "",
        room: TABLE,
        more: |cut| format!("\n{cut} more objects are not in this table.\n"),
    });
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

/// What the table does not say of an object; `None` if that is nothing.
fn fold(item: &Item) -> Option<String> {
    let lines = further(item);
    if lines.is_empty() {
        return None;
    }
    let (object, what) = (escape(&item.object, NAME), escape(&item.what, LINE));
    let summary = format!("{} {object}: {what}", icon(item.action));
    Some(format!("<details><summary>{summary}</summary>\n\n{}\n</details>\n", fence(&lines)))
}

/// A part that is read only on demand, with the names of its objects in the line that stays visible.
fn folded(title: &str, items: &[Item], page: &mut Page) {
    let rest = (items.len() > NAMES).then_some("…");
    let names: Vec<&str> = items.iter().take(NAMES).map(|item| item.object.as_str()).chain(rest).collect();
    let names = escape(&names.join(", "), CELL);
    let one = |item: &Item| {
        let head = format!("{} {}: {}", sign(item.action), item.object, item.what);
        let rest = [reason(item)].into_iter().chain(further(item)).map(|line| format!("    {line}"));
        fence(&[head].into_iter().chain(rest).collect::<Vec<_>>())
    };
    page.add(&Part {
        head: &format!("\n<details><summary>{title}: {names}</summary>\n\n"),
        items: items.iter().map(one).collect(),
        foot: "</details>\n",
        room: TABLE / 2,
        more: |cut| format!("{cut} more objects are left out.\n"),
    });
}

/// Lines in a fence, in which nothing is interpreted.
fn fence(lines: &[String]) -> String {
    let more = lines.len().saturating_sub(LINES);
    let shown = lines.iter().take(LINES).map(|line| literal(line, LINE));
    let more = (more > 0).then(|| format!("    … and {more} more lines"));
    let all: Vec<String> = shown.chain(more).collect();
    format!("```diff\n{}\n```\n", all.join("\n"))
}
