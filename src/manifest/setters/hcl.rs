//! Markers in HCL, such as Terraform's files. A small scanner tells comments from strings and here-documents. Pure.

use super::{Marked, Style, marker};
use crate::api::ImageId;

const NO_VALUE: &str = "the marker has no string before it on its line: write it after a value in quotes";
const EXPRESSION: &str = "the value before the marker contains an expression: write a plain string";

/// A string, as far as it is read.
struct Literal {
    start: usize,
    end: usize,
    /// It contains `${` or `%{`, or is a part of an expression, such as an index or an argument of a function that is not
    /// an image.
    is_expression: bool,
}

/// What a string directly in a bracket is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// A value, such as an item of a list.
    Value,
    /// An argument of a function. One that names an image, such as the default of `coalesce`, is a value.
    Call,
    Index,
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    /// The last string of the line, if only brackets and commas follow it.
    last: Option<Literal>,
    /// The open brackets.
    open: Vec<Within>,
    /// The last two characters that are neither space nor comment, the later one first.
    before: [char; 2],
    found: Vec<Marked>,
}

/// Returns the markers, with the string before each.
pub(super) fn find(text: &str) -> Vec<Marked> {
    let (open, before, found) = (Vec::new(), ['\n'; 2], Vec::new());
    let mut scanner = Scanner { text, at: 0, line: 1, last: None, open, before, found };
    while scanner.step() {}
    scanner.found
}

/// Whether a string with its quotes is the ID of an image.
fn is_image(literal: &str) -> bool {
    let text = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    text.is_some_and(|text| ImageId::parse(text).is_ok())
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Reads the next token. Returns false at the end.
    fn step(&mut self) -> bool {
        let rest = self.rest();
        let Some(next) = rest.chars().next() else { return false };
        if rest.starts_with('#') || rest.starts_with("//") {
            self.comment();
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").map_or(rest.len(), |end| end + 2);
            self.skip(end);
        } else if rest.starts_with("<<") {
            self.here_document();
        } else if next == '"' {
            let start = self.at;
            let is_compared = matches!(self.before, ['=', '=' | '!']);
            let is_template = self.string();
            let is_part = match self.open.last() {
                Some(Within::Call) => !is_image(&self.text[start..self.at]),
                Some(Within::Index) => true,
                Some(Within::Value) | None => false,
            };
            let is_expression = is_template || is_compared || is_part;
            self.last = Some(Literal { start, end: self.at, is_expression });
            self.passed('"');
        } else {
            match next {
                '\n' => (self.line, self.last) = (self.line + 1, None),
                ' ' | '\t' | '\r' | ',' | ')' | ']' | '}' => {}
                _ => self.last = None,
            }
            match next {
                '(' | '[' | '{' => self.open(next),
                ')' | ']' | '}' => drop(self.open.pop()),
                _ => {}
            }
            self.passed(next);
            self.at += next.len_utf8();
        }
        true
    }

    /// Notes a bracket that opens.
    fn open(&mut self, bracket: char) {
        // Behind a value: an index, or the arguments of a function.
        let follows = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '*' | '"' | ')' | ']' | '}');
        let within = match bracket {
            '(' if follows(self.before[0]) => Within::Call,
            '[' if follows(self.before[0]) => Within::Index,
            '(' => self.open.last().copied().unwrap_or(Within::Value),
            _ => Within::Value,
        };
        self.open.push(within);
    }

    /// Notes a character that can belong to an expression.
    fn passed(&mut self, next: char) {
        if next == '\n' || !next.is_whitespace() {
            self.before = [next, self.before[0]];
        }
    }

    /// Skips these bytes, which are no value.
    fn skip(&mut self, length: usize) {
        let lines = self.rest()[..length].matches('\n').count();
        if lines > 0 {
            self.last = None;
        }
        (self.at, self.line) = (self.at + length, self.line + lines);
    }

    /// Reads a comment to the end of its line.
    fn comment(&mut self) {
        let rest = self.rest();
        let length = rest.find('\n').unwrap_or(rest.len());
        let found = marker(rest[..length].trim_start_matches(['#', '/'])).map(str::to_owned);
        if let Some(marker) = found {
            let value = match self.last.take() {
                None => Err(NO_VALUE),
                Some(literal) if literal.is_expression => Err(EXPRESSION),
                Some(literal) => Ok((literal.start..literal.end, Style::Hcl)),
            };
            self.found.push(Marked { line: self.line, marker, value });
        }
        self.at += length;
    }

    /// Skips a here-document with its last line, in which only its name is.
    fn here_document(&mut self) {
        let rest = self.rest();
        let name = rest[2..].trim_start_matches('-');
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let name = &name[..name.find(|c| !is_name(c)).unwrap_or(name.len())];
        if name.is_empty() {
            return self.skip(2);
        }
        let mut length = 0;
        for (number, line) in rest.split_inclusive('\n').enumerate() {
            length += line.len();
            if number > 0 && line.trim() == name {
                break;
            }
        }
        self.skip(length);
    }

    /// Reads a string to its closing quote, or to the end of the line. Returns whether it contains an expression.
    fn string(&mut self) -> bool {
        let mut is_template = false;
        self.at += 1;
        while let Some(next) = self.rest().chars().next() {
            let rest = self.rest();
            match next {
                '"' => {
                    self.at += 1;
                    break;
                }
                '\n' => break,
                '\\' => self.at += 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                '$' | '%' if rest[1..].starts_with(next) && rest[2..].starts_with('{') => self.at += 3,
                '$' | '%' if rest[1..].starts_with('{') => {
                    is_template = true;
                    self.at += 2;
                    self.expression();
                }
                _ => self.at += next.len_utf8(),
            }
        }
        is_template
    }

    /// Skips an expression in a string to its closing bracket, or to the end of the line. It can contain strings.
    fn expression(&mut self) {
        let mut depth = 1;
        while let Some(next) = self.rest().chars().next() {
            match next {
                '\n' => return,
                '"' => {
                    self.string();
                    continue;
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            self.at += next.len_utf8();
            if depth == 0 {
                return;
            }
        }
    }
}
