//! Parses one line of Packer's output: machine-readable facts, human-readable text, or neither. Pure. `tally`
//! accumulates the lines.

/// One line of Packer's standard output or error.
#[derive(Debug, PartialEq)]
pub enum Line {
    /// Human-readable text.
    Say(String),
    /// Human-readable text that Packer prints in red, which includes everything a provisioner prints to
    /// standard error.
    Complain(String),
    /// Why a build failed.
    BuildError { build: String, message: String },
    /// `region:image` pairs, or the artifact ID of another kind of builder.
    ArtifactId { build: String, id: String },
    /// Counts and other lines that are ignored.
    Machine,
    /// Not machine-readable: a crash, a log on standard error.
    Plain(String),
}

/// Parses one line of standard output: `time,target,type,data…`. Packer escapes commas in the data, but not in the
/// target, which is the name of a build. Read from the end, the fields are unambiguous.
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

/// Returns the line as plain text without parsing it.
pub fn plain(raw: &str) -> Line {
    Line::Plain(readable(raw.trim_end_matches(['\r', '\n'])))
}

fn unescape(field: &str) -> String {
    field.replace("%!(PACKER_COMMA)", ",").replace("\\n", "\n").replace("\\r", "\r")
}

/// Removes terminal control sequences, because remote commands color their output.
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

/// Truncates `text` to at most `most` bytes and marks a cut with an ellipsis.
pub fn cut(text: &str, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end])
}

/// Reads one line of a pipe. A truncated line (`whole` is false) never names an artifact.
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

/// Removes an incomplete escape sequence at the end, which would hide the beginning of a secret from the mask.
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
