//! Which namespace takes a free build slot next. Pure.
//!
//! Namespaces take turns, so that one with many builders or long builds does not keep the others from building.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::Key;
use crate::api::time;

/// A waiting builder requests a slot every few seconds. One that has not done so for this long does not wait any more:
/// it was deleted or suspended, or its image is good again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Builders that wait for a slot, and the order in which namespaces had one last.
#[derive(Debug, Default)]
pub struct Queue {
    /// When each builder last requested a slot.
    waiting: BTreeMap<Key, Timestamp>,
    /// The number of the last start in each namespace; starts are numbered in order.
    served: BTreeMap<String, u64>,
    starts: u64,
}

impl Queue {
    pub fn wait(&mut self, key: &Key, now: Timestamp) {
        self.waiting.insert(key.clone(), now);
    }

    pub fn leave(&mut self, key: &Key) {
        self.waiting.remove(key);
    }

    pub fn serve(&mut self, key: &Key) {
        self.leave(key);
        self.starts += 1;
        self.served.insert(key.namespace.clone(), self.starts);
    }

    /// Returns the waiting namespace that goes first, if its last start was longer ago than that of `namespace`.
    pub fn goes_first(&self, namespace: &str, now: Timestamp) -> Option<String> {
        let last = |namespace: &str| self.served.get(namespace).copied().unwrap_or(0);
        let waits = |requested: &Timestamp| time::between(*requested, now) < REQUEST_TIMEOUT;
        let waiting =
            self.waiting.iter().filter(|(_, requested)| waits(requested)).map(|(key, _)| &key.namespace);
        let first = waiting.min_by_key(|other| last(other))?;
        (last(first) < last(namespace)).then(|| first.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number of seconds is a timestamp")
    }

    #[test]
    fn namespaces_take_turns_and_within_one_nobody_yields() {
        let mut queue = Queue::default();
        for name in ["1", "2", "3"] {
            queue.wait(&key("many", name), at(0));
        }
        assert_eq!(queue.goes_first("many", at(1)), None);
        queue.serve(&key("many", "1"));
        assert_eq!(queue.goes_first("many", at(1)), None, "no other namespace waits");
        queue.wait(&key("few", "a"), at(1));
        assert_eq!(queue.goes_first("many", at(2)).as_deref(), Some("few"));
        assert_eq!(queue.goes_first("few", at(2)), None);
        queue.serve(&key("few", "a"));
        assert_eq!(queue.goes_first("many", at(3)), None);
        queue.wait(&key("few", "b"), at(3));
        assert_eq!(queue.goes_first("few", at(3)).as_deref(), Some("many"), "now the others go first");
        queue.serve(&key("many", "2"));
        assert_eq!(queue.goes_first("many", at(3)).as_deref(), Some("few"));
    }

    #[test]
    fn one_that_left_or_does_not_ask_any_more_is_not_waited_for() {
        let mut queue = Queue::default();
        queue.serve(&key("many", "1"));
        queue.wait(&key("few", "a"), at(0));
        assert!(queue.goes_first("many", at(59)).is_some());
        assert_eq!(queue.goes_first("many", at(60)), None);
        queue.wait(&key("few", "a"), at(60));
        assert!(queue.goes_first("many", at(61)).is_some());
        queue.leave(&key("few", "a"));
        assert_eq!(queue.goes_first("many", at(61)), None);
    }
}
