//! The ledger: the desired objects of the loaded commit, the live objects, and from both what has to be sent and which
//! objects may be reconciled. Pure.
//!
//! The watch records what it observes, `apply` what it did. An object that is being applied is held: it is not woken,
//! because a reconcile would act on what is about to be replaced. `views` has everything that only reads the ledger.

mod desired;
mod index;
mod live;
mod views;

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::failure::{ApplyFailure, not_watched};
use super::places::ObjectPlace;
use super::reverts::Reverts;
use crate::api::{ObjectKey, Owner};
use crate::engine::Load;
use crate::engine::kubernetes::Scope;
use crate::manifest::{Document, Documents};
use desired::Desired;
pub use desired::{Action, Loaded, Observed};
use index::Index;
pub use live::{Live, version};

/// The desired and the live objects.
#[derive(Default)]
pub struct Ledger {
    /// `None` until a commit is loaded.
    owner: Option<Owner>,
    live: BTreeMap<ObjectKey, Live>,
    desired: BTreeMap<ObjectKey, Desired>,
    /// The documents of the loaded commit, from which the desired objects are made.
    documents: Documents,
    /// Documents in namespaces outside the scope.
    outside: BTreeSet<ObjectKey>,
    index: Index,
    /// Objects to delete.
    removals: BTreeSet<ObjectKey>,
    failures: BTreeMap<ObjectKey, ApplyFailure>,
    /// Objects without a status for which one is published. They are not woken before they have it.
    unseeded: BTreeSet<ObjectKey>,
    /// Why specs cannot be decoded.
    undecodable: BTreeMap<ObjectKey, String>,
    /// Objects that are being applied.
    held: BTreeSet<ObjectKey>,
    /// resourceVersions that the agent created and has not observed yet.
    unobserved: BTreeMap<ObjectKey, u64>,
    /// Why places of one namespace cannot be read. Nothing is sent there, because what is known of it is out of date.
    unreadable: BTreeMap<ObjectPlace, String>,
    /// The reverts of objects that had been in sync.
    reverts: BTreeMap<ObjectKey, Reverts>,
}

impl Ledger {
    /// Makes the documents of a commit the desired state.
    pub fn load(&mut self, commit: &Load, scope: &Scope, now: Instant) -> Loaded {
        let of_others: Vec<ObjectKey> = self.of_others().cloned().collect();
        let before = self.all_out_of_sync();
        let has_new_owner = self.owner.as_ref() != Some(&commit.owner);
        let changed = self.replace_desired(commit, scope);
        self.owner = Some(commit.owner.clone());
        match has_new_owner {
            true => self.index_all(),
            false => changed.iter().for_each(|object| self.index(object)),
        }
        // An apply that waits uses the new document. One whose request is under way is repeated if it differs.
        let mut concerned = std::mem::take(&mut self.held);
        self.removals = commit.remove.iter().filter(|object| self.is_own(object)).cloned().collect();
        let (desired, removals) = (&self.desired, &self.removals);
        self.failures.retain(|object, _| desired.contains_key(object) || removals.contains(object));
        self.reverts.retain(|object, _| desired.contains_key(object));
        // A new commit may have removed the cause of a failure.
        self.retry_all(now);
        let unseeded = self.index.lacking.iter().filter(|object| (commit.seed)(object).is_some());
        self.unseeded = unseeded.cloned().collect();
        let mut news = self.conflicts();
        news.extend(self.refuse_outside());
        let now = self.all_out_of_sync();
        let differs = |object: &&ObjectKey| before.get(*object) != now.get(*object);
        concerned.extend(before.keys().chain(now.keys()).filter(differs).cloned());
        // Objects of other owners are not in the stores. Those that are now the agent's own must get there.
        let relist = of_others.iter().any(|object| !self.is_of_other(object));
        let gone = changed.into_iter().filter(|object| !self.is_present(object));
        let unknown = (!has_new_owner).then(|| gone.collect());
        Loaded { relist, news, concerned, unknown }
    }

    /// Replaces the desired objects. What is known of an unchanged document is retained. Returns the objects whose document
    /// is another one, or is gone.
    fn replace_desired(&mut self, commit: &Load, scope: &Scope) -> Vec<ObjectKey> {
        let same_owner = self.owner.as_ref() == Some(&commit.owner);
        let known = if same_owner { self.documents.clone() } else { Documents::default() };
        let is_changed = |document: &&Document| {
            !same_owner || !self.desired.get(&document.object).is_some_and(|known| known.is_of(document))
        };
        // Made first: whatever happens here, the documents in force stay complete.
        let new = known.differences(&commit.documents).filter_map(|(_, new)| new).filter(is_changed);
        let new = new.map(|document| (document.object.clone(), Desired::new(document, &commit.owner)));
        let new: Vec<(ObjectKey, Desired)> = new.collect();
        let gone: Vec<ObjectKey> = self
            .documents
            .differing(&commit.documents)
            .filter(|o| commit.documents.get(o).is_none())
            .cloned()
            .collect();
        for object in &gone {
            self.desired.remove(object);
            self.outside.remove(object);
        }
        let mut changed = gone;
        for (object, desired) in new {
            // Failures and reverts of the old document say nothing about the new one.
            self.failures.remove(&object);
            self.reverts.remove(&object);
            if !scope.covers(&object.key.namespace) {
                self.outside.insert(object.clone());
            }
            self.desired.insert(object.clone(), desired);
            changed.push(object);
        }
        self.documents = commit.documents.clone();
        changed
    }

    /// Records a failure for each document outside the scope. Returns those that are new.
    fn refuse_outside(&mut self) -> Vec<(ObjectKey, String)> {
        let mut news = Vec::new();
        for object in self.outside.iter().filter(|object| !self.failures.contains_key(object)) {
            news.push((object.clone(), not_watched(&object.key.namespace)));
        }
        let refused = news.into_iter().map(|(object, failure)| {
            let message = failure.message.clone();
            self.failures.insert(object.clone(), failure);
            (object, message)
        });
        refused.collect()
    }

    /// Records a live object. `news` is whether a reconciler needs to see the change, `listed` whether a list returned
    /// the object.
    pub fn observe(
        &mut self,
        object: &ObjectKey,
        live: Live,
        undecodable: Option<String>,
        news: bool,
        listed: bool,
        now: Instant,
    ) -> Observed {
        let known = self.live.get(object);
        // Events may arrive late. A list always counts: after a restore of its data, a server restarts from an earlier
        // version.
        if !listed && known.is_some_and(|known| known.uid == live.uid && known.version > live.version) {
            return Observed::Stale;
        }
        let (version, print, shared) = (live.version, live.print, live.is_shared);
        if live.has_status {
            self.unseeded.remove(object);
        }
        self.set_live(object, Some(live));
        match undecodable {
            Some(why) => self.undecodable.insert(object.clone(), why),
            None => self.undecodable.remove(object),
        };
        if let Some(desired) = self.desired.get_mut(object) {
            // Exactly the version that the apply created: if nobody else owns fields of it, this is what the server
            // makes of the document.
            if desired.made == Some(version) && !shared {
                desired.accepted = print;
            }
            desired.made = desired.made.filter(|made| *made > version);
        }
        self.index(object);
        self.note_sync(object, now);
        let expected = self.unobserved.get(object).is_some_and(|made| *made <= version);
        if expected {
            self.unobserved.remove(object);
        }
        // A failure is over if nothing is left to send: a request took effect although its response was lost, or
        // another writer made the change.
        let fails = self.is_due(object) || self.is_unread(object);
        let recovered = !fails && self.failures.remove(object).is_some();
        if self.is_of_other(object) {
            return Observed::OtherOwner;
        }
        let free = self.owner.is_some() && !self.held.contains(object);
        // An object that is about to be applied is reconciled after that. If applying it fails, it is reconciled as it
        // is, so that its condition states the failure.
        let settled = !self.is_due(object) || self.failures.contains_key(object);
        Observed::Own { wake: free && settled && (news || expected || recovered), reapply: free && !settled }
    }

    /// Records that an object is deleted.
    pub fn gone(&mut self, object: &ObjectKey, now: Instant) {
        self.set_live(object, None);
        self.undecodable.remove(object);
        self.unobserved.remove(object);
        if let Some(desired) = self.desired.get_mut(object) {
            desired.made = None;
        }
        self.index(object);
        self.note_sync(object, now);
        if self.removals.remove(object) {
            self.failures.remove(object);
        }
    }

    /// Records whether an object is in sync.
    fn note_sync(&mut self, object: &ObjectKey, now: Instant) {
        let in_sync = !self.differs(object);
        if let Some(desired) = self.desired.get_mut(object) {
            desired.was_in_sync |= in_sync;
        }
        if let Some(reverts) = self.reverts.get_mut(object) {
            reverts.observe(in_sync, now);
        }
    }

    /// The objects for which something can be sent now.
    pub fn due(&self, now: Instant) -> Vec<ObjectKey> {
        let rested = |object: &&ObjectKey| {
            self.rests(object).is_some_and(|until| until.is_none_or(|until| until <= now))
        };
        // Nothing else can be due.
        let declared = self.index.differing.union(&self.unseeded);
        declared.chain(&self.removals).filter(|object| self.is_due(object)).filter(rested).cloned().collect()
    }

    /// Until when nothing is sent for an object: `Some(None)` if it can be sent at once, `None` if only a new commit
    /// helps.
    fn rests(&self, object: &ObjectKey) -> Option<Option<Instant>> {
        let next = self.reverts.get(object).and_then(Reverts::next);
        match self.failures.get(object) {
            Some(failure) => Some(next.max(Some(failure.retry?))),
            None => Some(next),
        }
    }

    /// The next time at which the backoff of a failure or of a revert ends, or a contest may be over.
    pub fn next_retry(&self) -> Option<Instant> {
        let contested = self.reverts.iter().filter(|(_, reverts)| reverts.is_contested());
        let calm = contested.clone().filter(|(object, _)| !self.is_due(object));
        let calm = calm.filter_map(|(_, reverts)| reverts.calm_at());
        let resting = self.failures.keys().chain(contested.map(|(object, _)| object));
        let due = resting.filter(|object| self.is_due(object)).filter_map(|object| self.rests(object)?);
        due.chain(calm).min()
    }

    /// Records a revert and the drift that it reverted. Returns whether another writer turns out to keep changing the
    /// object.
    pub fn reverted(&mut self, object: &ObjectKey, cause: String, now: Instant) -> bool {
        self.reverts.entry(object.clone()).or_default().reverted(cause, now)
    }

    /// Forgets the reverts of objects that have stayed in sync. Returns those that were contested.
    pub fn calm(&mut self, now: Instant) -> Vec<ObjectKey> {
        let is_calm = |reverts: &Reverts| reverts.calm_at().is_some_and(|at| at <= now);
        let calm = self.reverts.iter().filter(|(_, reverts)| is_calm(reverts) && reverts.is_contested());
        let calm = calm.map(|(object, _)| object.clone()).collect();
        self.reverts.retain(|_, reverts| !is_calm(reverts));
        calm
    }

    /// The next action for an object, if any.
    pub fn action(&self, object: &ObjectKey) -> Option<Action> {
        let live = self.live.get(object);
        if self.removals.contains(object) {
            return live.filter(|live| !live.deleting).map(|live| Action::Remove { uid: live.uid.clone() });
        }
        let desired = self.desired.get(object)?;
        if self.differs(object) {
            let takeover = live.is_some_and(|live| live.needs_takeover);
            let has_status = live.is_some_and(|live| live.has_status);
            let (document, file) = (desired.document.clone(), desired.file.clone());
            let drift = self.drift(object, desired);
            return Some(Action::Apply { document, file, takeover, has_status, drift });
        }
        let unseeded = live.filter(|_| self.unseeded.contains(object));
        unseeded.map(|live| Action::Seed { version: live.version })
    }

    /// Holds objects, so that they are not reconciled until `done` or `failed`.
    pub fn hold(&mut self, objects: &[ObjectKey]) {
        self.held.extend(objects.iter().cloned());
    }

    /// Allows reconciles again, without an action.
    pub fn unhold(&mut self, object: &ObjectKey) {
        self.held.remove(object);
    }

    /// Records a successful action, and the resourceVersion that it created. Returns whether the object should be
    /// reconciled now; otherwise it is when that version is observed.
    pub fn done(&mut self, object: &ObjectKey, made: Option<u64>) -> bool {
        self.held.remove(object);
        self.failures.remove(object);
        self.unseeded.remove(object);
        let Some(made) = made else { return self.live.contains_key(object) };
        let live = self.live.get(object);
        let seen = live.is_some_and(|live| live.version >= made);
        if let Some(desired) = self.desired.get_mut(object) {
            desired.was_in_sync = true;
            // As in `observe`, for a watch that was faster than the response.
            match live.filter(|live| live.version == made) {
                Some(live) if live.is_shared => {}
                Some(live) => desired.accepted = live.print,
                None if !seen => desired.made = Some(made),
                None => {}
            }
        }
        self.index(object);
        if !seen {
            self.unobserved.insert(object.clone(), made);
        }
        seen
    }

    /// Records a failed action. Returns whether its message is new.
    pub fn failed(&mut self, object: &ObjectKey, failure: ApplyFailure, now: Instant) -> bool {
        self.held.remove(object);
        let before = self.failures.get(object);
        let news = before.is_none_or(|before| before.message != failure.message);
        let next = failure.after(before, &object.to_string(), now);
        self.failures.insert(object.clone(), next);
        news
    }

    /// Makes the retry of all failures due, because their cause may have disappeared.
    pub fn retry_all(&mut self, now: Instant) {
        self.failures.values_mut().for_each(|failure| failure.retry = failure.retry.map(|_| now));
    }

    /// Records that a place cannot be read, and why.
    pub fn unreadable(&mut self, place: &ObjectPlace, message: String) {
        self.unreadable.insert(place.clone(), message);
    }

    /// Records that a place can be read.
    pub fn readable(&mut self, place: &ObjectPlace) {
        self.unreadable.remove(place);
    }

    /// Why the place of an object cannot be read, if so.
    fn unread_message(&self, object: &ObjectKey) -> Option<&String> {
        // The map is almost always empty, and this is called for every object: the key is not worth building.
        if self.unreadable.is_empty() { None } else { self.unreadable.get(&ObjectPlace::of(object)) }
    }

    fn is_unread(&self, object: &ObjectKey) -> bool {
        self.unread_message(object).is_some()
    }

    /// Whether the live object has this owner's label.
    fn is_own(&self, object: &ObjectKey) -> bool {
        let owner = self.live.get(object).and_then(|live| live.owner.as_deref());
        owner.is_some() && owner == self.owner.as_ref().map(Owner::as_str)
    }

    /// Whether the live object has another owner's label.
    fn is_of_other(&self, object: &ObjectKey) -> bool {
        self.live.get(object).is_some_and(|live| self.is_others(live))
    }

    /// Whether this live object has another owner's label.
    fn is_others(&self, live: &Live) -> bool {
        let Some(own) = &self.owner else { return false };
        live.owner.as_deref().is_some_and(|owner| owner != own.as_str())
    }

    /// Whether there is something to send for an object.
    fn is_due(&self, object: &ObjectKey) -> bool {
        let exists = || self.live.get(object).is_some_and(|live| !live.deleting) && !self.is_of_other(object);
        let is_listed = self.removals.contains(object) || self.unseeded.contains(object);
        !self.is_unread(object) && (self.differs(object) || (is_listed && exists()))
    }

    /// Whether the document must be sent. An object that is being deleted is created again once it is gone.
    fn differs(&self, object: &ObjectKey) -> bool {
        let Some(desired) = self.desired.get(object) else { return false };
        // What the last apply created is not observed yet, so there is nothing to compare.
        if desired.made.is_some() {
            return false;
        }
        let Some(live) = self.live.get(object) else { return true };
        let same = live.print.is_some_and(|print| print == desired.print || Some(print) == desired.accepted);
        !same && !live.deleting && !self.is_of_other(object)
    }
}

#[cfg(test)]
mod tests;
