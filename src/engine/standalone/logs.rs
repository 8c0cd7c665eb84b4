//! The logs of ended runs, which `opsy logs` reads after the directories of the runs are removed. Their number, the
//! size of each and the total size are limited.
//!
//! A log is in a directory with the run's name and facts, like a run, so that both are read by the same code.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use opsy_runner::request::{LOG, RESULT};

use super::folders::{self, FACTS};
use crate::api::{Key, RunName};

/// Logs per builder: enough to compare the last attempts.
const PER_BUILDER: usize = 5;
/// Size of one log. The middle of a longer one is left out: its beginning has the commands, and its end the errors.
const LARGEST: u64 = 1024 * 1024;
const HEAD: u64 = 64 * 1024;
/// Size of all logs together.
const ALL: u64 = 64 * 1024 * 1024;
/// Prefix of directories that are being created.
const UNFINISHED: &str = ".new-";

/// Saves the log of a run, if it has one, and removes logs beyond the limits.
pub fn keep(run: &Path, logs: &Path, name: &RunName) -> io::Result<()> {
    let mut log = match File::open(run.join(LOG)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        log => log?,
    };
    let new = logs.join(format!("{UNFINISHED}{name}"));
    remove(&new)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&new)?;
    for file in [FACTS, RESULT] {
        match fs::copy(run.join(file), new.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let mut kept = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new.join(LOG))?;
    shortened(&mut log, &mut kept)?;
    let place = logs.join(name.as_str());
    remove(&place)?;
    fs::rename(&new, &place)?;
    prune(logs)
}

fn shortened(log: &mut File, kept: &mut impl Write) -> io::Result<()> {
    let length = log.metadata()?.len();
    if length <= LARGEST {
        return io::copy(log, kept).map(drop);
    }
    io::copy(&mut Read::by_ref(log).take(HEAD), kept)?;
    let left_out = length - LARGEST;
    writeln!(kept, "\n(… {left_out} bytes are left out …)")?;
    log.seek(SeekFrom::Start(HEAD + left_out))?;
    io::copy(log, kept).map(drop)
}

/// Removes all but the newest logs of each builder, and of those the oldest ones that exceed the total size.
fn prune(logs: &Path) -> io::Result<()> {
    let mut all = folders::list(logs)?;
    let created = |folder: &folders::RunDirectory| folder.facts.as_ref().map(|facts| facts.created_at).ok();
    all.sort_by_key(|folder| std::cmp::Reverse(created(folder)));
    let (mut of_builder, mut size) = (BTreeMap::<Option<Key>, usize>::new(), 0);
    for folder in all {
        let builder = folder.facts.as_ref().map(|facts| facts.builder.clone()).ok();
        let count = of_builder.entry(builder).or_default();
        *count += 1;
        size += fs::metadata(folder.path.join(LOG)).map(|log| log.len()).unwrap_or_default();
        if *count > PER_BUILDER || size > ALL {
            remove(&folder.path)?;
        }
    }
    Ok(())
}

fn remove(folder: &PathBuf) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(runs: &Path, name: &str, builder: &str, minute: usize, log: &str) -> RunName {
        let facts = json!({
            "builder": {"namespace": "default", "name": builder}, "build": "0123456789abcdef",
            "region": "us-east-1", "inputs": {}, "why": "Missing", "commit": "a".repeat(40),
            "createdAt": format!("2026-01-01T00:{minute:02}:00Z"),
        });
        fs::create_dir_all(runs.join(name).join("work")).expect("a folder");
        fs::write(runs.join(name).join(FACTS), facts.to_string()).expect("facts");
        fs::write(runs.join(name).join(LOG), log).expect("a log");
        RunName::parse(name).expect("a name")
    }

    #[test]
    fn the_last_logs_of_each_builder_are_saved_and_nothing_else_of_a_run() {
        let state = tempfile::tempdir().expect("a folder");
        let (runs, logs) = (state.path().join("runs"), state.path().join("logs"));
        for minute in 0..7 {
            let name = run(&runs, &format!("node-{minute}"), "node", minute, "words");
            keep(&runs.join(name.as_str()), &logs, &name).expect("kept");
            keep(&runs.join(name.as_str()), &logs, &name).expect("kept once more");
        }
        let other = run(&runs, "edge-1", "edge", 0, "words");
        keep(&runs.join("edge-1"), &logs, &other).expect("kept");
        let mut names: Vec<String> =
            folders::list(&logs).expect("a list").into_iter().map(|folder| folder.name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["edge-1", "node-2", "node-3", "node-4", "node-5", "node-6"]);
        assert!(!logs.join("edge-1/work").exists());
        fs::create_dir_all(runs.join("node-9")).expect("a run that never began");
        keep(&runs.join("node-9"), &logs, &RunName::parse("node-9").expect("a name"))
            .expect("nothing to keep");
        assert!(!logs.join("node-9").exists());
    }

    #[test]
    fn a_long_log_is_saved_with_its_beginning_and_its_end() {
        let state = tempfile::tempdir().expect("a folder");
        let text = format!("begin{}end", "x".repeat(usize::try_from(LARGEST).expect("small") * 2));
        let name = run(state.path(), "node-1", "node", 0, &text);
        keep(&state.path().join("node-1"), &state.path().join("logs"), &name).expect("kept");
        let kept = fs::read_to_string(state.path().join("logs/node-1").join(LOG)).expect("a log");
        assert!(kept.starts_with("begin") && kept.ends_with("end") && kept.contains("bytes are left out"));
        assert!(kept.len() < text.len() / 2 + 100, "{}", kept.len());
    }
}
