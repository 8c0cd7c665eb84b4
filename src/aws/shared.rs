//! Responses that are shared by all callers that ask the same: one call at a time per key, kept for a while, dropped by
//! our own writes. It serves the reads that many objects need. A response ages by the clock of the edge; if that clock is
//! set back behind the response, the response is not used again. For a plan, which writes nothing, no response ages.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::Fresh;
use crate::api::lock::lock;

/// How responses age.
#[derive(Clone, Copy, Debug)]
pub enum Aging {
    /// By this clock.
    By(fn() -> Timestamp),
    /// Not at all: what was read once is used from then on, including failures and where a caller wants a new read. All
    /// callers see the same state, so two decisions differ only if their inputs do. Only for processes that do not write.
    Never,
}

/// Responses by key. A response may be shared for `keep` after it was requested, and with callers that accept an older
/// one for `hold`.
pub(super) struct Shared<K, V, E> {
    keep: Duration,
    hold: Duration,
    aging: Aging,
    slots: Mutex<HashMap<K, Arc<Slot<V, E>>>>,
}

struct Slot<V, E> {
    /// Held by the caller that asks. The others wait here and use its response.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State<V, E>>,
}

/// Times are ticks of a counter, since two events at the same instant must still have an order.
struct State<V, E> {
    ticks: u64,
    /// Incremented by a write. A response that was requested before it must not be kept.
    written: u64,
    answer: Option<Answer<V>>,
    /// The last failed call, for callers that were already waiting for it when it ended.
    failure: Option<(u64, E)>,
}

struct Answer<V> {
    value: V,
    asked: u64,
    /// When it was requested, if it ages.
    at: Option<Timestamp>,
}

impl<K: Eq + Hash + Clone, V: Clone, E: Clone> Shared<K, V, E> {
    pub(super) fn new(keep: Duration, aging: Aging) -> Self {
        Self { keep, hold: keep, aging, slots: Mutex::default() }
    }

    /// Holds responses for this long, for `Fresh::Within`.
    pub(super) fn holding(self, hold: Duration) -> Self {
        Self { hold: hold.max(self.keep), ..self }
    }

    /// Returns the shared response, or a new one from `ask`. If responses age, `Fresh::Now` accepts none that was requested
    /// before this call, and a failure is not kept, but only returned to callers that were waiting for it.
    pub(super) async fn get<F>(&self, key: &K, fresh: Fresh, ask: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        self.read(key, fresh, ask).await.map(|(value, _)| value)
    }

    /// Like `get`, and returns whether the response counts as read now: if responses age, it was requested after this call.
    pub(super) async fn read<F>(&self, key: &K, fresh: Fresh, ask: impl FnOnce() -> F) -> Result<(V, bool), E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let slot = self.slot(key);
        let arrived = lock(&slot.state).tick();
        if let Some(read) = self.usable(&slot, fresh, arrived) {
            return Ok(read);
        }
        let _turn = slot.asking.lock().await;
        if let Some(read) = self.usable(&slot, fresh, arrived) {
            return Ok(read);
        }
        // Ticks begin at 1.
        let relevant_since = if self.ages() { arrived } else { 0 };
        if let Some(error) = slot.failed_since(relevant_since) {
            return Err(error);
        }
        slot.ask(self.now(), ask).await.map(|value| (value, true))
    }

    /// The kept response if it is new enough, and whether it counts as read after `arrived`.
    fn usable(&self, slot: &Slot<V, E>, fresh: Fresh, arrived: u64) -> Option<(V, bool)> {
        let state = lock(&slot.state);
        let answer = state.answer.as_ref()?;
        let is_newer = answer.asked > arrived || !self.ages();
        let usable = match fresh {
            Fresh::Cached => answer.is_within(self.keep, self.now()),
            Fresh::Within(age) => answer.is_within(age, self.now()),
            Fresh::Now => is_newer,
        };
        usable.then(|| (answer.value.clone(), is_newer))
    }

    fn ages(&self) -> bool {
        matches!(self.aging, Aging::By(_))
    }

    fn now(&self) -> Option<Timestamp> {
        match self.aging {
            Aging::By(now) => Some(now()),
            Aging::Never => None,
        }
    }

    /// Drops a response that a write of ours may have changed, even one that has not arrived yet.
    pub(super) fn drop_key(&self, key: &K) {
        if let Some(slot) = lock(&self.slots).get(key) {
            let mut state = lock(&slot.state);
            state.written += 1;
            state.answer = None;
        }
    }

    /// Returns the slot of a key. Slots that are not in use and whose response is too old are removed.
    fn slot(&self, key: &K) -> Arc<Slot<V, E>> {
        let mut slots = lock(&self.slots);
        if !slots.contains_key(key) {
            let now = self.now();
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_current(self.hold, now));
        }
        Arc::clone(slots.entry(key.clone()).or_default())
    }
}

impl<V: Clone, E: Clone> Slot<V, E> {
    fn is_current(&self, hold: Duration, now: Option<Timestamp>) -> bool {
        let state = lock(&self.state);
        let is_kept_failure = now.is_none() && state.failure.is_some();
        is_kept_failure || state.answer.as_ref().is_some_and(|answer| answer.is_within(hold, now))
    }

    fn failed_since(&self, arrived: u64) -> Option<E> {
        let state = lock(&self.state);
        let (ended, error) = state.failure.as_ref()?;
        (*ended > arrived).then(|| error.clone())
    }

    async fn ask<F>(&self, at: Option<Timestamp>, ask: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let (asked, written) = {
            let mut state = lock(&self.state);
            (state.tick(), state.written)
        };
        let result = ask().await;
        let mut state = lock(&self.state);
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

impl<V> Answer<V> {
    /// Whether it was requested less than `age` ago. Without a clock, it was.
    fn is_within(&self, age: Duration, now: Option<Timestamp>) -> bool {
        let (Some(now), Some(at)) = (now, self.at) else { return true };
        Duration::try_from(now.duration_since(at)).is_ok_and(|since| since < age)
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
