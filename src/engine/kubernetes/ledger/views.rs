//! What can be read in the ledger, for whoever shows it or acts by it.

use std::collections::BTreeSet;

use super::wanted::Wanted;
use super::{Ledger, Live};
use crate::api::{ObjectKey, Owner};
use crate::engine::kubernetes::trouble::{Trouble, contested, of_another};

/// The reason of what lies in a namespace that cannot be read.
const UNREADABLE: &str = "NamespaceUnreadable";

impl Ledger {
    pub fn trouble(&self, object: &ObjectKey) -> Option<(&'static str, String)> {
        if let Some(words) = self.unread_words(object) {
            return Some((UNREADABLE, words.clone()));
        }
        let trouble = self.troubles.get(object).map(|trouble| (trouble.reason, trouble.message.clone()));
        let contest = || self.contest(object).map(|words| ("AnotherWriter", words));
        let odd = || self.odd.get(object).map(|odd| ("SpecUnreadable", odd.clone()));
        let conflict = || self.conflict(object).map(|words| ("AnotherOwner", words));
        trouble.or_else(contest).or_else(conflict).or_else(odd)
    }

    pub fn troubles(&self) -> impl Iterator<Item = (&ObjectKey, &Trouble)> {
        self.troubles.iter()
    }

    /// Documents whose object is another owner's, and what to do about it.
    pub fn conflicts(&self) -> Vec<(ObjectKey, String)> {
        self.wanted.keys().filter_map(|object| Some((object.clone(), self.conflict(object)?))).collect()
    }

    fn conflict(&self, object: &ObjectKey) -> Option<String> {
        let is_conflict = self.wanted.contains_key(object) && self.is_foreign(object);
        let owner = self.live.get(object).filter(|_| is_conflict)?.owner.as_ref()?;
        Some(of_another(owner))
    }

    /// Documents of places that cannot be read.
    pub fn unread(&self) -> Vec<ObjectKey> {
        self.wanted.keys().filter(|object| self.is_unread(object)).cloned().collect()
    }

    /// Is the live object nothing to work by?
    pub fn is_frozen(&self, object: &ObjectKey) -> bool {
        self.is_unread(object) || (self.contest(object).is_some() && self.differs(object))
    }

    /// Is this generation of an object what its document says? A pass may have begun with an edit that was reverted since,
    /// or with what was there before a document was applied. One without a document is nothing but what it is.
    pub fn is_in_sync(&self, object: &ObjectKey, generation: Option<i64>) -> bool {
        let Some(wanted) = self.wanted.get(object).filter(|_| !self.is_foreign(object)) else { return true };
        let is_current = self.live.get(object).is_some_and(|live| live.generation == generation);
        wanted.made.is_none() && is_current && !self.differs(object)
    }

    /// How many objects are not as Git says.
    pub fn failing(&self) -> usize {
        let of_documents = self.wanted.keys().filter(|object| {
            self.is_unread(object) || self.conflict(object).is_some() || self.contest(object).is_some()
        });
        self.troubles.keys().chain(of_documents).collect::<BTreeSet<_>>().len()
    }

    /// What people must know of an object that somebody else keeps changing.
    fn contest(&self, object: &ObjectKey) -> Option<String> {
        self.reverts
            .get(object)
            .filter(|reverts| reverts.is_contested())
            .map(|reverts| contested(reverts.cause()))
    }

    /// Why an object that was as the document says is not any more.
    pub(super) fn drift(&self, object: &ObjectKey, wanted: &Wanted) -> Option<String> {
        let Some(live) = self.live.get(object) else {
            return wanted.settled.then(|| "it was deleted".to_owned());
        };
        match &live.writer {
            // Applied by an earlier agent, with another's fields in it: they came after.
            Some(writer) if wanted.settled || live.print.is_some() => {
                Some(format!("field manager {writer} changed it"))
            }
            _ => wanted.settled.then(|| "it was changed without another field manager".to_owned()),
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

    /// Versions we made that were not seen yet.
    pub fn awaits(&self) -> usize {
        self.awaited.len()
    }

    /// Every object there is, seen or made.
    pub fn all(&self) -> impl Iterator<Item = &ObjectKey> {
        let unseen = self.awaited.keys().filter(|object| !self.live.contains_key(object));
        self.live.keys().chain(unseen)
    }

    /// Objects there are, but another owner's.
    pub fn present(&self) -> impl Iterator<Item = &ObjectKey> {
        self.live.keys().filter(|object| !self.is_foreign(object))
    }

    /// Objects of another owner.
    pub fn foreign(&self) -> impl Iterator<Item = &ObjectKey> {
        self.live.keys().filter(|object| self.is_foreign(object))
    }

    /// Objects that carry this owner's label.
    pub fn owned_by<'a>(&'a self, owner: &'a Owner) -> impl Iterator<Item = (&'a ObjectKey, &'a Live)> {
        let label = Some(owner.as_str());
        self.live.iter().filter(move |(_, live)| live.owner.as_deref() == label)
    }

    pub fn is_wanted(&self, object: &ObjectKey) -> bool {
        self.wanted.contains_key(object)
    }
}
