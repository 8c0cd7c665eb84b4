//! Remembers the directories of the runs, so that a reconcile reads them only after one was added or removed.
//!
//! The time of the last change of the parent directory shows that. Two changes within the resolution of that time look
//! like one, so a list is remembered only if it was read some time after the change was first seen.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::folders::{self, RunDirectory};
use crate::api::lock::lock;

/// Longer than the resolution of file times, which is some milliseconds.
const RESOLUTION: Duration = Duration::from_millis(100);

/// The runs below one directory.
pub struct RunList {
    dir: PathBuf,
    known: Mutex<Option<Known>>,
}

/// What was seen of the directory last.
struct Known {
    modified: SystemTime,
    since: Instant,
    runs: Option<Arc<Vec<RunDirectory>>>,
}

impl RunList {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, known: Mutex::default() }
    }

    /// All runs, including those that cannot be read.
    pub fn read(&self) -> io::Result<Arc<Vec<RunDirectory>>> {
        let modified = self.modified();
        if let Some(runs) = modified.and_then(|modified| self.remembered(modified)) {
            return Ok(runs);
        }
        let started = Instant::now();
        let runs = Arc::new(folders::list(&self.dir)?);
        // A person can repair a damaged run in place, which does not change the parent directory.
        if let Some(modified) = modified.filter(|_| runs.iter().all(|run| run.facts.is_ok())) {
            self.remember(modified, started, &runs);
        }
        Ok(runs)
    }

    /// All runs, if the directory has not changed since they were read. This blocks no longer than it takes to look up the
    /// time of a directory.
    pub fn unchanged(&self) -> Option<Arc<Vec<RunDirectory>>> {
        self.modified().and_then(|modified| self.remembered(modified))
    }

    fn modified(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.dir).and_then(|found| found.modified()).ok()
    }

    fn remembered(&self, modified: SystemTime) -> Option<Arc<Vec<RunDirectory>>> {
        let mut known = lock(&self.known);
        match known.as_ref().filter(|known| known.modified == modified) {
            Some(known) => known.runs.clone(),
            None => {
                *known = Some(Known { modified, since: Instant::now(), runs: None });
                None
            }
        }
    }

    fn remember(&self, modified: SystemTime, started: Instant, runs: &Arc<Vec<RunDirectory>>) {
        let mut known = lock(&self.known);
        let is_settled = |known: &&mut Known| {
            known.modified == modified && started.duration_since(known.since) > RESOLUTION
        };
        if let Some(known) = known.as_mut().filter(is_settled) {
            known.runs = Some(runs.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &RunList) -> usize {
        list.read().expect("read").len()
    }

    #[test]
    fn a_run_that_is_added_or_removed_is_seen_at_once() {
        let home = tempfile::tempdir().expect("a directory");
        let list = RunList::new(home.path().to_owned());
        for round in 0..50 {
            let name = format!("web-{round:010}");
            std::fs::create_dir(home.path().join(&name)).expect("a directory");
            assert_eq!(names(&list), 1, "round {round}");
            std::fs::remove_dir_all(home.path().join(&name)).expect("removed");
            assert_eq!(names(&list), 0, "round {round}");
        }
    }

    #[test]
    fn a_list_is_read_once_after_the_last_change() {
        let home = tempfile::tempdir().expect("a directory");
        let list = RunList::new(home.path().to_owned());
        let first = list.read().expect("read");
        let settled = Instant::now() + RESOLUTION * 2;
        while Instant::now() < settled {
            std::thread::yield_now();
        }
        let second = list.read().expect("read");
        assert!(!Arc::ptr_eq(&first, &second), "the change is too recent to remember the first");
        assert!(Arc::ptr_eq(&second, &list.read().expect("read")));
        assert!(list.unchanged().is_some_and(|runs| Arc::ptr_eq(&second, &runs)));
        std::fs::create_dir(home.path().join("web-0123456789")).expect("a directory");
        assert!(list.unchanged().is_none(), "a run was added");
        let missing = RunList::new(home.path().join("missing"));
        assert_eq!(names(&missing), 0);
    }
}
