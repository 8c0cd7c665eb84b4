//! What builders know of each other, in memory: which ones lost their image, which images their status names, and which
//! one may start a build.
//!
//! If many builders lose their images at once, something other than the images is wrong (another account, a wrong
//! filter, a purge). Then nothing is built until a person allows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;

use super::queue::Queue;
use super::step::{Plan, Step, WaitReason};
use crate::api::lock::lock;
use crate::api::time;
use crate::api::{CommitId, ImageId, Key, Kind};
use crate::manifest::{Document, Documents};

/// Up to this many lost images are ordinary losses, whatever their share.
const ORDINARY_LOSSES: usize = 2;
/// How long a builder that lost its image waits until the others have checked theirs.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// Permission to start a build, until it is dropped.
pub type StartPermit<'a> = tokio::sync::MutexGuard<'a, ()>;

/// Shared by all builders of an agent.
#[derive(Debug, Default)]
pub struct Fleet {
    roster: Mutex<Roster>,
    queue: Mutex<Queue>,
    start_lock: tokio::sync::Mutex<()>,
}

/// All builders of a commit, and what each of them observed last. It is kept between reconciles: with a thousand
/// builders, counting them in each reconcile would be most of the work.
#[derive(Debug, Default)]
struct Roster {
    /// The commit whose builders these are.
    commit: Option<CommitId>,
    known: BTreeSet<Key>,
    /// The documents of that commit: the next one is followed by its difference to them.
    documents: Documents,
    observations: BTreeMap<Key, Observation>,
    /// For each image, the builders whose status names it.
    claims: BTreeMap<ImageId, BTreeSet<Key>>,
    /// Known builders that lost their image.
    lost: BTreeSet<Key>,
    /// Builders that observe and that the commit does not declare.
    undeclared: BTreeSet<Key>,
}

/// What a builder observed last.
#[derive(Clone, Debug)]
struct Observation {
    at: Timestamp,
    /// Since when an image that its status names is missing.
    lost_since: Option<Timestamp>,
    /// The images that its status names.
    named: BTreeSet<ImageId>,
}

/// What a builder reports to the others.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether an image that its status names is missing; `None` if that could not be read.
    pub lost: Option<bool>,
    /// The images that its status names.
    pub named: BTreeSet<ImageId>,
    /// Images that may belong to another builder.
    pub shared: BTreeSet<ImageId>,
}

/// The fleet from the point of view of one builder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetView {
    /// Builders of this agent.
    pub builders: usize,
    /// Those that lost their image.
    pub lost: usize,
    /// Builders that have not checked their images since this one lost its own.
    pub outstanding: Vec<Key>,
    /// Shared images that the status of another builder names.
    pub claimed: BTreeSet<ImageId>,
    /// Builders of the same name that have not reported yet, if this one has images that may be theirs.
    pub namesakes: Vec<Key>,
    /// Whether more than one namespace has builders.
    pub several_namespaces: bool,
    /// The namespace that takes a free build slot before the one of this builder.
    pub goes_first: Option<String>,
}

impl FleetView {
    /// Returns whether so many images are missing at once that rebuilding them would most likely be a mistake.
    pub fn mass_loss(&self) -> bool {
        self.lost > ORDINARY_LOSSES && self.lost * 2 > self.builders
    }
}

impl Fleet {
    /// Records the report of a builder and returns its view of the others, at a commit with these documents. Builders that
    /// it does not declare are forgotten once per commit.
    pub fn update(
        &self,
        key: &Key,
        report: Report,
        commit: &CommitId,
        documents: &Documents,
        now: Timestamp,
    ) -> FleetView {
        // A panic in another thread cannot leave an incomplete entry, so a poisoned lock is safe to use.
        let mut roster = lock(&self.roster);
        if roster.commit.as_ref() != Some(commit) {
            roster.replace(commit.clone(), documents);
        }
        let shared = report.shared.clone();
        let lost_since = roster.record(key, report, now);
        // A builder that is not declared in Git counts only in its own view.
        let undeclared = !roster.known.contains(key);
        FleetView {
            builders: roster.known.len() + usize::from(undeclared),
            lost: roster.lost.len() + usize::from(undeclared && lost_since.is_some()),
            outstanding: lost_since.map(|since| roster.outstanding(key, since, now)).unwrap_or_default(),
            namesakes: if shared.is_empty() { Vec::new() } else { roster.namesakes(key) },
            claimed: roster.claimed(key, shared),
            several_namespaces: roster.has_other_namespaces(key),
            goes_first: self.lock_queue().goes_first(&key.namespace, now),
        }
    }

    /// Records whether a builder waits for a slot, takes one, or needs none.
    pub fn update_queue(&self, key: &Key, plan: &Plan, now: Timestamp) {
        let mut queue = self.lock_queue();
        match plan {
            Plan::Wait { on: WaitReason::Slot { .. }, .. } => queue.wait(key, now),
            Plan::Act { step: Step::Start { .. }, .. } => queue.serve(key),
            _ => queue.leave(key),
        }
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        // A panic in another thread cannot leave an incomplete entry, so a poisoned lock is safe to use.
        lock(&self.queue)
    }

    /// Waits for the permit to start a build. It is held from counting the live runs until the new run is started.
    pub async fn start_permit(&self) -> StartPermit<'_> {
        self.start_lock.lock().await
    }
}

impl Roster {
    /// Follows a commit to its builders.
    fn replace(&mut self, commit: CommitId, documents: &Documents) {
        let before = std::mem::replace(&mut self.documents, documents.clone());
        let builder = |document: &Document| {
            Some(document.object.key.clone()).filter(|_| document.object.kind == Kind::PackerBuilder)
        };
        let mut concerned = std::mem::take(&mut self.undeclared);
        for (old, new) in before.differences(documents) {
            match (old.and_then(builder), new.and_then(builder)) {
                (Some(key), None) => {
                    self.known.remove(&key);
                    concerned.insert(key);
                }
                (_, Some(key)) => drop(self.known.insert(key)),
                (None, None) => {}
            }
        }
        for key in concerned {
            if !self.known.contains(&key) {
                self.claim(&key, &BTreeSet::new());
                self.observations.remove(&key);
            }
            self.count(&key);
        }
        self.commit = Some(commit);
    }

    /// Counts a builder as lost, or not, by what it observed last.
    fn count(&mut self, key: &Key) {
        let is_lost = self.observations.get(key).is_some_and(|observation| observation.lost_since.is_some());
        match is_lost && self.known.contains(key) {
            true => drop(self.lost.insert(key.clone())),
            false => drop(self.lost.remove(key)),
        }
    }

    /// Records what a builder observed. Returns since when an image of it is missing, if one is.
    fn record(&mut self, key: &Key, report: Report, now: Timestamp) -> Option<Timestamp> {
        let before = self.observations.get(key).and_then(|observation| observation.lost_since);
        let lost_since = match report.lost {
            Some(true) => before.or(Some(now)),
            Some(false) => None,
            None => before,
        };
        self.claim(key, &report.named);
        self.observations.insert(key.clone(), Observation { at: now, lost_since, named: report.named });
        if !self.known.contains(key) {
            self.undeclared.insert(key.clone());
        }
        self.count(key);
        lost_since
    }

    /// Records which images a builder's status names, in place of those that it named before.
    fn claim(&mut self, key: &Key, named: &BTreeSet<ImageId>) {
        let before =
            self.observations.get(key).map(|observation| observation.named.clone()).unwrap_or_default();
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

    /// Returns whether another namespace has builders, declared in Git or not. Keys are sorted by namespace, so the
    /// first and the last one suffice.
    fn has_other_namespaces(&self, key: &Key) -> bool {
        let ends = [self.known.first(), self.known.last()].into_iter().flatten();
        let observing =
            [self.observations.keys().next(), self.observations.keys().next_back()].into_iter().flatten();
        ends.chain(observing).any(|other| other.namespace != key.namespace)
    }

    /// Returns those of the images that the status of another builder names.
    fn claimed(&self, key: &Key, mut images: BTreeSet<ImageId>) -> BTreeSet<ImageId> {
        let by_another = |by: &BTreeSet<Key>| by.iter().any(|other| other != key);
        images.retain(|image| self.claims.get(image).is_some_and(by_another));
        images
    }

    /// Returns the builders of the same name that have not reported yet. Only builders of one name can adopt the same
    /// images of the operator.
    fn namesakes(&self, key: &Key) -> Vec<Key> {
        let unreported =
            |other: &&Key| *other != key && other.name == key.name && !self.observations.contains_key(other);
        self.known.iter().filter(unreported).cloned().collect()
    }

    /// Returns the builders that have not checked their images since this one lost its own.
    fn outstanding(&self, key: &Key, since: Timestamp, now: Timestamp) -> Vec<Key> {
        if time::between(since, now) >= CHECK_TIMEOUT {
            return Vec::new();
        }
        let checked =
            |other: &Key| self.observations.get(other).is_some_and(|observation| observation.at >= since);
        self.known.iter().filter(|other| *other != key && !checked(other)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;
    use crate::manifest::DocumentText;

    fn key(name: &str) -> Key {
        Key { namespace: "default".into(), name: name.into() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number of seconds is a timestamp")
    }

    fn commit(names: &[&str]) -> (CommitId, Documents) {
        let id = format!("{:0>40}", names.len());
        (CommitId::parse(id).expect("forty digits"), declared(names.iter().map(|name| key(name))))
    }

    /// Documents of these builders.
    fn declared(keys: impl IntoIterator<Item = Key>) -> Documents {
        let document = |key| Document {
            object: ObjectKey { kind: Kind::PackerBuilder, key },
            json: DocumentText::from(&serde_json::Value::Null),
            file: "a.yaml".to_owned(),
            line: 1,
        };
        keys.into_iter().map(document).collect()
    }

    /// The view of one builder after its report, at a commit with the builders `of`.
    fn update(fleet: &Fleet, name: &str, lost: Option<bool>, of: &[&str], second: i64) -> FleetView {
        let (commit, known) = commit(of);
        fleet.update(&key(name), Report { lost, ..Report::default() }, &commit, &known, at(second))
    }

    #[test]
    fn a_lost_builder_waits_for_the_others_but_not_for_ever() {
        let (fleet, all) = (Fleet::default(), ["a", "b", "c"]);
        update(&fleet, "b", Some(false), &all, 0);
        let view = update(&fleet, "a", Some(true), &all, 10);
        assert_eq!(view.outstanding, [key("b"), key("c")]);
        update(&fleet, "b", Some(true), &all, 11);
        update(&fleet, "c", Some(true), &all, 12);
        let view = update(&fleet, "a", Some(true), &all, 13);
        assert_eq!((view.lost, view.builders, view.outstanding.len()), (3, 3, 0));
        assert!(view.mass_loss());

        let alone = Fleet::default();
        update(&alone, "a", Some(true), &all, 0);
        assert!(update(&alone, "a", Some(true), &all, 120).outstanding.is_empty());
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
        update(&fleet, "b", Some(true), &three, 0);
        update(&fleet, "c", Some(true), &three, 0);
        let view = update(&fleet, "a", Some(true), &["a"], 1);
        assert_eq!((view.lost, view.builders), (1, 1));
        assert_eq!(update(&fleet, "a", Some(false), &["a"], 2).lost, 0);
        update(&fleet, "a", Some(true), &["a"], 3);
        assert_eq!(update(&fleet, "a", None, &["a"], 4).lost, 1, "a failed read changes nothing");
    }

    #[test]
    fn an_image_that_another_status_names_is_claimed_until_it_names_it_no_more() {
        let fleet = Fleet::default();
        let image = ImageId::parse("ami-00000001").expect("an id");
        let in_namespace =
            |namespace: &str, name: &str| Key { namespace: namespace.into(), name: name.into() };
        let (here, there) = (in_namespace("a", "node"), in_namespace("b", "node"));
        let known = declared([here.clone(), there.clone(), in_namespace("a", "other")]);
        let (id, _) = commit(&["a"]);
        let update = |key: &Key, named: bool, second: i64| {
            let one = BTreeSet::from([image.clone()]);
            let named = if named { one.clone() } else { BTreeSet::new() };
            let report = Report { lost: Some(false), named, shared: one };
            fleet.update(key, report, &id, &known, at(second))
        };
        let first = update(&here, true, 0);
        assert_eq!(
            (first.claimed.len(), first.namesakes),
            (0, vec![there.clone()]),
            "not all have reported yet"
        );
        let second = update(&there, false, 1);
        assert_eq!((second.claimed.len(), second.namesakes.len()), (1, 0));
        update(&here, false, 2);
        assert!(update(&there, false, 3).claimed.is_empty());
    }

    #[test]
    fn namespaces_share_the_slots_where_more_than_one_has_builders() {
        let of = |namespace: &str| Key { namespace: namespace.into(), name: "node".into() };
        let update = |fleet: &Fleet, at_commit: &[&str], namespace: &str| {
            let known = declared(at_commit.iter().map(|namespace| of(namespace)));
            let (id, _) = commit(at_commit);
            fleet.update(&of(namespace), Report::default(), &id, &known, at(0)).several_namespaces
        };
        let declared = Fleet::default();
        assert!(!update(&declared, &["b"], "b"));
        assert!(update(&declared, &["a", "b"], "b") && update(&declared, &["a", "b", "c"], "a"));
        let by_hand = Fleet::default();
        assert!(update(&by_hand, &["b"], "a"), "it is not declared in Git");
        assert!(update(&by_hand, &["b"], "b"));
    }

    #[test]
    fn one_that_git_does_not_have_counts_for_itself_alone() {
        let (fleet, two) = (Fleet::default(), ["a", "b"]);
        let view = update(&fleet, "kept", Some(true), &two, 0);
        assert_eq!((view.lost, view.builders), (1, 3));
        assert_eq!(update(&fleet, "kept", Some(true), &two, 1).lost, 1, "not twice");
        let view = update(&fleet, "a", Some(false), &two, 2);
        assert_eq!((view.lost, view.builders), (0, 2));
    }
}
