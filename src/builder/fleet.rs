//! What builders know of each other, in memory: whose image is gone, which images their status names, and
//! whose turn it is to start.
//!
//! When many builders lose their images at once, something else is wrong than images (another
//! account, a broken filter, a purge): then nothing is built until a person says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::queue::Queue;
use super::step::{On, Plan, Step};
use super::time;
use crate::api::{CommitId, ImageId, Key};

/// Fewer lost images than this are ordinary losses, whatever the share.
const FEW: usize = 2;
/// How long a builder that lost its image waits for the others to look at theirs.
const PATIENCE: Duration = Duration::from_secs(2 * 60);

/// Whose turn it is to start, until it is dropped.
pub type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

/// Shared by all builders of an agent.
#[derive(Debug, Default)]
pub struct Fleet {
    muster: Mutex<Muster>,
    queue: Mutex<Queue>,
    turn: tokio::sync::Mutex<()>,
}

/// Who there is, and what each saw. Kept from pass to pass: with a thousand builders, counting them in
/// every pass would be most of the work.
#[derive(Debug, Default)]
struct Muster {
    /// The commit whose builders these are.
    commit: Option<CommitId>,
    known: BTreeSet<Key>,
    sightings: BTreeMap<Key, Sighting>,
    /// The builders whose status names an image.
    claims: BTreeMap<ImageId, BTreeSet<Key>>,
    /// Of those known: how many lost their image.
    lost: usize,
}

/// What a builder last saw of its own image.
#[derive(Clone, Debug)]
struct Sighting {
    at: Timestamp,
    /// Since when the image that status names is gone.
    lost_since: Option<Timestamp>,
    /// The images that its status names.
    named: BTreeSet<ImageId>,
}

/// What a builder tells the others.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Is an image that its status names gone? Absent if that could not be seen.
    pub lost: Option<bool>,
    /// The images that its status names.
    pub named: BTreeSet<ImageId>,
    /// Images that may be another builder's: whose status names them?
    pub shared: BTreeSet<ImageId>,
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
    /// Shared images that the status of another builder names.
    pub claimed: BTreeSet<ImageId>,
    /// Builders of the same name that were not heard yet, where images may be theirs.
    pub namesakes: Vec<Key>,
    /// Are there builders of more than one namespace?
    pub several: bool,
    /// The namespace that takes a free build slot before this builder's.
    pub goes_first: Option<String>,
}

impl FleetView {
    /// Too many images gone at once to believe that all should be built again?
    pub fn mass_loss(&self) -> bool {
        self.lost > FEW && self.lost * 2 > self.builders
    }
}

impl Fleet {
    /// Notes what a builder saw (`None`: it could not see) and answers how the others stand. `known` are
    /// the builders of a commit, counted once; those not among them are forgotten.
    pub fn look(
        &self,
        key: &Key,
        report: Report,
        commit: &CommitId,
        known: impl FnOnce() -> BTreeSet<Key>,
        now: Timestamp,
    ) -> FleetView {
        // A panic elsewhere leaves the muster as it was: every entry is whole.
        let mut muster = self.muster.lock().unwrap_or_else(PoisonError::into_inner);
        if muster.commit.as_ref() != Some(commit) {
            muster.call(commit.clone(), known());
        }
        let shared = report.shared.clone();
        let lost_since = muster.note(key, report, now);
        // One that Git does not have counts for itself alone.
        let stranger = !muster.known.contains(key);
        FleetView {
            builders: muster.known.len() + usize::from(stranger),
            lost: muster.lost + usize::from(stranger && lost_since.is_some()),
            outstanding: lost_since.map(|since| muster.outstanding(key, since, now)).unwrap_or_default(),
            namesakes: if shared.is_empty() { Vec::new() } else { muster.namesakes(key) },
            claimed: muster.claimed(key, shared),
            several: muster.is_shared_by(key),
            goes_first: self.queued().before(&key.namespace, now),
        }
    }

    /// Notes whether a builder waits for a slot, takes one, or needs none.
    pub fn queue(&self, key: &Key, plan: &Plan, now: Timestamp) {
        let mut queue = self.queued();
        match plan {
            Plan::Wait { on: On::Slot { .. }, .. } => queue.wait(key, now),
            Plan::Act { step: Step::Start { .. }, .. } => queue.serve(key),
            _ => queue.leave(key),
        }
    }

    fn queued(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere leaves the queue as it was: every entry is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held from counting the live runs to starting one.
    pub async fn turn(&self) -> Turn<'_> {
        self.turn.lock().await
    }
}

impl Muster {
    /// Takes the builders of a commit for all there are.
    fn call(&mut self, commit: CommitId, known: BTreeSet<Key>) {
        self.sightings.retain(|key, _| known.contains(key));
        self.claims.values_mut().for_each(|by| by.retain(|key| known.contains(key)));
        self.claims.retain(|_, by| !by.is_empty());
        self.lost = self.sightings.values().filter(|sighting| sighting.lost_since.is_some()).count();
        (self.commit, self.known) = (Some(commit), known);
    }

    /// Notes what a builder saw; answers since when its image is gone, if it is.
    fn note(&mut self, key: &Key, report: Report, now: Timestamp) -> Option<Timestamp> {
        let before = self.sightings.get(key).and_then(|sighting| sighting.lost_since);
        let lost_since = match report.lost {
            Some(true) => before.or(Some(now)),
            Some(false) => None,
            None => before,
        };
        self.claim(key, &report.named);
        self.sightings.insert(key.clone(), Sighting { at: now, lost_since, named: report.named });
        if self.known.contains(key) {
            self.lost = self.lost + usize::from(lost_since.is_some()) - usize::from(before.is_some());
        }
        lost_since
    }

    /// Notes which images a builder's status names, in place of those it named before.
    fn claim(&mut self, key: &Key, named: &BTreeSet<ImageId>) {
        let before = self.sightings.get(key).map(|sighting| sighting.named.clone()).unwrap_or_default();
        for image in before.difference(named) {
            let left = self.claims.get_mut(image).map(|by| {
                by.remove(key);
                by.len()
            });
            if left == Some(0) {
                self.claims.remove(image);
            }
        }
        for image in named.difference(&before) {
            self.claims.entry(image.clone()).or_default().insert(key.clone());
        }
    }

    /// Has another namespace builders, declared in Git or not? Both are sorted by namespace.
    fn is_shared_by(&self, key: &Key) -> bool {
        let ends = [self.known.first(), self.known.last()].into_iter().flatten();
        let seen = [self.sightings.keys().next(), self.sightings.keys().next_back()].into_iter().flatten();
        ends.chain(seen).any(|other| other.namespace != key.namespace)
    }

    /// Those of these images that the status of another builder names.
    fn claimed(&self, key: &Key, mut images: BTreeSet<ImageId>) -> BTreeSet<ImageId> {
        let by_another = |by: &BTreeSet<Key>| by.iter().any(|other| other != key);
        images.retain(|image| self.claims.get(image).is_some_and(by_another));
        images
    }

    /// Only builders of one name adopt the same images of the operator.
    fn namesakes(&self, key: &Key) -> Vec<Key> {
        let unheard =
            |other: &&Key| *other != key && other.name == key.name && !self.sightings.contains_key(other);
        self.known.iter().filter(unheard).cloned().collect()
    }

    /// Builders that have not looked since this one lost its image.
    fn outstanding(&self, key: &Key, since: Timestamp, now: Timestamp) -> Vec<Key> {
        if time::since(now, since) >= PATIENCE {
            return Vec::new();
        }
        let looked = |other: &Key| self.sightings.get(other).is_some_and(|sighting| sighting.at >= since);
        self.known.iter().filter(|other| *other != key && !looked(other)).cloned().collect()
    }
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

    fn commit(names: &[&str]) -> (CommitId, BTreeSet<Key>) {
        let id = format!("{:0>40}", names.len());
        (CommitId::parse(id).expect("forty digits"), names.iter().map(|name| key(name)).collect())
    }

    /// What one builder sees at a commit of these.
    fn look(fleet: &Fleet, name: &str, lost: Option<bool>, of: &[&str], second: i64) -> FleetView {
        let (commit, known) = commit(of);
        fleet.look(&key(name), Report { lost, ..Report::default() }, &commit, || known, at(second))
    }

    #[test]
    fn a_lost_builder_waits_for_the_others_but_not_for_ever() {
        let (fleet, all) = (Fleet::default(), ["a", "b", "c"]);
        look(&fleet, "b", Some(false), &all, 0);
        let view = look(&fleet, "a", Some(true), &all, 10);
        assert_eq!(view.outstanding, [key("b"), key("c")]);
        look(&fleet, "b", Some(true), &all, 11);
        look(&fleet, "c", Some(true), &all, 12);
        let view = look(&fleet, "a", Some(true), &all, 13);
        assert_eq!((view.lost, view.builders, view.outstanding.len()), (3, 3, 0));
        assert!(view.mass_loss());

        let alone = Fleet::default();
        look(&alone, "a", Some(true), &all, 0);
        assert!(look(&alone, "a", Some(true), &all, 120).outstanding.is_empty());
    }

    #[test]
    fn few_losses_or_a_minority_are_no_mass_loss() {
        for (lost, builders, mass) in
            [(1, 1, false), (2, 2, false), (3, 6, false), (3, 5, true), (3, 3, true)]
        {
            let view = FleetView { builders, lost, ..FleetView::default() };
            assert_eq!(view.mass_loss(), mass, "{lost} of {builders}");
        }
    }

    #[test]
    fn removed_builders_no_longer_count_and_found_images_clear_a_loss() {
        let (fleet, three) = (Fleet::default(), ["a", "b", "c"]);
        look(&fleet, "b", Some(true), &three, 0);
        look(&fleet, "c", Some(true), &three, 0);
        let view = look(&fleet, "a", Some(true), &["a"], 1);
        assert_eq!((view.lost, view.builders), (1, 1));
        assert_eq!(look(&fleet, "a", Some(false), &["a"], 2).lost, 0);
        look(&fleet, "a", Some(true), &["a"], 3);
        assert_eq!(look(&fleet, "a", None, &["a"], 4).lost, 1, "an unseen image keeps what was known");
    }

    #[test]
    fn an_image_that_another_status_names_is_claimed_until_it_names_it_no_more() {
        let fleet = Fleet::default();
        let image = ImageId::parse("ami-00000001").expect("an id");
        let in_namespace =
            |namespace: &str, name: &str| Key { namespace: namespace.into(), name: name.into() };
        let (here, there) = (in_namespace("a", "node"), in_namespace("b", "node"));
        let known = || BTreeSet::from([here.clone(), there.clone(), in_namespace("a", "other")]);
        let (id, _) = commit(&["a"]);
        let look = |key: &Key, named: bool, second: i64| {
            let one = BTreeSet::from([image.clone()]);
            let named = if named { one.clone() } else { BTreeSet::new() };
            let report = Report { lost: Some(false), named, shared: one };
            fleet.look(key, report, &id, known, at(second))
        };
        let first = look(&here, true, 0);
        assert_eq!((first.claimed.len(), first.namesakes), (0, vec![there.clone()]), "not all are heard yet");
        let second = look(&there, false, 1);
        assert_eq!((second.claimed.len(), second.namesakes.len()), (1, 0));
        look(&here, false, 2);
        assert!(look(&there, false, 3).claimed.is_empty());
    }

    #[test]
    fn namespaces_share_the_slots_where_more_than_one_has_builders() {
        let of = |namespace: &str| Key { namespace: namespace.into(), name: "node".into() };
        let look = |fleet: &Fleet, at_commit: &[&str], namespace: &str| {
            let known = at_commit.iter().map(|namespace| of(namespace)).collect();
            let (id, _) = commit(at_commit);
            fleet.look(&of(namespace), Report::default(), &id, || known, at(0)).several
        };
        let declared = Fleet::default();
        assert!(!look(&declared, &["b"], "b"));
        assert!(look(&declared, &["a", "b"], "b") && look(&declared, &["a", "b", "c"], "a"));
        let by_hand = Fleet::default();
        assert!(look(&by_hand, &["b"], "a"), "one that no document declares");
        assert!(look(&by_hand, &["b"], "b"));
    }

    #[test]
    fn one_that_git_does_not_have_counts_for_itself_alone() {
        let (fleet, two) = (Fleet::default(), ["a", "b"]);
        let view = look(&fleet, "kept", Some(true), &two, 0);
        assert_eq!((view.lost, view.builders), (1, 3));
        assert_eq!(look(&fleet, "kept", Some(true), &two, 1).lost, 1, "not twice");
        let view = look(&fleet, "a", Some(false), &two, 2);
        assert_eq!((view.lost, view.builders), (0, 2));
    }
}
