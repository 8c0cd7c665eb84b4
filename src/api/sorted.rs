//! A sorted collection whose copies share what they have in common: a copy with a few changes needs little time and
//! memory, and what differs between two of them is found without looking at the rest. Pure.

use std::sync::Arc;

/// Number of items from which a chunk is split. The cost of a change grows with it, and that of a copy with its inverse.
const CHUNK: usize = 128;

/// An item that contains its key.
pub trait Keyed {
    type Key: Ord;
    fn key(&self) -> &Self::Key;
}

/// Items sorted by key, each key once.
#[derive(Clone, Debug)]
pub struct Sorted<T> {
    /// None is empty.
    chunks: Vec<Arc<Vec<T>>>,
}

/// An item of one collection, and that with the same key of another. At least one exists.
pub type Difference<'a, T> = (Option<&'a T>, Option<&'a T>);

impl<T: Keyed + Clone> Sorted<T> {
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    pub fn get(&self, key: &T::Key) -> Option<&T> {
        let chunk = self.chunks.get(self.place(key))?;
        chunk.binary_search_by(|item| item.key().cmp(key)).ok().map(|at| &chunk[at])
    }

    /// Adds an item, in place of the one with its key.
    pub fn insert(&mut self, item: T) {
        let place = self.place(item.key());
        let Some(chunk) = self.chunks.get_mut(place).map(Arc::make_mut) else {
            return self.chunks.push(Arc::new(vec![item]));
        };
        match chunk.binary_search_by(|other| other.key().cmp(item.key())) {
            Ok(at) => chunk[at] = item,
            Err(at) => chunk.insert(at, item),
        }
        if chunk.len() >= CHUNK {
            let rest = chunk.split_off(CHUNK / 2);
            self.chunks.insert(place + 1, Arc::new(rest));
        }
    }

    /// Removes the item with this key, if there is one.
    pub fn remove(&mut self, key: &T::Key) {
        let place = self.place(key);
        let Some(chunk) = self.chunks.get_mut(place) else { return };
        let Ok(at) = chunk.binary_search_by(|item| item.key().cmp(key)) else { return };
        Arc::make_mut(chunk).remove(at);
        if chunk.is_empty() {
            self.chunks.remove(place);
        }
    }

    /// What differs between this collection and another, sorted by key. Shared parts are skipped.
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<Difference<'a, T>>
    where
        T: PartialEq,
    {
        let (mut ours, mut theirs) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        let mut found = Vec::new();
        loop {
            if let (Some(one), Some(two)) = (ours.whole(), theirs.whole())
                && Arc::ptr_eq(one, two)
            {
                (ours, theirs) = (ours.after_chunk(), theirs.after_chunk());
                continue;
            }
            let (one, two) = (ours.item(), theirs.item());
            let order = match (one, two) {
                (None, None) => return found,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(one), Some(two)) => one.key().cmp(two.key()),
            };
            let (one, two) = (one.filter(|_| order.is_le()), two.filter(|_| order.is_ge()));
            ours.step(one.is_some());
            theirs.step(two.is_some());
            if one != two {
                found.push((one, two));
            }
        }
    }

    /// The same items. What they have in common with `other` is shared with it.
    #[must_use]
    pub fn sharing(self, other: &Self) -> Self
    where
        T: PartialEq,
    {
        let differences = other.differences(&self);
        // With this many changes, hardly any chunk is the same.
        if differences.len() > other.chunks.len() {
            return self;
        }
        let mut shared = other.clone();
        for difference in &differences {
            match difference {
                (_, Some(item)) => shared.insert((*item).clone()),
                (Some(item), None) => shared.remove(item.key()),
                (None, None) => {}
            }
        }
        shared
    }

    /// The only chunk that can contain a key.
    fn place(&self, key: &T::Key) -> usize {
        let after = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|item| item.key() <= key));
        after.saturating_sub(1)
    }
}

/// A position between the items of a collection.
struct Cursor<'a, T> {
    chunks: &'a [Arc<Vec<T>>],
    at: usize,
}

impl<'a, T> Cursor<'a, T> {
    fn new(chunks: &'a [Arc<Vec<T>>]) -> Self {
        Self { chunks, at: 0 }
    }

    /// The next chunk, at its beginning.
    fn whole(&self) -> Option<&'a Arc<Vec<T>>> {
        self.chunks.first().filter(|_| self.at == 0)
    }

    fn item(&self) -> Option<&'a T> {
        self.chunks.first()?.get(self.at)
    }

    fn after_chunk(&self) -> Self {
        Self::new(&self.chunks[1..])
    }

    /// Moves to the next item, if `moves`.
    fn step(&mut self, moves: bool) {
        if moves {
            self.at += 1;
            if self.item().is_none() {
                *self = self.after_chunk();
            }
        }
    }
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Keyed + Clone + PartialEq> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.differences(other).is_empty()
    }
}

/// Of items with the same key, the last one counts.
impl<T: Keyed + Clone> FromIterator<T> for Sorted<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items: Vec<T> = items.into_iter().collect();
        items.sort_by(|a, b| a.key().cmp(b.key()));
        items.dedup_by(|later, earlier| {
            let is_same = later.key() == earlier.key();
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        let mut chunks = Vec::with_capacity(items.len().div_ceil(CHUNK / 2));
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            chunks.push(Arc::new(items.by_ref().take(CHUNK / 2).collect()));
        }
        Self { chunks }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Item(u16, u8);

    impl Keyed for Item {
        type Key = u16;
        fn key(&self) -> &u16 {
            &self.0
        }
    }

    fn sorted(items: &BTreeMap<u16, u8>) -> Sorted<Item> {
        items.iter().map(|(key, value)| Item(*key, *value)).collect()
    }

    fn map(items: &Sorted<Item>) -> BTreeMap<u16, u8> {
        items.iter().map(|item| (item.0, item.1)).collect()
    }

    /// Removes a key, or sets its value.
    fn change(items: &mut Sorted<Item>, model: &mut BTreeMap<u16, u8>, (key, value): (u16, Option<u8>)) {
        match value {
            Some(value) => {
                items.insert(Item(key, value));
                model.insert(key, value);
            }
            None => {
                items.remove(&key);
                model.remove(&key);
            }
        }
    }

    /// The keys at which two maps differ.
    fn differing(one: &BTreeMap<u16, u8>, two: &BTreeMap<u16, u8>) -> Vec<u16> {
        let keys: std::collections::BTreeSet<u16> = one.keys().chain(two.keys()).copied().collect();
        keys.into_iter().filter(|key| one.get(key) != two.get(key)).collect()
    }

    fn found(one: &Sorted<Item>, two: &Sorted<Item>) -> Vec<u16> {
        let key = |(one, two): Difference<'_, Item>| one.or(two).map(|item| item.0);
        one.differences(two).into_iter().filter_map(key).collect()
    }

    proptest! {
        #[test]
        fn it_is_like_a_map_and_differences_are_exact(
            first in vec((0..2000_u16, 0..3_u8), 0..1500),
            changes in vec((0..2000_u16, proptest::option::of(0..3_u8)), 0..400),
        ) {
            let mut model: BTreeMap<u16, u8> = first.iter().copied().collect();
            let mut items: Sorted<Item> = first.into_iter().map(|(key, value)| Item(key, value)).collect();
            let (before, model_before) = (items.clone(), model.clone());
            for one in changes {
                change(&mut items, &mut model, one);
                prop_assert_eq!(items.get(&one.0).map(|item| item.1), model.get(&one.0).copied());
            }
            prop_assert_eq!(map(&items), model.clone());
            prop_assert_eq!((items.len(), items.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(map(&before), model_before.clone(), "a copy does not change");
            prop_assert_eq!(found(&before, &items), differing(&model_before, &model));
            let fresh = sorted(&model);
            prop_assert!(fresh == items && (before == items) == (model_before == model));
            let shared = fresh.sharing(&before);
            prop_assert_eq!(map(&shared), model.clone());
            prop_assert_eq!(found(&before, &shared), differing(&model_before, &model));
        }
    }

    #[test]
    fn a_copy_with_one_change_shares_the_rest() {
        let before: Sorted<Item> = (0..10_000).map(|key| Item(key, 0)).collect();
        let mut now = before.clone();
        now.insert(Item(7, 1));
        let shared = |now: &Sorted<Item>| {
            now.chunks
                .iter()
                .filter(|chunk| before.chunks.iter().any(|other| Arc::ptr_eq(chunk, other)))
                .count()
        };
        assert_eq!(shared(&now), now.chunks.len() - 1);
        let fresh: Sorted<Item> = now.iter().cloned().collect();
        assert_eq!(shared(&fresh), 0);
        let again = fresh.sharing(&before);
        assert_eq!(shared(&again), again.chunks.len() - 1);
    }
}
