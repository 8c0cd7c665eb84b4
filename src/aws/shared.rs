//! Answers shared by all who ask the same: one call at a time per key, kept for a while, dropped
//! when we write. In front of the reads that every object of a pass needs.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::{Fresh, locked};

/// Answers by key. An answer may be shared for `keep` after it was asked for.
pub(super) struct Shared<K, V, E> {
    keep: Duration,
    slots: Mutex<HashMap<K, Arc<Slot<V, E>>>>,
}

struct Slot<V, E> {
    /// Held by the one who asks; the others queue here and take over what it brings.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State<V, E>>,
}

/// Moments are ticks of a counter, since two things at the same instant must still have an order.
struct State<V, E> {
    ticks: u64,
    /// Bumped by a write: what was asked before it must not be kept.
    written: u64,
    answer: Option<Answer<V>>,
    /// The last failed call, for those who were already waiting for it when it ended.
    failure: Option<(u64, E)>,
}

struct Answer<V> {
    value: V,
    asked: u64,
    at: Instant,
}

impl<K: Eq + Hash + Clone, V: Clone, E: Clone> Shared<K, V, E> {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, slots: Mutex::default() }
    }

    /// The shared answer, or a new one by `ask`. `Fresh::Now` takes no answer to a question asked
    /// before this call; a failure is never kept, only handed to those who were waiting for it.
    pub(super) async fn get<F>(&self, key: &K, fresh: Fresh, ask: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let slot = self.slot(key);
        let arrived = locked(&slot.state).tick();
        if let Some(value) = slot.usable(fresh, arrived, self.keep) {
            return Ok(value);
        }
        let _turn = slot.asking.lock().await;
        if let Some(value) = slot.usable(fresh, arrived, self.keep) {
            return Ok(value);
        }
        if let Some(error) = slot.failed_since(arrived) {
            return Err(error);
        }
        slot.ask(ask).await
    }

    /// Forgets the answer to a question that a write of ours may have changed, also one that is
    /// still on its way.
    pub(super) fn drop_key(&self, key: &K) {
        if let Some(slot) = locked(&self.slots).get(key) {
            let mut state = locked(&slot.state);
            state.written += 1;
            state.answer = None;
        }
    }

    /// The slot of a key; slots nobody uses and whose answer is too old go on the way.
    fn slot(&self, key: &K) -> Arc<Slot<V, E>> {
        let mut slots = locked(&self.slots);
        if !slots.contains_key(key) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_current(self.keep));
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}

impl<V: Clone, E: Clone> Slot<V, E> {
    fn usable(&self, fresh: Fresh, arrived: u64, keep: Duration) -> Option<V> {
        let state = locked(&self.state);
        let answer = state.answer.as_ref()?;
        let good = match fresh {
            Fresh::Cached => answer.at.elapsed() < keep,
            Fresh::Now => answer.asked > arrived,
        };
        good.then(|| answer.value.clone())
    }

    fn is_current(&self, keep: Duration) -> bool {
        locked(&self.state).answer.as_ref().is_some_and(|answer| answer.at.elapsed() < keep)
    }

    fn failed_since(&self, arrived: u64) -> Option<E> {
        let state = locked(&self.state);
        let (ended, error) = state.failure.as_ref()?;
        (*ended > arrived).then(|| error.clone())
    }

    async fn ask<F>(&self, ask: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let (asked, written) = {
            let mut state = locked(&self.state);
            (state.tick(), state.written)
        };
        let at = Instant::now();
        let result = ask().await;
        let mut state = locked(&self.state);
        match &result {
            Ok(value) if state.written == written => {
                state.answer = Some(Answer { value: value.clone(), asked, at });
                state.failure = None;
            }
            Ok(_) => state.failure = None,
            Err(error) => state.failure = Some((state.tick(), error.clone())),
        }
        result
    }
}

impl<V, E> State<V, E> {
    fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks
    }
}

impl<V, E> Default for Slot<V, E> {
    fn default() -> Self {
        let state = State { ticks: 0, written: 0, answer: None, failure: None };
        Self { asking: tokio::sync::Mutex::default(), state: Mutex::new(state) }
    }
}

#[cfg(test)]
mod tests;
