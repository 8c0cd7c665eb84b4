//! Which objects were written last, so that a reader that has seen all of them can follow the changes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use crate::api::ObjectKey;
use crate::api::lock::lock;

/// The number of writes that are kept. After more of them, looking at all objects costs as much.
const KEPT: usize = 2048;

/// The writes to the stores of both kinds.
#[derive(Debug, Default)]
pub struct Writes(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    /// The number of writes so far.
    count: u64,
    /// The last writes, each with its number. All those after `forgotten` are here.
    kept: VecDeque<(u64, ObjectKey)>,
    forgotten: u64,
}

impl Writes {
    /// An object was added, replaced or removed.
    pub fn record(&self, object: ObjectKey) {
        let mut log = lock(&self.0);
        log.count += 1;
        let number = log.count;
        log.kept.push_back((number, object));
        if log.kept.len() > KEPT
            && let Some((number, _)) = log.kept.pop_front()
        {
            log.forgotten = number;
        }
    }

    /// All objects of a kind were replaced.
    pub fn record_all(&self) {
        let mut log = lock(&self.0);
        log.count += 1;
        log.forgotten = log.count;
        log.kept.clear();
    }

    /// The number of writes. As long as it is the same, so are all objects.
    pub fn count(&self) -> u64 {
        lock(&self.0).count
    }

    /// The objects that were written after the first `count` writes; `None` if that is not known.
    pub fn since(&self, count: u64) -> Option<BTreeSet<ObjectKey>> {
        let log = lock(&self.0);
        let new = log.kept.iter().rev().take_while(|(number, _)| *number > count);
        (log.forgotten <= count).then(|| new.map(|(_, object)| object.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Kind};

    fn object(name: &str) -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    #[test]
    fn what_was_written_since_is_known_as_long_as_it_is_kept() {
        let writes = Writes::default();
        let start = writes.count();
        assert_eq!(writes.since(start), Some(BTreeSet::new()));
        for name in ["a", "b", "a"] {
            writes.record(object(name));
        }
        assert_eq!(writes.since(start), Some([object("a"), object("b")].into()));
        assert_eq!(writes.since(start + 2), Some([object("a")].into()));
        assert_eq!(writes.since(writes.count()), Some(BTreeSet::new()));
        let before = writes.count();
        (0..=KEPT).for_each(|number| writes.record(object(&number.to_string())));
        assert_eq!(writes.since(before), None, "the first one is not kept");
        assert_eq!(writes.since(before + 1).map(|all| all.len()), Some(KEPT));
        let before = writes.count();
        writes.record_all();
        assert_eq!(writes.since(before), None);
        assert_eq!(writes.since(writes.count()), Some(BTreeSet::new()));
    }
}
