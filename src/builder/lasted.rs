//! How long live runs have lasted by a monotonic clock. The wall clock may jump, and a jump must not stop a build. Part
//! of the observation.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::api::lock::lock;
use crate::api::{Key, RunName};
use crate::engine::{Run, RunState};

/// The live run of each builder, and since when this agent has observed it.
#[derive(Debug, Default)]
pub struct Watches(Mutex<BTreeMap<Key, Watch>>);

#[derive(Debug)]
struct Watch {
    run: RunName,
    pending: bool,
    since: Instant,
    /// The elapsed time that its runner reported at `since`.
    before: Duration,
}

impl Watches {
    /// Returns the minimum time for which the live run has been pending, or has been running. `None` if no run is live.
    pub fn elapsed(&self, key: &Key, runs: &[Run]) -> Option<Duration> {
        // A panic in another thread cannot leave an incomplete entry, so a poisoned lock is safe to use.
        let mut watches = lock(&self.0);
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
