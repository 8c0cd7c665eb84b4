//! How long live runs have lasted by a monotonic clock: the wall clock may jump, and a jump is no reason to
//! stop a build. Part of the look.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::{Key, RunName};
use crate::engine::{Run, RunState};

/// The live run of each builder, since this agent first saw it.
#[derive(Debug, Default)]
pub struct Watches(Mutex<BTreeMap<Key, Watch>>);

#[derive(Debug)]
struct Watch {
    run: RunName,
    pending: bool,
    since: Instant,
    /// What its runner said then.
    before: Duration,
}

impl Watches {
    /// How long the live run has been pending, or has run, at least; nothing where none is live.
    pub fn look(&self, key: &Key, runs: &[Run]) -> Option<Duration> {
        // A panic elsewhere leaves whole entries.
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(run) = runs.iter().find(|run| !run.state.ended()) else {
            watches.remove(key);
            return None;
        };
        let pending = matches!(run.state, RunState::Pending(_));
        let known = watches.get(key).filter(|watch| watch.run == run.name && watch.pending == pending);
        if let Some(watch) = known {
            return Some(watch.before + watch.since.elapsed());
        }
        let before = match &run.state {
            RunState::Running(progress) => Duration::from_secs(progress.elapsed),
            _ => Duration::ZERO,
        };
        let watch = Watch { run: run.name.clone(), pending, since: Instant::now(), before };
        watches.insert(key.clone(), watch);
        Some(before)
    }
}
