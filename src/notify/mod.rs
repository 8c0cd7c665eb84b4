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
pub mod fences;
pub mod http;
pub mod incoming;
mod open;
mod outcome;
mod plain;
mod plan;
mod resolve;
mod sdk;
pub mod ses;
pub mod sink;
pub mod slack;
pub mod sns;
mod text;
pub mod webhook;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::announce::Subject;
use crate::api::notifier::Notification;
use book::Item;
pub use book::Pending;
use desk::Desk;
pub use desk::{Changed, Open};
use destination::Destination;
pub use open::{Means, Values};

/// The message under way when a desk is stopped gets this long, and the statuses that tell of it.
const LAST_SENDING: Duration = Duration::from_secs(5);

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
    pub about: &'a Subject,
    pub to: &'a [Destination],
    /// What its status remembers.
    pub remembered: &'a [Notification],
    pub pending: Pending,
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
        self.leave(told.about, told.to);
        let mut marked = Marked::default();
        for destination in told.to {
            let desk = self.desk(destination);
            let name = destination.name();
            let mut book = desk.book();
            let read = || Item::read(told.remembered, &name);
            let item = book.items.entry(told.about.clone()).or_insert_with(read);
            let pending = told.pending.clone();
            let mut next = item.clone();
            next.update(told.about, pending.clone());
            item.pending = Some(pending);
            item.marked = item.changes;
            drop(book);
            marked.notifications.extend(next.write(&name));
            let waits = !next.is_told(destination.manner());
            marked.trouble = marked.trouble.or_else(|| desk.trouble().filter(|_| waits));
        }
        marked
    }

    /// What was marked is in the object's status: what is due may be sent.
    pub fn written(&self, about: &Subject) {
        self.all().iter().for_each(|desk| desk.written(about));
    }

    /// This object is gone, or tells nobody any more.
    pub fn forget(&self, about: &Subject) {
        self.leave(about, &[]);
    }

    /// These objects are all there are.
    pub fn keep_only(&self, objects: &BTreeSet<Subject>) {
        let gone = |desk: &Arc<Desk>| {
            let book = desk.book();
            book.items.keys().filter(|about| !objects.contains(*about)).cloned().collect::<Vec<_>>()
        };
        let gone: Vec<Subject> = self.all().iter().flat_map(gone).collect();
        gone.iter().for_each(|about| self.forget(about));
    }

    /// Waits until all that can be sent is sent and remembered, but no longer than `limit`; then sends
    /// nothing more, so that what was sent is known when this ends.
    pub async fn drain(&self, limit: Duration) {
        let desks = self.all();
        let all = || futures::future::join_all(desks.iter().map(|desk| desk.drained()));
        if tokio::time::timeout(limit, all()).await.is_err() {
            tracing::warn!("some messages were not sent in time; the next start sends them");
        }
        desks.iter().for_each(|desk| desk.stop());
        let _ = tokio::time::timeout(LAST_SENDING, all()).await;
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

    /// Takes an object out of all desks but these. A desk that nobody tells anything ends.
    fn leave(&self, about: &Subject, but: &[Destination]) {
        self.desks().retain(|destination, (desk, _)| {
            let mut book = desk.book();
            let left = !but.contains(destination) && book.items.remove(about).is_some();
            let empty = left && book.items.is_empty();
            drop(book);
            if left {
                desk.ring();
            }
            !empty
        });
    }

    fn desk(&self, destination: &Destination) -> Arc<Desk> {
        let mut desks = self.desks();
        desks.entry(destination.clone()).or_insert_with(|| self.start(destination)).0.clone()
    }

    fn all(&self) -> Vec<Arc<Desk>> {
        self.desks().values().map(|(desk, _)| desk.clone()).collect()
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
