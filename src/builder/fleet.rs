//! What builders know of each other, in memory: whose image is gone, and whose turn it is to start.
//!
//! When many builders lose their images at once, something else is wrong than images (another
//! account, a broken filter, a purge): then nothing is built until a person says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::time;
use crate::api::Key;

/// Fewer lost images than this are ordinary losses, whatever the share.
const FEW: usize = 2;
/// How long a builder that lost its image waits for the others to look at theirs.
const PATIENCE: Duration = Duration::from_secs(2 * 60);

/// Whose turn it is to start, until it is dropped.
pub type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

/// Shared by all builders of an agent.
#[derive(Debug, Default)]
pub struct Fleet {
    sightings: Mutex<BTreeMap<Key, Sighting>>,
    turn: tokio::sync::Mutex<()>,
}

/// What a builder last saw of its own image.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    at: Timestamp,
    /// Since when the image that status names is gone.
    lost_since: Option<Timestamp>,
}

/// The fleet as one builder sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetView {
    /// Builders of this agent.
    pub builders: usize,
    /// Those whose image is gone.
    pub lost: usize,
    /// Builders that have not looked since this one lost its image.
    pub outstanding: Vec<Key>,
}

impl FleetView {
    /// Too many images gone at once to believe that all should be built again?
    pub fn mass_loss(&self) -> bool {
        self.lost > FEW && self.lost * 2 > self.builders
    }
}

impl Fleet {
    /// Notes what a builder saw (`None`: it could not see) and answers how the others stand.
    /// `known` are the builders of this agent; those not among them are forgotten.
    pub fn look(&self, key: &Key, lost: Option<bool>, known: &BTreeSet<Key>, now: Timestamp) -> FleetView {
        // A panic elsewhere leaves the map as it was: every entry is whole.
        let mut sightings = self.sightings.lock().unwrap_or_else(PoisonError::into_inner);
        sightings.retain(|other, _| other == key || known.contains(other));
        let before = sightings.get(key).and_then(|sighting| sighting.lost_since);
        let lost_since = match lost {
            Some(true) => before.or(Some(now)),
            Some(false) => None,
            None => before,
        };
        sightings.insert(key.clone(), Sighting { at: now, lost_since });
        FleetView {
            builders: known.iter().chain([key]).collect::<BTreeSet<_>>().len(),
            lost: sightings.values().filter(|sighting| sighting.lost_since.is_some()).count(),
            outstanding: lost_since
                .map(|since| outstanding(&sightings, key, known, since, now))
                .unwrap_or_default(),
        }
    }

    /// Held from counting the live runs to starting one.
    pub async fn turn(&self) -> Turn<'_> {
        self.turn.lock().await
    }
}

fn outstanding(
    sightings: &BTreeMap<Key, Sighting>,
    key: &Key,
    known: &BTreeSet<Key>,
    since: Timestamp,
    now: Timestamp,
) -> Vec<Key> {
    if time::since(now, since) >= PATIENCE {
        return Vec::new();
    }
    let looked = |other: &Key| sightings.get(other).is_some_and(|sighting| sighting.at >= since);
    known.iter().filter(|other| *other != key && !looked(other)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "default".into(), name: name.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number of seconds is a timestamp")
    }

    #[test]
    fn a_lost_builder_waits_for_the_others_but_not_for_ever() {
        let fleet = Fleet::default();
        let known: BTreeSet<Key> = ["a", "b", "c"].map(key).into();
        fleet.look(&key("b"), Some(false), &known, at(0));
        let view = fleet.look(&key("a"), Some(true), &known, at(10));
        assert_eq!(view.outstanding, [key("b"), key("c")]);
        fleet.look(&key("b"), Some(true), &known, at(11));
        fleet.look(&key("c"), Some(true), &known, at(12));
        let view = fleet.look(&key("a"), Some(true), &known, at(13));
        assert_eq!((view.lost, view.builders, view.outstanding.len()), (3, 3, 0));
        assert!(view.mass_loss());

        let alone = Fleet::default();
        alone.look(&key("a"), Some(true), &known, at(0));
        assert!(alone.look(&key("a"), Some(true), &known, at(120)).outstanding.is_empty());
    }

    #[test]
    fn few_losses_or_a_minority_are_no_mass_loss() {
        for (lost, builders, mass) in
            [(1, 1, false), (2, 2, false), (3, 6, false), (3, 5, true), (3, 3, true)]
        {
            let view = FleetView { builders, lost, outstanding: vec![] };
            assert_eq!(view.mass_loss(), mass, "{lost} of {builders}");
        }
    }

    #[test]
    fn removed_builders_no_longer_count_and_found_images_clear_a_loss() {
        let fleet = Fleet::default();
        let three: BTreeSet<Key> = ["a", "b", "c"].map(key).into();
        fleet.look(&key("b"), Some(true), &three, at(0));
        fleet.look(&key("c"), Some(true), &three, at(0));
        let only: BTreeSet<Key> = [key("a")].into();
        let view = fleet.look(&key("a"), Some(true), &only, at(1));
        assert_eq!((view.lost, view.builders), (1, 1));
        assert_eq!(fleet.look(&key("a"), Some(false), &only, at(2)).lost, 0);
        fleet.look(&key("a"), Some(true), &only, at(3));
        assert_eq!(fleet.look(&key("a"), None, &only, at(4)).lost, 1, "an unseen image keeps what was known");
    }
}
