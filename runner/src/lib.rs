//! Runs Packer once, in a folder of its own, and says what came of it: the piece that must
//! never leak a build machine and never report an image that is not there.
//!
//! One path for both engines. In a pod the static binary `opsy-runner` is PID 1 beside Packer; on
//! one machine the agent starts `opsy packer-run DIR`. Both call [`run`], then read the folder.
//!
//! ```text
//! request.json ─→ supervise ─→ process: spawn, signal, reap          signals: TERM, INT, CHLD
//!                     │           │ both pipes
//!                     │           v
//!                     │        output: threads ─→ lines, said, tally (pure: what did Packer say) ─→ packer.log
//!                     │           ^ mask (pure)
//!                     v
//!                  report (pure: outcome, under 4 KiB) ─→ folder: result.json, termination message
//! ```
//!
//! Guarantees, each held by a test:
//! - One runner per folder, and each `packer build` starts at most once per folder, whatever is killed.
//! - SIGTERM reaches Packer's first process once; its group is killed only after the grace.
//! - When the runner ends, nothing Packer started is left running. When the runner itself is
//!   killed, the kernel tells Packer to clean up, and the next runner of the folder ends the rest.
//! - Succeeded means that every command exited with 0, and an image id in Packer's machine-readable artifact lines.

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

/// The run ended, and not with an image; the report says how.
const EXIT_NO_IMAGE: u8 = 1;
/// Nothing was reported: the folder is another runner's, or the result could not be written.
const EXIT_UNREPORTED: u8 = 3;

/// Runs the request in `dir` to its end and writes the result there. Call it on the main thread of
/// a process that does nothing else: it takes over signals and ends every child of the process.
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

/// To standard error; `eprintln` would panic where nobody has it open any more.
fn say(words: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "opsy-runner: {words}");
}

/// Whether a runner lives in `dir`. A folder whose runner has not taken its lock yet is not alive:
/// whoever starts a runner knows its own child until then.
///
/// # Errors
/// When the lock can be neither opened nor tried; that is not the same as "not alive".
pub fn is_alive(dir: &Path) -> io::Result<bool> {
    Folder::new(dir).is_locked()
}

/// The report in `dir`; `None` while there is none.
///
/// # Errors
/// When it can not be read or is not a report.
pub fn read_report(dir: &Path) -> io::Result<Option<Report>> {
    folder::read_json(&dir.join(request::RESULT))
}

/// What Packer is doing, for people; `None` before its first line.
///
/// # Errors
/// When it can not be read or is not progress.
pub fn read_progress(dir: &Path) -> io::Result<Option<Progress>> {
    folder::read_json(&dir.join(request::PROGRESS))
}
