//! The changed settings of a report. Pure.

use super::super::report::Setting;
use super::super::words::count;
use super::escape::escape;
use super::page::{Page, Part};

/// Bytes of a changed value and of what it means.
const LINE: usize = 500;
/// Bytes of each of the two parts: every setting of `opsy.yaml` fits, so that no change to a guard is left out.
const ROOM: usize = 8_000;

/// What changes, in a few words: the names of what a reader must not miss, else a number.
pub fn headline(settings: &[Setting]) -> Option<String> {
    let warned: Vec<&str> =
        settings.iter().filter(|setting| setting.is_warning).map(|setting| setting.name.as_str()).collect();
    match (warned.as_slice(), settings.len()) {
        ([], 0) => None,
        ([], number) => Some(format!("{} changed", count(number, "setting"))),
        (warned, _) => Some(format!("{} changed", warned.join(" and "))),
    }
}

/// The part of a terminal.
pub fn text(settings: &[Setting]) -> Vec<String> {
    if settings.is_empty() {
        return Vec::new();
    }
    let lines = settings.iter().flat_map(|setting| {
        let sign = if setting.is_warning { '!' } else { ' ' };
        [format!("  {sign} {}", change(setting)), format!("      {}", setting.effect)]
    });
    let title = "Settings in opsy.yaml:".to_owned();
    std::iter::once(title).chain(lines).chain([String::new()]).collect()
}

/// The parts of a comment.
pub fn markdown(settings: &[Setting], page: &mut Page) {
    let line = |setting: &Setting| {
        let (change, effect) = (escape(&change(setting), LINE), escape(&setting.effect, LINE));
        format!("- {change}: {effect}\n")
    };
    let (warned, others): (Vec<&Setting>, Vec<&Setting>) =
        settings.iter().partition(|setting| setting.is_warning);
    page.add(&Part {
        head: "\n> [!WARNING]\n> Settings in opsy.yaml change what belongs to the agent or what it may do:\n",
        items: warned.into_iter().map(|setting| format!("> {}", line(setting))).collect(),
        foot: "",
        room: ROOM,
        more: |cut| format!("> - and {cut} more\n"),
    });
    page.add(&Part {
        head: "\nSettings in opsy.yaml:\n\n",
        items: others.into_iter().map(line).collect(),
        foot: "",
        room: ROOM,
        more: |cut| format!("- and {cut} more\n"),
    });
}

fn change(setting: &Setting) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "(default)".to_owned());
    match (&setting.from, &setting.to) {
        (None, None) => setting.name.clone(),
        (from, to) => format!("{}: {} → {}", setting.name, value(from), value(to)),
    }
}
