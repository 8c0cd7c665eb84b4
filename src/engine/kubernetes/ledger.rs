//! The ledger: what Git wants, what is there, and so what is to be done and who may look.
//!
//! Bookkeeping alone: the watch writes down what it sees, `apply` what it did. While an object is brought
//! in line nobody is woken for it: a pass would work by what is about to be replaced.

mod live;
mod views;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::Scope;
use super::places::Place;
use super::reverts::Reverts;
use super::trouble::{Trouble, not_watched};
use crate::api::{ObjectKey, Owner};
use crate::engine::Load;
pub use live::{Live, version};
use wanted::Wanted;
pub use wanted::{Job, Loaded, Sight};

/// The books.
#[derive(Default)]
pub struct Ledger {
    /// Nothing is loaded while there is none.
    owner: Option<Owner>,
    live: BTreeMap<ObjectKey, Live>,
    wanted: BTreeMap<ObjectKey, Wanted>,
    removals: BTreeSet<ObjectKey>,
    troubles: BTreeMap<ObjectKey, Trouble>,
    /// Without a status, where one was published: nobody is woken before they have it.
    unseeded: BTreeSet<ObjectKey>,
    /// Specs that cannot be read.
    odd: BTreeMap<ObjectKey, String>,
    /// Being brought in line.
    held: BTreeSet<ObjectKey>,
    /// Versions we made and have not seen yet.
    awaited: BTreeMap<ObjectKey, u64>,
    /// Places of one namespace that cannot be read, and why: nothing is sent there, since what is known of it is old.
    unreadable: BTreeMap<Place, String>,
    /// How often objects were set back that were as Git says.
    reverts: BTreeMap<ObjectKey, Reverts>,
}

impl Ledger {
    /// Takes a commit as what is wanted.
    pub fn load(&mut self, commit: &Load, scope: &Scope) -> Loaded {
        let was_foreign: Vec<ObjectKey> = self.foreign().cloned().collect();
        let same_owner = self.owner.as_ref() == Some(&commit.owner);
        let mut before = std::mem::take(&mut self.wanted);
        for document in &commit.documents {
            let known = before.remove(&document.object);
            let kept = known.filter(|known| same_owner && known.is_of(document));
            let wanted = kept.unwrap_or_else(|| {
                self.troubles.remove(&document.object);
                self.reverts.remove(&document.object);
                Wanted::new(document, &commit.owner)
            });
            self.wanted.insert(document.object.clone(), wanted);
        }
        self.owner = Some(commit.owner.clone());
        // Whoever was about to bring objects in line does so by this commit, or has been cut off.
        self.held.clear();
        self.removals = commit.remove.iter().filter(|object| self.is_own(object)).cloned().collect();
        let (wanted, removals) = (&self.wanted, &self.removals);
        self.troubles.retain(|object, _| wanted.contains_key(object) || removals.contains(object));
        self.reverts.retain(|object, _| wanted.contains_key(object));
        // A new commit is worth a new try.
        self.troubles.values_mut().for_each(|trouble| trouble.retry = trouble.retry.map(|_| Instant::now()));
        let bare = |object: &&ObjectKey| !self.live.get(*object).is_some_and(|live| live.has_status);
        let unseeded = self.wanted.keys().filter(bare).filter(|object| (commit.seed)(object).is_some());
        self.unseeded = unseeded.cloned().collect();
        let mut news = self.conflicts();
        for document in &commit.documents {
            let namespace = &document.object.key.namespace;
            if !scope.covers(namespace) && !self.troubles.contains_key(&document.object) {
                let trouble = not_watched(namespace);
                news.push((document.object.clone(), trouble.message.clone()));
                self.troubles.insert(document.object.clone(), trouble);
            }
        }
        Loaded { look_again: was_foreign.iter().any(|object| !self.is_foreign(object)), news }
    }

    /// Notes an object that is there. `news` is whether a reconciler would see a difference.
    pub fn saw(
        &mut self,
        object: &ObjectKey,
        live: Live,
        odd: Option<String>,
        news: bool,
        listed: bool,
        now: Instant,
    ) -> Sight {
        let known = self.live.get(object);
        if !listed && known.is_some_and(|known| known.uid == live.uid && known.version > live.version) {
            return Sight::Stale;
        }
        let (version, print, others) = (live.version, live.print, live.others);
        if live.has_status {
            self.unseeded.remove(object);
        }
        self.live.insert(object.clone(), live);
        match odd {
            Some(odd) => self.odd.insert(object.clone(), odd),
            None => self.odd.remove(object),
        };
        if let Some(wanted) = self.wanted.get_mut(object) {
            if wanted.made == Some(version) && !others {
                wanted.accepted = print;
            }
            wanted.made = wanted.made.filter(|made| *made > version);
        }
        self.note_sync(object, now);
        let awaited = self.awaited.get(object).is_some_and(|awaited| *awaited <= version);
        if awaited {
            self.awaited.remove(object);
        }
        // What was done without an answer shows here; so does what somebody else put right.
        let stays = self.is_due(object) || self.is_unread(object);
        let cured = !stays && self.troubles.remove(object).is_some();
        if self.is_foreign(object) {
            return Sight::Foreign;
        }
        let free = self.owner.is_some() && !self.held.contains(object);
        // What is about to be put back is looked at when that is done, or has failed.
        let stands = !self.is_due(object) || self.troubles.contains_key(object);
        Sight::Ours { wake: free && stands && (news || awaited || cured), mend: free && !stands }
    }

    /// Notes that an object is gone.
    pub fn gone(&mut self, object: &ObjectKey, now: Instant) {
        self.live.remove(object);
        self.odd.remove(object);
        self.awaited.remove(object);
        if let Some(wanted) = self.wanted.get_mut(object) {
            wanted.made = None;
        }
        self.note_sync(object, now);
        if self.removals.remove(object) {
            self.troubles.remove(object);
        }
    }

    /// Notes whether an object is as Git says.
    fn note_sync(&mut self, object: &ObjectKey, now: Instant) {
        let in_sync = !self.differs(object);
        if let Some(wanted) = self.wanted.get_mut(object) {
            wanted.settled |= in_sync;
        }
        if let Some(reverts) = self.reverts.get_mut(object) {
            reverts.seen(in_sync, now);
        }
    }

    /// What can be done now.
    pub fn due(&self, now: Instant) -> Vec<ObjectKey> {
        let rested = |object: &&ObjectKey| {
            self.rests(object).is_some_and(|until| until.is_none_or(|until| until <= now))
        };
        let all = self.wanted.keys().chain(&self.removals);
        all.filter(|object| self.is_due(object)).filter(rested).cloned().collect()
    }

    /// Until when nothing is sent of an object, if it rests at all. None where only a commit or a person helps.
    fn rests(&self, object: &ObjectKey) -> Option<Option<Instant>> {
        let next = self.reverts.get(object).and_then(Reverts::next);
        match self.troubles.get(object) {
            Some(trouble) => Some(next.max(Some(trouble.retry?))),
            None => Some(next),
        }
    }

    /// When something is due again that has failed, or that others change, or a contest may be over.
    pub fn next_retry(&self) -> Option<Instant> {
        let contested = self.reverts.iter().filter(|(_, reverts)| reverts.is_contested());
        let calm = contested.clone().filter(|(object, _)| !self.is_due(object));
        let calm = calm.filter_map(|(_, reverts)| reverts.calm_at());
        let resting = self.troubles.keys().chain(contested.map(|(object, _)| object));
        let due = resting.filter(|object| self.is_due(object)).filter_map(|object| self.rests(object)?);
        due.chain(calm).min()
    }

    /// Notes that an object was set back, and why it had to be. True if somebody else turns out to keep changing it.
    pub fn reverted(&mut self, object: &ObjectKey, cause: String, now: Instant) -> bool {
        self.reverts.entry(object.clone()).or_default().reverted(cause, now)
    }

    /// Forgets the reverts of objects that have stayed as Git says. Answers those that are contested no more.
    pub fn calm(&mut self, now: Instant) -> Vec<ObjectKey> {
        let is_calm = |reverts: &Reverts| reverts.calm_at().is_some_and(|at| at <= now);
        let calm = self.reverts.iter().filter(|(_, reverts)| is_calm(reverts) && reverts.is_contested());
        let calm = calm.map(|(object, _)| object.clone()).collect();
        self.reverts.retain(|_, reverts| !is_calm(reverts));
        calm
    }

    /// What to do about an object, as things are now.
    pub fn job(&self, object: &ObjectKey) -> Option<Job> {
        let live = self.live.get(object);
        if self.removals.contains(object) {
            return live.filter(|live| !live.deleting).map(|live| Job::Remove { uid: live.uid.clone() });
        }
        let wanted = self.wanted.get(object)?;
        if self.differs(object) {
            let takeover = live.is_some_and(|live| live.takeover);
            let has_status = live.is_some_and(|live| live.has_status);
            let (document, file) = (wanted.document.clone(), wanted.file.clone());
            let drift = self.drift(object, wanted);
            return Some(Job::Apply { document, file, takeover, has_status, drift });
        }
        let bare = live.filter(|_| self.unseeded.contains(object));
        bare.map(|live| Job::Seed { version: live.version })
    }

    /// Keeps passes away from objects until `done` or `failed`.
    pub fn hold(&mut self, objects: &[ObjectKey]) {
        self.held.extend(objects.iter().cloned());
    }

    /// Lets passes look again, without anything having been done.
    pub fn let_go(&mut self, object: &ObjectKey) {
        self.held.remove(object);
    }

    /// Notes what applying made. True if a pass should look now: otherwise it looks when that is seen.
    pub fn done(&mut self, object: &ObjectKey, made: Option<u64>) -> bool {
        self.held.remove(object);
        self.troubles.remove(object);
        self.unseeded.remove(object);
        let Some(made) = made else { return self.live.contains_key(object) };
        let live = self.live.get(object);
        let seen = live.is_some_and(|live| live.version >= made);
        if let Some(wanted) = self.wanted.get_mut(object) {
            wanted.settled = true;
            match live.filter(|live| live.version == made) {
                Some(live) if live.others => {}
                Some(live) => wanted.accepted = live.print,
                None if !seen => wanted.made = Some(made),
                None => {}
            }
        }
        if !seen {
            self.awaited.insert(object.clone(), made);
        }
        seen
    }

    /// Notes that something could not be done. True if that is news to people.
    pub fn failed(&mut self, object: &ObjectKey, trouble: Trouble, now: Instant) -> bool {
        self.held.remove(object);
        let before = self.troubles.get(object);
        let news = before.is_none_or(|before| before.message != trouble.message);
        let next = trouble.after(before, &object.to_string(), now);
        self.troubles.insert(object.clone(), next);
        news
    }

    /// Tries again what has failed, since the reason may be gone.
    pub fn retry_all(&mut self, now: Instant) {
        self.troubles.values_mut().for_each(|trouble| trouble.retry = trouble.retry.map(|_| now));
    }

    /// Notes that a place cannot be read, and why.
    pub fn unreadable(&mut self, place: &Place, words: String) {
        self.unreadable.insert(place.clone(), words);
    }

    /// Notes that it can be read.
    pub fn readable(&mut self, place: &Place) {
        self.unreadable.remove(place);
    }

    fn unread_words(&self, object: &ObjectKey) -> Option<&String> {
        // Mostly there is none, and nothing to be made up to look for.
        if self.unreadable.is_empty() { None } else { self.unreadable.get(&Place::of(object)) }
    }

    fn is_unread(&self, object: &ObjectKey) -> bool {
        self.unread_words(object).is_some()
    }

    fn is_own(&self, object: &ObjectKey) -> bool {
        let owner = self.live.get(object).and_then(|live| live.owner.as_deref());
        owner.is_some() && owner == self.owner.as_ref().map(Owner::as_str)
    }

    fn is_foreign(&self, object: &ObjectKey) -> bool {
        let (Some(ours), Some(live)) = (&self.owner, self.live.get(object)) else { return false };
        live.owner.as_deref().is_some_and(|owner| owner != ours.as_str())
    }

    /// Is there something to send?
    fn is_due(&self, object: &ObjectKey) -> bool {
        let is_there =
            || self.live.get(object).is_some_and(|live| !live.deleting) && !self.is_foreign(object);
        let is_listed = self.removals.contains(object) || self.unseeded.contains(object);
        !self.is_unread(object) && (self.differs(object) || (is_listed && is_there()))
    }

    /// Must the document be sent? Not to one that is being deleted: it is made anew when it is gone.
    fn differs(&self, object: &ObjectKey) -> bool {
        let Some(wanted) = self.wanted.get(object) else { return false };
        if wanted.made.is_some() {
            return false;
        }
        let Some(live) = self.live.get(object) else { return true };
        let same = live.print.is_some_and(|print| print == wanted.print || Some(print) == wanted.accepted);
        !same && !live.deleting && !self.is_foreign(object)
    }
}

#[cfg(test)]
mod tests;
