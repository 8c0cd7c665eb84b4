//! Markers in YAML: the parser tells comments from text, and where each value starts and ends. Pure.

use std::ops::Range;

use serde_saphyr::granit_parser::{self as granit, Event, ScalarStyle, Span};

use super::{Marked, SetterProblem, Style, marker, problem};
use crate::manifest::yaml::resolve;

const NO_VALUE: &str = "the marker has no value before it in its line";
const LAYOUT: &str =
    "the value before the marker cannot be edited: write it in one line, as key: value # marker";
/// What readers of YAML 1.1 do not read as a string.
const WORDS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];

/// Returns the markers of all documents, with the value before each.
pub(super) fn find(text: &str) -> Result<Vec<Marked>, SetterProblem> {
    let parser = granit::Parser::new_from_str_with_options(text, granit::options! { emit_comments: true });
    let mut reader = Reader::default();
    for event in parser {
        let (event, span) = event.map_err(|error| problem(error.marker().line().max(1), error.info()))?;
        reader.read(event, &span, text);
    }
    Ok(reader.marked())
}

/// A collection that is open.
enum Open {
    List,
    /// Whether the next node is a key.
    Map(bool),
}

/// A scalar that is no key: its last line, and its place if it can be edited.
struct Scalar {
    line: usize,
    end: usize,
    place: Option<(Range<usize>, Style)>,
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    scalars: Vec<Scalar>,
    /// Line, start and text.
    markers: Vec<(usize, usize, String)>,
}

impl Reader {
    fn read(&mut self, event: Event<'_>, span: &Span, text: &str) {
        match event {
            Event::Comment(comment, _) => {
                if let (Some(found), Some(start)) = (marker(&comment), span.start.byte_offset()) {
                    self.markers.push((span.start.line(), start, found.to_owned()));
                }
            }
            Event::Scalar(value, style, ..) => {
                let is_key = self.is_key();
                self.scalars.extend(scalar(text, span, &value, style).filter(|_| !is_key));
            }
            Event::SequenceStart(..) => {
                self.is_key();
                self.open.push(Open::List);
            }
            Event::MappingStart(..) => {
                self.is_key();
                self.open.push(Open::Map(true));
            }
            Event::SequenceEnd | Event::MappingEnd => drop(self.open.pop()),
            event if event.is_node() => {
                self.is_key();
            }
            _ => {}
        }
    }

    /// Returns whether the node that starts here is a key.
    fn is_key(&mut self) -> bool {
        match self.open.last_mut() {
            Some(Open::Map(is_key)) => std::mem::replace(is_key, !*is_key),
            _ => false,
        }
    }

    fn marked(self) -> Vec<Marked> {
        let Self { scalars, markers, .. } = self;
        let before = |line: usize, start: usize| {
            scalars
                .iter()
                .filter(|scalar| scalar.line == line && scalar.end <= start)
                .max_by_key(|scalar| scalar.end)
        };
        let marked = |(line, start, marker): (usize, usize, String)| {
            let value =
                before(line, start).ok_or(NO_VALUE).and_then(|found| found.place.clone().ok_or(LAYOUT));
            Marked { line, marker, value }
        };
        markers.into_iter().map(marked).collect()
    }
}

/// Returns a scalar, unless nothing is written.
fn scalar(text: &str, span: &Span, value: &str, style: ScalarStyle) -> Option<Scalar> {
    let (start, end) = (span.start.byte_offset()?, span.end.byte_offset()?);
    let written = text.get(start..end)?.trim_end();
    if written.is_empty() {
        return None;
    }
    let end = start + written.len();
    let style = match style {
        ScalarStyle::Plain if written == value => Some(Style::YamlPlain),
        ScalarStyle::SingleQuoted if is_quoted(written, '\'') => Some(Style::YamlSingle),
        ScalarStyle::DoubleQuoted if is_quoted(written, '"') => Some(Style::YamlDouble),
        _ => None,
    };
    let style = style.filter(|_| !written.contains('\n'));
    let line = span.start.line() + written.matches('\n').count();
    Some(Scalar { line, end, place: style.map(|style| (start..end, style)) })
}

fn is_quoted(text: &str, quote: char) -> bool {
    text.len() >= 2 && text.starts_with(quote) && text.ends_with(quote)
}

/// Whether every reader takes a text without quotes as this string.
pub(super) fn is_plain(value: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.chars().all(is_safe)
        && resolve(value).is_string()
        && !WORDS.contains(&value.to_ascii_lowercase().as_str())
}
