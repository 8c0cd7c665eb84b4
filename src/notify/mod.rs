//! The notifying edge: who is told what, where and when.
//!
//! ```text
//! stories of an object ─mark→ book of each destination ─plan→ one message ─sink→ Slack, Discord, …
//!        status ←─ what is remembered of it ←───────────── outcome ←────────────┘
//! ```
//! A desk a destination: its book (pure) holds every object's stories as they stand and what was told of
//! them; `plan` (pure) says what is next, `outcome` (pure) what is remembered. What is remembered is
//! kept in the objects' status, so that a restart goes on where it stopped.
//!
//! One file per sink: `slack`, `incoming`, `discord` and `webhook` speak `http` (the first two in `blocks`),
//! `sns` and `ses` go by `sdk`; `plain` is text without markup, `text` what all of them cut and escape by.

mod blocks;
mod book;
mod cause;
mod desk;
pub mod destination;
pub mod discord;
pub mod http;
pub mod incoming;
mod open;
mod outcome;
mod plain;
mod plan;
mod sdk;
pub mod ses;
pub mod sink;
pub mod slack;
pub mod sns;
mod text;
pub mod webhook;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

use crate::announce::{Message, Story};
use crate::api::ObjectKey;
use crate::api::notifier::Notification;
use book::Item;
use desk::Desk;
pub use desk::{Changed, Open};
use destination::Destination;
pub use open::{Means, Values};

/// A desk and its task by destination.
type Desks = BTreeMap<Destination, (Arc<Desk>, AbortOnDropHandle<()>)>;

/// All desks.
pub struct Notifier {
    desks: Mutex<Desks>,
    open: Open,
    changed: Changed,
}

/// What an object's status is to say of its notifications.
#[derive(Debug, Default, PartialEq)]
pub struct Marked {
    pub notifications: Vec<Notification>,
    /// Why something does not pass: reason and words.
    pub trouble: Option<(&'static str, String)>,
}

/// An object as it stands, for those who are to hear of it.
pub struct Told<'a> {
    pub object: &'a ObjectKey,
    pub to: &'a [Destination],
    /// What its status remembers.
    pub remembered: &'a [Notification],
    pub stories: &'a [Story],
    /// What is said of a trouble that is over, by its thread.
    pub resolve: &'a dyn Fn(&str) -> Message,
    pub now: Timestamp,
}

/// How things stand at the sinks of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: u64,
    pub failed: u64,
    pub refused: u64,
    /// Objects something waits for.
    pub waiting: usize,
    /// Destinations that take nothing.
    pub closed: usize,
}

impl Notifier {
    pub fn new(open: Open, changed: Changed) -> Self {
        Self { desks: Mutex::default(), open, changed }
    }

    /// Takes an object's stories as they stand, and says what its status is to remember. Nothing of it
    /// is sent before `written`.
    pub fn mark(&self, told: &Told<'_>) -> Marked {
        let mut desks = self.desks();
        for (destination, (desk, _)) in desks.iter() {
            if !told.to.contains(destination) {
                desk.book().items.remove(told.object);
            }
        }
        let mut marked = Marked::default();
        for destination in told.to {
            let (desk, _) = desks.entry(destination.clone()).or_insert_with(|| self.start(destination));
            let name = destination.name();
            let mut book = desk.book();
            let item =
                book.items.entry(told.object.clone()).or_insert_with(|| Item::read(told.remembered, &name));
            item.update(told.stories.to_vec(), told.resolve, told.now);
            item.marked = item.changes;
            marked.notifications.extend(item.write(&name));
            let waits = !item.is_told(destination.manner());
            drop(book);
            marked.trouble = marked.trouble.or_else(|| desk.trouble().filter(|_| waits));
        }
        marked
    }

    /// What was marked is in the object's status: what is due may be sent.
    pub fn written(&self, object: &ObjectKey) {
        for (desk, _) in self.desks().values().filter(|(desk, _)| desk.book().items.contains_key(object)) {
            desk.written(object);
            desk.ring();
        }
    }

    /// This object is gone.
    pub fn forget(&self, object: &ObjectKey) {
        self.desks().values().for_each(|(desk, _)| drop(desk.book().items.remove(object)));
    }

    /// Waits until all that can be sent is sent and remembered, but no longer than `limit`.
    pub async fn drain(&self, limit: Duration) {
        let desks: Vec<Arc<Desk>> = self.desks().values().map(|(desk, _)| desk.clone()).collect();
        let all = futures::future::join_all(desks.iter().map(|desk| desk.drained()));
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("some messages were not sent in time; the next start sends them");
        }
    }

    /// How things stand, by kind of sink.
    pub fn tallies(&self) -> BTreeMap<&'static str, Tally> {
        let mut tallies = BTreeMap::<_, Tally>::new();
        for (destination, (desk, _)) in self.desks().iter() {
            let tally = tallies.entry(destination.kind()).or_default();
            tally.sent += desk.counts.sent.load(Ordering::Relaxed);
            tally.failed += desk.counts.failed.load(Ordering::Relaxed);
            tally.refused += desk.counts.refused.load(Ordering::Relaxed);
            let manner = destination.manner();
            tally.waiting += desk.book().items.values().filter(|item| !item.is_told(manner)).count();
            tally.closed += usize::from(desk.trouble().is_some());
        }
        tallies
    }

    fn start(&self, destination: &Destination) -> (Arc<Desk>, AbortOnDropHandle<()>) {
        let desk = Arc::new(Desk::new(destination.clone()));
        let work = desk.clone().work(self.open.clone(), self.changed.clone());
        (desk, AbortOnDropHandle::new(tokio::spawn(work)))
    }

    fn desks(&self) -> MutexGuard<'_, Desks> {
        self.desks.lock().expect("no code panics while it holds the desks")
    }
}
