//! Everything that only reads the ledger: why objects are out of sync, and which there are.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::Desired;
use super::{Ledger, Live};
use crate::api::reasons;
use crate::api::{ObjectKey, Owner};
use crate::engine::Wakes;
use crate::engine::kubernetes::objects::failure::{ApplyFailure, contested, of_another};

/// The reason for objects of a namespace that cannot be read.
const UNREADABLE: &str = reasons::NAMESPACE_UNREADABLE;

impl Ledger {
    /// Why an object is out of sync, if it is: reason and message of `Applied=False`.
    pub fn out_of_sync(&self, object: &ObjectKey) -> Option<(&'static str, String)> {
        if let Some(message) = self.unread_message(object) {
            return Some((UNREADABLE, message.clone()));
        }
        let failure = self.failures.get(object).map(|failure| (failure.reason, failure.message.clone()));
        let contest = || self.contest(object).map(|message| (reasons::ANOTHER_WRITER, message));
        let undecodable = || self.undecodable.get(object).map(|why| (reasons::SPEC_UNREADABLE, why.clone()));
        let conflict = || self.conflict(object).map(|message| (reasons::ANOTHER_OWNER, message));
        failure.or_else(contest).or_else(conflict).or_else(undecodable)
    }

    /// All objects that are out of sync, except those of places that cannot be read.
    pub fn all_out_of_sync(&self) -> BTreeMap<ObjectKey, (&'static str, String)> {
        let failing = self.failures.keys().chain(self.reverts.keys()).chain(self.undecodable.keys());
        let failing = failing.filter_map(|object| Some((object.clone(), self.out_of_sync(object)?)));
        let conflicts = self.conflicts().into_iter();
        let conflicts = conflicts.map(|(object, message)| (object, (reasons::ANOTHER_OWNER, message)));
        conflicts.chain(failing).collect()
    }

    pub fn apply_failures(&self) -> impl Iterator<Item = (&ObjectKey, &ApplyFailure)> {
        self.failures.iter()
    }

    /// Documents whose object belongs to another owner, with the message for each.
    pub fn conflicts(&self) -> Vec<(ObjectKey, String)> {
        let of_others = self.of_others().filter(|object| self.desired.contains_key(*object));
        of_others.filter_map(|object| Some((object.clone(), self.conflict(object)?))).collect()
    }

    fn conflict(&self, object: &ObjectKey) -> Option<String> {
        let is_conflict = self.desired.contains_key(object) && self.is_of_other(object);
        let owner = self.live.get(object).filter(|_| is_conflict)?.owner.as_ref()?;
        Some(of_another(owner))
    }

    /// Documents of places that cannot be read.
    pub fn unread(&self) -> Vec<ObjectKey> {
        if self.unreadable.is_empty() {
            return Vec::new();
        }
        self.desired.keys().filter(|object| self.is_unread(object)).cloned().collect()
    }

    /// Whether the live object must not be reconciled: it is out of date, or what another writer made of it.
    pub fn is_frozen(&self, object: &ObjectKey) -> bool {
        self.is_unread(object) || (self.contest(object).is_some() && self.differs(object))
    }

    /// Whether this generation of an object is what its document declares. A reconcile may have begun with an edit that
    /// has been reverted since, or before the document was applied. True for an object without a document.
    pub fn is_in_sync(&self, object: &ObjectKey, generation: Option<i64>) -> bool {
        let Some(desired) = self.desired.get(object).filter(|_| !self.is_of_other(object)) else {
            return true;
        };
        let is_current = self.live.get(object).is_some_and(|live| live.generation == generation);
        desired.made.is_none() && is_current && !self.differs(object)
    }

    /// The number of objects that are out of sync.
    pub fn failing(&self) -> usize {
        let of_documents = self.desired.keys().filter(|object| {
            self.is_unread(object) || self.conflict(object).is_some() || self.contest(object).is_some()
        });
        self.failures.keys().chain(of_documents).collect::<BTreeSet<_>>().len()
    }

    /// The message for an object that another writer keeps changing.
    fn contest(&self, object: &ObjectKey) -> Option<String> {
        self.reverts
            .get(object)
            .filter(|reverts| reverts.is_contested())
            .map(|reverts| contested(reverts.cause()))
    }

    /// How an object that was in sync has come to differ.
    pub(super) fn drift(&self, object: &ObjectKey, desired: &Desired) -> Option<String> {
        let Some(live) = self.live.get(object) else {
            return desired.was_in_sync.then(|| "it was deleted".to_owned());
        };
        match &live.writer {
            // The fingerprint shows that an agent applied the object, if this one did not see it in sync: the other
            // manager's fields came later.
            Some(writer) if desired.was_in_sync || live.print.is_some() => {
                Some(format!("field manager {writer} changed it"))
            }
            _ => desired.was_in_sync.then(|| "it was changed without another field manager".to_owned()),
        }
    }

    pub fn get(&self, object: &ObjectKey) -> Option<&Live> {
        self.live.get(object)
    }

    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    pub fn is_held(&self, object: &ObjectKey) -> bool {
        self.held.contains(object)
    }

    /// The number of resourceVersions that the agent created and has not observed yet.
    pub fn unobserved(&self) -> usize {
        self.unobserved.len()
    }

    /// All objects that exist: observed, or created by the agent.
    pub fn all(&self) -> impl Iterator<Item = &ObjectKey> {
        let unseen = self.unobserved.keys().filter(|object| !self.live.contains_key(object));
        self.live.keys().chain(unseen)
    }

    /// Whether an object exists.
    pub fn exists(&self, object: &ObjectKey) -> bool {
        self.live.contains_key(object) || self.unobserved.contains_key(object)
    }

    /// All live objects except those of another owner.
    pub fn present(&self) -> impl Iterator<Item = &ObjectKey> {
        self.live.iter().filter(|(_, live)| !self.is_others(live)).map(|(object, _)| object)
    }

    /// The live objects of another owner.
    pub fn of_others(&self) -> impl Iterator<Item = &ObjectKey> {
        self.index.of_others.iter()
    }

    /// Whether a live object exists that is not of another owner.
    pub fn is_present(&self, object: &ObjectKey) -> bool {
        self.live.get(object).is_some_and(|live| !self.is_others(live))
    }

    /// Those of these objects that may be reconciled: they exist, are not of another owner, and are not being applied.
    pub fn wakeable(&self, objects: &Wakes) -> Vec<ObjectKey> {
        let may = |object: &&ObjectKey| self.is_present(object) && !self.is_held(object);
        match objects {
            Wakes::All => self.present().filter(|object| !self.is_held(object)).cloned().collect(),
            Wakes::Only(objects) => objects.iter().filter(may).cloned().collect(),
        }
    }

    /// The live objects with this owner's label.
    pub fn owned_by<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = (&'a ObjectKey, &'a Live)> {
        let label = Some(owner.as_str());
        self.live.iter().filter(move |(_, live)| live.owner.as_deref() == label)
    }

    pub fn is_desired(&self, object: &ObjectKey) -> bool {
        self.desired.contains_key(object)
    }
}
