//! One line of Packer's output: machine-readable facts, text for people, or neither. Pure. `tally` adds the
//! lines up.

/// One line of Packer's standard output or error.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// Text for people.
    Say(String),
    /// Text for people in red: also everything a provisioner prints to its standard error.
    Complain(String),
    /// Why a build failed.
    BuildError { build: String, message: String },
    /// `region:image` pairs, or anything else another builder calls its artifact.
    ArtifactId { build: String, id: String },
    /// Counts and other lines that state nothing of interest.
    Machine,
    /// Not machine-readable: a crash, a log on standard error.
    Plain(String),
}

/// Reads one line of standard output: `time,target,type,data…`. Packer escapes commas in the data, but not in the
/// target, which is the name of a build: from the end the fields are unambiguous.
pub fn parse(raw: &str) -> Line {
    let raw = raw.trim_end_matches(['\r', '\n']);
    let Some((time, rest)) = raw.split_once(',') else {
        return plain(raw);
    };
    let fields: Vec<&str> = rest.split(',').collect();
    if time.is_empty() || !time.bytes().all(|b| b.is_ascii_digit()) || fields.len() < 2 {
        return plain(raw);
    }
    if let ["", "ui", data @ ..] = fields.as_slice() {
        return match data {
            ["error", text] => Line::Complain(readable(&unescape(text))),
            [_, text] => Line::Say(readable(&unescape(text))),
            _ => Line::Machine,
        };
    }
    match fields.as_slice() {
        [name @ .., "artifact", number, "id", id] if !name.is_empty() && is_number(number) => {
            Line::ArtifactId { build: name.join(","), id: unescape(id) }
        }
        [name @ .., "error", message] if !name.is_empty() => {
            Line::BuildError { build: name.join(","), message: readable(&unescape(message)) }
        }
        _ => Line::Machine,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A line that is text whatever it looks like.
pub fn plain(raw: &str) -> Line {
    Line::Plain(readable(raw.trim_end_matches(['\r', '\n'])))
}

fn unescape(field: &str) -> String {
    field.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n").replace("\\r", "\r")
}

/// Without terminal control sequences: remote commands colour their output.
fn readable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next_if_eq(&'[').is_some() {
                    while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                    chars.next();
                }
            }
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// `text` in at most `most` bytes, its end replaced by an ellipsis where it was cut.
pub fn cut(text: &str, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end])
}

/// Reads one line of a pipe. A line whose end was dropped (`whole` is false) names no artifact.
pub fn read(raw: &[u8], whole: bool, machine: bool) -> Line {
    let text = String::from_utf8_lossy(raw);
    match (machine, whole) {
        (false, _) => plain(&text),
        (true, true) => parse(&text),
        (true, false) => match parse(without_cut_escape(&text)) {
            Line::ArtifactId { .. } => Line::Machine,
            line => line,
        },
    }
}

/// Half an escape at the end would hide where a secret begins.
fn without_cut_escape(text: &str) -> &str {
    const LONGEST_ESCAPE: usize = "%!(PACKER_COMMA)".len();
    match text.rfind(['%', '\\']) {
        Some(at) if text.len() - at < LONGEST_ESCAPE => &text[..at],
        _ => text,
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
