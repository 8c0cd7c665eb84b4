//! Output for people and pipes. If the reader of a pipe ends, as `head` does, only the output ends: the macros of the
//! standard library would end the program, even during a rollout. Text from repositories, AWS and the API server is
//! escaped, so that it cannot control the terminal.

mod keys;
mod log;
mod view;

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

pub use log::Log;
pub use view::{Size, View, end as end_view};

/// Prints a line of the output of a command.
///
/// # Errors
/// Standard output cannot be written to. That its reader is gone is not an error.
pub fn line(text: impl Display) -> io::Result<()> {
    bytes(visible(&format!("{text}\n")).as_bytes()).map(drop)
}

/// Prints a part of the output of a command, unchanged. Returns false if its reader is gone.
///
/// # Errors
/// Standard output cannot be written to. That its reader is gone is not an error.
pub fn bytes(bytes: &[u8]) -> io::Result<bool> {
    written(io::stdout(), bytes)
}

/// Prints a document for machines and a line break. It is unchanged, but escaped on a terminal.
///
/// # Errors
/// Standard output cannot be written to. That its reader is gone is not an error.
pub fn document(text: &str) -> io::Result<bool> {
    let text = if io::stdout().is_terminal() { escaped(text) } else { text.into() };
    bytes(format!("{text}\n").as_bytes())
}

/// Prints several lines of the output of a command. Returns false if its reader is gone.
///
/// # Errors
/// Standard output cannot be written to. That its reader is gone is not an error.
pub fn lines(text: &str) -> io::Result<bool> {
    bytes(visible(text).as_bytes())
}

/// Prints the progress of work that continues even if the reader is gone.
pub fn progress(text: impl Display) {
    let _ = line(text);
}

/// Prints on standard error why something failed.
pub fn error(text: impl Display) {
    let _ = written(io::stderr(), visible(&format!("opsy: {text}\n")).as_bytes());
}

/// Escapes everything that would control a terminal (as kubectl does) or reorder a line.
pub fn visible(text: &str) -> Cow<'_, str> {
    escape(text, |char| char.escape_unicode().to_string())
}

/// Escapes the same as JSON does. JSON remains valid and equal, since it has these characters only in strings.
pub fn escaped(text: &str) -> Cow<'_, str> {
    // All of them are below U+10000, so that four digits are enough.
    escape(text, |char| format!("\\u{:04x}", u32::from(char)))
}

fn escape(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars().map(|char| if is_active(char) { escape(char) } else { char.to_string() }).collect(),
    )
}

/// Returns true for control characters and for characters that change the direction of text.
fn is_active(char: char) -> bool {
    let reorders = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}');
    (char.is_control() && char != '\n' && char != '\t') || reorders
}

/// Whether standard output is for a person who wants colors: `NO_COLOR` is not set, and it is a terminal with colors.
pub fn is_colored() -> bool {
    console::colors_enabled()
}

/// Standard error, for logs. They appear above a view.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        view::above(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Writes all bytes at once. `out` must not be locked before: the view holds its own lock when it writes.
fn written(mut out: impl Write, bytes: &[u8]) -> io::Result<bool> {
    match view::above(|| out.write_all(bytes).and_then(|()| out.flush())) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_no_failure_and_a_full_disk_is_one() {
        assert!(!written(Failing(ErrorKind::BrokenPipe), b"x").expect("no failure"));
        assert!(written(Failing(ErrorKind::StorageFull), b"x").is_err());
        assert!(written(Vec::new(), b"x").expect("written"));
    }

    #[test]
    fn no_text_controls_a_terminal() {
        assert_eq!(visible("a\tb\n"), "a\tb\n");
        assert_eq!(visible("\u{1b}]0;title\u{7}x\r\u{9b}2J"), "\\u{1b}]0;title\\u{7}x\\u{d}\\u{9b}2J");
        assert_eq!(visible("harmless\u{202e}sdrawkcab"), "harmless\\u{202e}sdrawkcab");
        assert_eq!(escaped("a\tb\n\u{7f}\u{9b}2J\u{202e}ü"), "a\tb\n\\u007f\\u009b2J\\u202eü");
    }
}
