//! Runs Packer once, in its own directory, and reports the result. It must never leak a build
//! machine and never report an image that does not exist.
//!
//! Both engines use the same path. In a pod, the static binary `opsy-runner` is PID 1 in the Packer
//! container; on one machine, the agent starts `opsy packer-run DIR`. Both call [`run`], and the
//! agent then reads the result.
//!
//! ```text
//! request.json ─→ supervise ─→ process: spawn, signal, reap          signals: TERM, INT, CHLD
//!                     │           │ both pipes
//!                     │           v
//!                     │        output: threads ─→ lines, said, tally (pure: parse Packer's output) ─→ packer.log
//!                     │           ^ mask (pure)
//!                     v
//!                  report (pure: outcome, under 4 KiB) ─→ folder: result.json, termination message
//! ```
//!
//! Guarantees, each covered by a test:
//! - There is one runner per directory, and each `packer build` starts at most once per directory, no matter which
//!   process is killed.
//! - SIGTERM is sent once, to Packer's first process only. Its process group is killed only after the grace period.
//! - When the runner exits, no process that Packer started is left. When the runner itself is killed, the kernel
//!   sends SIGTERM to Packer, which cleans up, and the next runner of the directory kills what is left.
//! - Succeeded means that every command exited with 0 and that Packer's machine-readable artifact lines contain an
//!   image ID.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

mod folder;
mod install;
mod lines;
mod mask;
mod output;
mod packer;
mod process;
mod report;
pub mod request;
mod said;
mod signals;
mod supervise;
mod tally;

use folder::Folder;
pub use install::install;
use request::{Progress, Report};

/// The run ended without an image; the report contains the outcome.
const EXIT_NO_IMAGE: u8 = 1;
/// There is no report: another runner has locked the directory, or the result could not be written.
const EXIT_UNREPORTED: u8 = 3;

/// Runs the request in `dir` to completion and writes the result there. Call it on the main thread of
/// a process that does nothing else: it installs signal handlers and kills every child of the process.
pub fn run(dir: &Path) -> ExitCode {
    match supervise::run(dir) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NO_IMAGE),
        Err(error) => {
            say(&error);
            ExitCode::from(EXIT_UNREPORTED)
        }
    }
}

/// Writes a line to standard error. `eprintln` would panic if the reading end is closed.
fn say(words: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "opsy-runner: {words}");
}

/// Returns whether a runner is alive in `dir`. A runner that has not acquired its lock yet does not
/// count as alive; until then, the process that started it must track it as its child.
///
/// # Errors
/// If the lock file cannot be opened or probed; this does not mean "not alive".
pub fn is_alive(dir: &Path) -> io::Result<bool> {
    Folder::new(dir).is_locked()
}

/// Returns the report in `dir`, or `None` while there is none.
///
/// # Errors
/// If it cannot be read or is not a report.
pub fn read_report(dir: &Path) -> io::Result<Option<Report>> {
    folder::read_json(&dir.join(request::RESULT))
}

/// Returns what Packer is doing, for display; `None` before its first line.
///
/// # Errors
/// If it cannot be read or is not valid progress.
pub fn read_progress(dir: &Path) -> io::Result<Option<Progress>> {
    folder::read_json(&dir.join(request::PROGRESS))
}
