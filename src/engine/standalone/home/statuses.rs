//! Writes statuses, those of concurrent reconciles together: a thread writes what has collected while it was writing, until
//! there is nothing left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Shared;
use super::changes::Change;
use crate::api::lock::lock;
use crate::engine::{EngineError, StatusUpdate};

/// Statuses to write.
#[derive(Default)]
pub(super) struct Statuses {
    /// Oldest first.
    pending: Vec<Pending>,
    /// Whether a thread writes them. There is at most one: threads that wait for each other would only need memory.
    is_writing: bool,
}

/// A status to write, and who waits for it.
struct Pending {
    update: StatusUpdate,
    written: oneshot::Sender<Result<(), EngineError>>,
}

impl Shared {
    /// Writes a status. It is written even if the reconcile that waits for it is aborted.
    pub(super) async fn put_status(self: Arc<Self>, update: StatusUpdate) -> Result<(), EngineError> {
        let (written, result) = oneshot::channel();
        let is_writing = {
            let mut statuses = lock(&self.statuses);
            statuses.pending.push(Pending { update, written });
            std::mem::replace(&mut statuses.is_writing, true)
        };
        if !is_writing {
            tokio::task::spawn_blocking(move || self.write_pending());
        }
        result
            .await
            .unwrap_or_else(|_| Err(EngineError::transient("the write of the status ended unexpectedly")))
    }

    /// Writes until nothing is pending.
    fn write_pending(&self) {
        loop {
            let _changing = lock(&self.changing);
            let pending = {
                let mut statuses = lock(&self.statuses);
                statuses.is_writing = !statuses.pending.is_empty();
                std::mem::take(&mut statuses.pending)
            };
            if pending.is_empty() {
                return;
            }
            for batch in batches(pending) {
                // The reconciles that wait for a batch that panics get an error, and those that come later are written.
                let _ = catch_unwind(AssertUnwindSafe(|| self.write_batch(batch)));
            }
        }
    }

    /// The number of statuses that are not taken to be written.
    #[cfg(test)]
    pub(super) fn pending_statuses(&self) -> usize {
        lock(&self.statuses).pending.len()
    }

    fn write_batch(&self, batch: Vec<Pending>) {
        let (mut changes, mut waiting) = (Vec::new(), Vec::new());
        for Pending { update, written } in batch {
            match self.change(&update) {
                Ok(change) => {
                    changes.push(change);
                    waiting.push(written);
                }
                Err(error) => drop(written.send(Err(error))),
            }
        }
        let results = self.write(&changes);
        let (mut durable, mut answers) = (Vec::new(), Vec::new());
        for ((change, result), written) in changes.into_iter().zip(results).zip(waiting) {
            answers.push((written, result.map_err(|error| self.unwritable(&change.object, &error))));
            if answers.last().is_some_and(|(_, result)| result.is_ok()) {
                durable.push(change);
            }
        }
        self.show(durable);
        self.objects.changed.notify_one();
        for (written, result) in answers {
            // An aborted reconcile does not wait.
            let _ = written.send(result);
        }
    }

    /// The change to a new status.
    fn change(&self, update: &StatusUpdate) -> Result<Change, EngineError> {
        let entries = lock(&self.entries);
        let entry = entries.get(&update.object).ok_or_else(|| EngineError::conflict("the object is gone"))?;
        if update.observed_version.as_deref() != Some(entry.version.to_string().as_str()) {
            return Err(EngineError::conflict("the object has changed since it was observed"));
        }
        Ok(Change::new(&update.object, Some(entry), entry.with_status(&update.status)).wakes(false))
    }
}

/// Splits statuses into batches, in which each object occurs once: its second status depends on the first.
fn batches(pending: Vec<Pending>) -> Vec<Vec<Pending>> {
    let mut batches: Vec<Vec<Pending>> = Vec::new();
    for one in pending {
        let has_it =
            |batch: &Vec<Pending>| batch.iter().any(|other| other.update.object == one.update.object);
        match batches.iter().position(|batch| !has_it(batch)) {
            Some(at) => batches[at].push(one),
            None => batches.push(vec![one]),
        }
    }
    batches
}
