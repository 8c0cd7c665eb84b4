//! Output for people and pipes. A reader that has seen enough, like `head`, ends the output and nothing else:
//! the macros of the standard library would end the program, in the middle of a rollout.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints what was asked for, with an end of line.
///
/// # Errors
/// Standard output takes nothing, for another reason than that nobody reads it.
pub fn line(text: impl Display) -> io::Result<()> {
    bytes(format!("{text}\n").as_bytes()).map(drop)
}

/// Prints a part of what was asked for. False when nobody reads it any more.
///
/// # Errors
/// Standard output takes nothing, for another reason than that nobody reads it.
pub fn bytes(bytes: &[u8]) -> io::Result<bool> {
    written(io::stdout().lock(), bytes)
}

/// Tells of work that goes on whether anybody reads it or not.
pub fn progress(text: impl Display) {
    let _ = line(text);
}

/// Tells on standard error why something did not work.
pub fn error(text: impl Display) {
    let _ = written(io::stderr().lock(), format!("opsy: {text}\n").as_bytes());
}

fn written(mut out: impl Write, bytes: &[u8]) -> io::Result<bool> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
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
}
