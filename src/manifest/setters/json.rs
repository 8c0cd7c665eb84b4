//! Values in JSON, which has no comments: they are at pointers (RFC 6901). Pure.

use std::ops::Range;

use serde_json::Value;

use super::{Place, Places, Reference, Style, problem};

/// Returns the places of all pointers.
pub(super) fn find(text: &str, values: &[(String, Reference)]) -> Places {
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let whole: Value = serde_json::from_str(body)
        .map_err(|error| vec![problem(error.line().max(1), format!("is not JSON: {error}"))])?;
    let (mut places, mut problems) = (Vec::new(), Vec::new());
    for (pointer, reference) in values {
        let bytes = match whole.pointer(pointer) {
            Some(Value::String(_)) => Scanner { text, at: text.len() - body.len() }.find(&steps(pointer)),
            Some(_) => {
                problems.push(problem(1, format!("the value at {pointer} is not a string: quote it")));
                continue;
            }
            None => None,
        };
        match bytes {
            Some(bytes) => {
                let line = 1 + text[..bytes.start].matches('\n').count();
                places.push(Place { line, bytes, style: Style::Json, reference: reference.clone() });
            }
            None => {
                problems.push(problem(1, format!("has no value at {pointer}: add it, or correct opsy.yaml")))
            }
        }
    }
    places.sort_by_key(|place| place.bytes.start);
    for pair in places.windows(2).filter(|pair| pair[0].bytes == pair[1].bytes) {
        let message = "is set by two setters of opsy.yaml: remove one".to_owned();
        problems.push(problem(pair[0].line, message));
    }
    if problems.is_empty() { Ok(places) } else { Err(problems) }
}

/// Returns a JSON string.
pub(super) fn string(value: &str) -> String {
    Value::String(value.to_owned()).to_string()
}

fn steps(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

/// Scans valid JSON.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    /// Returns the place of the value that these steps lead to. Of members with the same name, the last one counts.
    fn find(&mut self, steps: &[String]) -> Option<Range<usize>> {
        self.blanks();
        let Some((step, rest)) = steps.split_first() else {
            let start = self.at;
            self.value();
            return Some(start..self.at);
        };
        let is_map = self.next() == Some(b'{');
        if !is_map && self.next() != Some(b'[') {
            return None;
        }
        self.at += 1;
        let (mut found, mut index) = (None, 0);
        loop {
            self.blanks();
            match self.next()? {
                b'}' | b']' => return found,
                b',' => {
                    self.at += 1;
                    continue;
                }
                _ => {}
            }
            let name = if is_map { self.name()? } else { index.to_string() };
            index += 1;
            let value = self.at;
            if name == *step {
                found = Scanner { text: self.text, at: value }.find(rest);
            }
            self.blanks();
            self.value();
        }
    }

    /// Reads the name of a member and the colon after it.
    fn name(&mut self) -> Option<String> {
        let start = self.at;
        self.value();
        let name = serde_json::from_str(&self.text[start..self.at]).ok();
        self.blanks();
        self.at += 1;
        name
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.next().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Skips a value.
    fn value(&mut self) {
        let mut depth = 0;
        while let Some(next) = self.next() {
            match next {
                b'"' => self.quoted(),
                b'{' | b'[' => (depth, self.at) = (depth + 1, self.at + 1),
                b'}' | b']' | b',' if depth == 0 => return,
                b'}' | b']' => (depth, self.at) = (depth - 1, self.at + 1),
                b',' | b':' => self.at += 1,
                next if next.is_ascii_whitespace() => self.at += 1,
                _ => self.word(),
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn quoted(&mut self) {
        self.at += 1;
        while let Some(next) = self.next() {
            self.at += if next == b'\\' { 2 } else { 1 };
            if next == b'"' {
                return;
            }
        }
    }

    /// Skips a number, `true`, `false` or `null`.
    fn word(&mut self) {
        let is_end = |byte: u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
        while self.next().is_some_and(|byte| !is_end(byte)) {
            self.at += 1;
        }
    }
}
