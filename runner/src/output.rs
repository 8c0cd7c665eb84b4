//! Reads Packer's two output pipes, one thread per pipe, so that no pipe fills up and blocks Packer. Each line is
//! masked and written to the log, and added to the tally from which the report is made.
//!
//! Nothing here may block the supervisor: writing to a failed log is not retried, and the tally's lock is
//! never held during a write.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::folder::Folder;
use crate::lines::read;
use crate::mask::Mask;
use crate::tally::Tally;

/// Packer prints the output of a provisioner line by line; a longer line is not text.
const LONGEST_LINE: usize = 256 * 1024;
/// A build that prints for hours must not fill the disk.
const LARGEST_LOG: usize = 64 * 1024 * 1024;

/// The log of the whole run.
pub struct Log {
    file: Option<File>,
    room: usize,
    echo: bool,
}

impl Log {
    /// `echo` also writes the log to standard output, from which Kubernetes takes the pod log.
    pub fn new(file: Option<File>, echo: bool) -> Self {
        Self { file, room: LARGEST_LOG, echo }
    }

    fn line(&mut self, text: &str) {
        let text = format!("{}\n", text.trim_end_matches('\n'));
        if self.echo {
            // A closed standard output must not stop a build.
            let _ = io::stdout().lock().write_all(text.as_bytes());
        }
        let Some(file) = &mut self.file else { return };
        if text.len() > self.room {
            // The log is best effort, including its last line.
            let _ = file.write_all(b"(the log is full; packer continues)\n");
            self.file = None;
        } else if file.write_all(text.as_bytes()).is_ok() {
            self.room -= text.len();
        }
    }
}

/// The destinations of the output, shared by both threads of each command.
pub struct Output {
    pub mask: Mask,
    pub log: Mutex<Log>,
    pub folder: Folder,
}

impl Output {
    /// Logs a line of the runner itself. The line is dropped while a thread is blocked writing the log, because the
    /// supervisor must not wait.
    pub fn note(&self, text: &str) {
        if let Ok(mut log) = self.log.try_lock() {
            log.line(&self.mask.apply(text));
        }
    }

    fn hear(&self, raw: &[u8], whole: bool, machine: bool, tally: &Mutex<Tally>) {
        let line = read(raw, whole, machine);
        let mask = |text: &str| if whole { self.mask.apply(text) } else { self.mask.apply_to_cut(text) };
        let heard = locked(tally).hear(line, &mask);
        for resource in &heard.resources {
            // The report names it as well, so a failed write matters only if the runner is killed.
            let _ = self.folder.announce(resource);
        }
        if let Some(text) = &heard.text {
            locked(&self.log).line(text);
        }
    }
}

/// The readers of one command.
pub struct Readers {
    pub tally: Arc<Mutex<Tally>>,
    ended: Receiver<()>,
    sender: Sender<()>,
    running: usize,
}

impl Readers {
    pub fn new() -> Self {
        let (sender, ended) = mpsc::channel();
        Self { tally: Arc::default(), ended, sender, running: 0 }
    }

    /// Reads `pipe` to its end on a thread. Only standard output (`machine`) contains machine-readable lines.
    pub fn start(&mut self, pipe: impl Read + Send + 'static, machine: bool, output: &Arc<Output>) {
        let (tally, output, ended) = (Arc::clone(&self.tally), Arc::clone(output), self.sender.clone());
        self.running += 1;
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while let Ok(Some(whole)) = next_line(&mut pipe, &mut line) {
                output.hear(&line, whole, machine, &tally);
            }
            // The receiver is gone if the supervisor has stopped waiting.
            let _ = ended.send(());
        });
    }

    /// Waits until all output is read, up to a limit: a process that the runner cannot kill may keep a pipe open.
    pub fn finish(&mut self, most: Duration) {
        while self.running > 0 && self.ended.recv_timeout(most).is_ok() {
            self.running -= 1;
        }
    }

    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        locked(&self.tally)
    }
}

/// Ignores poisoning: a tally is still correct after a reader panicked in the middle of a line.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the next line without its line ending, at most [`LONGEST_LINE`] bytes. Returns `Some(false)` if the rest of
/// the line was dropped, and `None` at the end of the pipe.
fn next_line(pipe: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let (mut whole, mut any) = (true, false);
    loop {
        let buffer = match pipe.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            buffer => buffer?,
        };
        if buffer.is_empty() {
            return Ok(any.then_some(whole));
        }
        any = true;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let room = LONGEST_LINE - line.len();
        whole &= part.len() <= room;
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(end.is_some());
        pipe.consume(used);
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_rest_of_a_long_one_is_dropped() {
        let mut text = b"short\n\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', LONGEST_LINE * 2));
        text.extend(b"\nlast");
        let (mut pipe, mut line, mut lines) =
            (BufReader::with_capacity(1000, &text[..]), Vec::new(), Vec::new());
        while let Some(whole) = next_line(&mut pipe, &mut line).expect("a slice never fails") {
            lines.push((line.len(), whole));
        }
        assert_eq!(lines, [(5, true), (0, true), (LONGEST_LINE, false), (4, true)]);
    }

    #[test]
    fn a_full_log_ends_with_a_remark_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = Folder::new(dir.path()).log().expect("a log");
        let mut log = Log { file: Some(file), room: 6, echo: false };
        for _ in 0..3 {
            log.line("12345");
        }
        let text = std::fs::read_to_string(dir.path().join(crate::request::LOG)).expect("a log");
        assert_eq!(text, "12345\n(the log is full; packer continues)\n");
    }
}
