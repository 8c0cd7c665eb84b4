//! The log of a build on a terminal. Colors are kept. Everything else that would control a terminal is escaped, because
//! templates and scripts can print anything. A pipe or a file receives the log unchanged.

use std::io::{self, IsTerminal};

use super::{bytes, visible};

/// The longest sequence that sets a color. A longer one is escaped.
const LONGEST: usize = 32;

/// A log that is printed in parts.
#[derive(Debug)]
pub struct Log {
    on_terminal: bool,
    /// The start of a character or sequence that continues in the next part.
    rest: Vec<u8>,
}

impl Log {
    /// A log for standard output.
    pub fn new() -> Self {
        Self { on_terminal: io::stdout().is_terminal(), rest: Vec::new() }
    }

    /// Prints a part. Returns false if its reader is gone.
    ///
    /// # Errors
    /// Standard output cannot be written to. That its reader is gone is not an error.
    pub fn print(&mut self, part: &[u8]) -> io::Result<bool> {
        if self.on_terminal { bytes(self.shown(part).as_bytes()) } else { bytes(part) }
    }

    /// Prints the rest, and resets the color.
    ///
    /// # Errors
    /// Standard output cannot be written to. That its reader is gone is not an error.
    pub fn end(mut self) -> io::Result<bool> {
        let rest = escaped(&std::mem::take(&mut self.rest));
        if self.on_terminal { bytes(format!("{rest}\x1b[0m").as_bytes()) } else { Ok(true) }
    }

    /// Returns a part as it is printed on a terminal.
    fn shown(&mut self, part: &[u8]) -> String {
        self.rest.extend_from_slice(part);
        let complete = self.rest.len() - unfinished(&self.rest);
        let shown = escaped(&self.rest[..complete]);
        self.rest.drain(..complete);
        shown
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of bytes at the end that the next part may complete.
fn unfinished(text: &[u8]) -> usize {
    let tail = &text[text.len().saturating_sub(LONGEST)..];
    if let Some(at) = tail.iter().rposition(|byte| *byte == 0x1b)
        && is_prefix(&tail[at..])
    {
        return tail.len() - at;
    }
    let returns = usize::from(tail.last() == Some(&b'\r'));
    let broken = tail.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
    // A character has at most four bytes.
    returns.max(if broken < 4 { broken } else { 0 })
}

/// Returns true if this can be the start of a sequence that sets a color.
fn is_prefix(text: &[u8]) -> bool {
    let Some(rest) = text.strip_prefix(b"\x1b") else { return false };
    rest.is_empty() || (rest[0] == b'[' && rest[1..].iter().all(|byte| is_parameter(*byte)))
}

fn is_parameter(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b';' || byte == b':'
}

/// The length of the sequence that sets a color at the start of a string, if there is one.
fn color(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("\x1b[")?;
    let end = rest.bytes().take(LONGEST).position(|byte| !is_parameter(byte))?;
    (rest.as_bytes()[end] == b'm').then_some(end + 3)
}

fn escaped(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).replace("\r\n", "\n");
    let mut shown = String::new();
    let mut left = text.as_str();
    while let Some(at) = left.find('\x1b') {
        shown += &visible(&left[..at]);
        let length = color(&left[at..]);
        let sequence = &left[at..at + length.unwrap_or(1)];
        shown += &if length.is_some() { sequence.into() } else { visible(sequence) };
        left = &left[at + sequence.len()..];
    }
    shown + &visible(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parts: &[&[u8]]) -> String {
        let mut log = Log { on_terminal: true, rest: Vec::new() };
        let shown: String = parts.iter().map(|part| log.shown(part)).collect();
        shown + &escaped(&log.rest)
    }

    #[test]
    fn colors_pass_and_nothing_else_that_a_terminal_obeys() {
        let log = "\u{1b}[1;32m==> amazon-ebs: done\u{1b}[0m\r\n\tü \u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\rx\u{202e}";
        let due = "\u{1b}[1;32m==> amazon-ebs: done\u{1b}[0m\n\tü \\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{9b}31m\\u{d}x\\u{202e}";
        assert_eq!(shown(&[log.as_bytes()]), due);
        let bytes: Vec<&[u8]> = log.as_bytes().chunks(1).collect();
        assert_eq!(shown(&bytes), due, "wherever the parts end");
        let long = format!("\u{1b}[{}m", "1;".repeat(40));
        assert!(shown(&[long.as_bytes()]).starts_with("\\u{1b}["), "longer than any color");
        assert_eq!(shown(&[b"a\xff\xfe", b"b\x1b"]), "a\u{fffd}\u{fffd}b\\u{1b}");
    }
}
