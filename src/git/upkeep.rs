//! When the network thread merges the packs of the clone, and what happens if that fails.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::{debug, warn};

use super::compact;
use crate::api::lock::lock;

/// With more packs than this that cannot be merged, a new clone costs less than the lookups.
const PACK_LIMIT: usize = 500;
/// The number of changes of the clone after which a failed merge is repeated.
const PAUSE: u32 = 100;

/// The state of merging.
pub(super) struct Upkeep {
    /// Locked by the reading thread while it has a job.
    reading: Arc<Mutex<()>>,
    /// The clone was examined in this process.
    examined: bool,
    /// The remaining changes until a failed merge is repeated.
    pause: u32,
}

impl Upkeep {
    pub fn new(reading: Arc<Mutex<()>>) -> Self {
        Self { reading, examined: false, pause: 0 }
    }

    /// Waits until the reading thread has no job. It starts none until the guard is dropped.
    pub fn wait_for_reader(&self) -> MutexGuard<'_, ()> {
        lock(&self.reading)
    }

    /// Returns true if the packs could not be merged.
    pub fn has_failed(&self) -> bool {
        self.pause > 0
    }

    /// Merges packs and loose objects if there are too many. Returns true if the clone must be opened again.
    pub fn run(&mut self, clone: &Path, changed: bool, generation: &AtomicU64) -> bool {
        if !std::mem::replace(&mut self.examined, true) {
            if let Err(error) = compact::clean(clone) {
                warn!(%error, "files that a killed process left in the clone cannot be removed");
            }
        } else if !changed {
            return false;
        }
        self.pause = self.pause.saturating_sub(1);
        if self.has_failed() {
            return false;
        }
        let merged = match compact::merge(clone) {
            Ok(Some(merged)) => merged,
            Ok(None) => return false,
            Err(error) => {
                warn!(%error, "the packs of the clone cannot be merged: keeping them");
                self.pause = PAUSE;
                return false;
            }
        };
        let _no_job = self.wait_for_reader();
        if let Err(error) = merged.remove_sources() {
            warn!(%error, "packs that were merged cannot be removed");
        }
        generation.fetch_add(1, Ordering::Release);
        let (packs, loose) = merged.counts();
        debug!(packs, loose, "merged packs and loose objects of the clone");
        true
    }
}

/// Returns true if a clone has so many packs that it has to be replaced.
pub(super) fn has_too_many_packs(folder: &Path) -> bool {
    let packs = fs::read_dir(folder.join("objects/pack")).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "pack")).count()
    });
    packs > PACK_LIMIT
}
