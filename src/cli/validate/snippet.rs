//! A problem for a terminal: the message, the line of the file, and a caret under the place. Pure.

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use super::place;
use crate::manifest::{Problem, Severity};

/// Longer lines are not shown: no manifest has one, and a terminal does not show it in one row.
const LONGEST: usize = 500;

/// The problem with its line, if that is known.
pub fn of(problem: &Problem, line: Option<&str>) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Note | Severity::Foreign => Level::NOTE,
    };
    let title = level.primary_title(problem.message.as_str());
    let shown = line.filter(|line| line.len() <= LONGEST).zip(problem.line);
    let report = match shown {
        Some((text, number)) => {
            let snippet = Snippet::source(text).line_start(number).path(problem.file.as_str());
            title.element(
                snippet.annotation(AnnotationKind::Primary.span(place::part(text, &problem.message))),
            )
        }
        None => {
            let origin = Origin::path(problem.file.as_str());
            title.element(match problem.line {
                Some(number) => origin.line(number),
                None => origin,
            })
        }
    };
    Renderer::plain().render(&[report]) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: Option<usize>) -> Problem {
        let (file, message) = ("builders/node.yaml".to_owned(), "spec.bogus: unknown field".to_owned());
        Problem { file, line, message, severity: Severity::Error }
    }

    #[test]
    fn a_caret_is_under_the_place() {
        let text = of(&problem(Some(7)), Some("  bogus: 1"));
        let expected = "error: spec.bogus: unknown field\n --> builders/node.yaml:7:3\n  |\n7 |   bogus: 1\n  |   ^^^^^\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_the_line_the_place_is_named() {
        for (line, expected) in [(Some(7), "builders/node.yaml:7"), (None, "builders/node.yaml")] {
            let text = of(&problem(line), None);
            assert!(text.contains(expected) && !text.contains('^'), "{text}");
        }
    }
}
