//! What `opsy validate` prints: text, and JSON. Pure.

use serde_json::{Value, json};

use super::found::Found;
use super::snippet;
use crate::api::text::without_line_breaks;
use crate::manifest::{Problem, Severity};

/// One line for each problem, and a summary.
pub fn text(set: &Found, verbose: bool) -> String {
    let mut text = String::new();
    for problem in set.problems.iter().filter(|problem| is_shown(problem, verbose)) {
        let line = problem.line.map(|line| format!("{line}:")).unwrap_or_default();
        let mark = if problem.severity == Severity::Error { "" } else { "note: " };
        // A CI system executes a line that looks like one of its commands, so no file name or message may start a line.
        let file = without_line_breaks(&problem.file);
        text += &format!("{file}:{line} {mark}{}\n", without_line_breaks(&problem.message));
    }
    text + &summary(set, verbose)
}

/// Each problem with its line of the file, and a summary.
pub fn snippets(set: &Found, verbose: bool, line: &dyn Fn(&str, usize) -> Option<String>) -> String {
    let snippet = |problem: &Problem| {
        let text = problem.line.and_then(|number| line(&problem.file, number));
        snippet::of(problem, text.as_deref()) + "\n"
    };
    let shown = set.problems.iter().filter(|problem| is_shown(problem, verbose));
    shown.map(snippet).collect::<String>() + &summary(set, verbose)
}

fn is_shown(problem: &Problem, verbose: bool) -> bool {
    verbose || problem.severity != Severity::Foreign
}

fn summary(set: &Found, verbose: bool) -> String {
    let (errors, notes) = (set.count(Severity::Error), set.count(Severity::Note));
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let objects = plural(set.documents.len(), "valid object");
    format!("{objects}, {}, {}{}\n", plural(errors, "error"), plural(notes, "note"), others(set, verbose))
}

/// The part of the summary about files of other tools.
fn others(set: &Found, verbose: bool) -> String {
    let foreign = set.problems.iter().filter(|problem| problem.severity == Severity::Foreign);
    let mut files: Vec<&str> = foreign.map(|problem| problem.file.as_str()).collect();
    files.dedup();
    let how = if verbose { "" } else { " (-v lists them)" };
    match files.len() {
        0 => String::new(),
        1 => format!(", 1 YAML file of other tools{how}"),
        many => format!(", {many} YAML files of other tools{how}"),
    }
}

/// The objects and problems for machines.
pub fn json(set: &Found) -> Value {
    let objects = set.documents.iter().map(|document| {
        let key = &document.object.key;
        json!({
            "kind": document.object.kind,
            "namespace": key.namespace,
            "name": key.name,
            "file": document.file,
            "line": document.line,
        })
    });
    let problems = set.problems.iter().map(|problem| {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Note => "note",
            Severity::Foreign => "ignored",
        };
        json!({"file": problem.file, "line": problem.line, "severity": severity, "message": problem.message})
    });
    json!({
        "objects": objects.collect::<Vec<_>>(),
        "problems": problems.collect::<Vec<_>>(),
        "errors": set.count(Severity::Error),
        "notes": set.count(Severity::Note),
        "ignored": set.count(Severity::Foreign),
    })
}
