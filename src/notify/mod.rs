//! The notification edge: delivers the stories of objects to their destinations.
//!
//! ```text
//! stories of an object ─mark─> book of each destination ─plan─> one message ─sink─> Slack, Discord, …
//!        status <─ what was delivered <──────────────────────── outcome <────────────┘
//! ```
//! There is one desk (worker) per destination. Its book (pure) contains the current stories of every object and the
//! record of what was delivered. `plan` (pure) selects the next message, and `outcome` (pure) records what became of
//! it. The records are stored in the status of the objects, so that a restarted agent continues where the previous
//! process stopped.
//!
//! `destination` reads destinations from a spec, `open` makes their sinks, and `sinks` has one file per service.

mod book;
mod cause;
mod desk;
pub mod destination;
pub mod fences;
mod open;
mod outcome;
mod plan;
pub mod sinks;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use crate::announce::Subject;
use crate::api::lock::lock;
use crate::api::notifier::Notification;
use crate::task;
use book::Item;
pub use book::Pending;
use desk::Desk;
pub use desk::{Changed, Open};
use destination::Destination;
pub use open::{Means, Values};

/// Time for the message that is being sent when the desks are stopped, and for the status writes that record it. A
/// process manager kills an agent that takes much longer.
const LAST_SENDING: Duration = Duration::from_secs(5);

/// The desk and its task of every destination.
type Desks = BTreeMap<Destination, (Arc<Desk>, AbortOnDropHandle<()>)>;

/// All desks. Reconciles give them stories and never wait for them.
pub struct Notifier {
    desks: Mutex<Desks>,
    open: Open,
    changed: Changed,
}

/// What the status of an object must contain about its notifications.
#[derive(Debug, Default, PartialEq)]
pub struct Marked {
    pub notifications: Vec<Notification>,
    /// Why messages cannot be delivered: reason and message.
    pub failure: Option<(&'static str, String)>,
}

/// The current stories of an object, and the destinations they are for.
pub struct ObjectUpdate<'a> {
    pub about: &'a Subject,
    pub to: &'a [Destination],
    /// The records that the status of the object contains.
    pub remembered: &'a [Notification],
    pub pending: Pending,
}

/// Counters of all destinations of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub sent: u64,
    pub failed: u64,
    pub refused: u64,
    /// Number of objects with undelivered messages.
    pub waiting: usize,
    /// Number of destinations to which messages cannot be delivered.
    pub closed: usize,
}

impl Notifier {
    pub fn new(open: Open, changed: Changed) -> Self {
        Self { desks: Mutex::default(), open, changed }
    }

    /// Receives the current stories of an object, and returns what its status must contain about them. Nothing of it is
    /// sent until `written` confirms that the status is persisted.
    pub fn mark(&self, object: &ObjectUpdate<'_>) -> Marked {
        self.remove_except(object.about, object.to);
        let mut marked = Marked::default();
        for destination in object.to {
            let desk = self.desk(destination);
            let name = destination.name();
            let mut book = desk.book();
            let read = || Item::read(object.remembered, &name);
            let item = book.items.entry(object.about.clone()).or_insert_with(read);
            let pending = object.pending.clone();
            let mut next = item.clone();
            next.update(object.about, pending.clone());
            item.pending = Some(pending);
            item.marked = item.changes;
            drop(book);
            marked.notifications.extend(next.write(&name));
            let waits = !next.is_delivered(destination.abilities().mode);
            marked.failure = marked.failure.or_else(|| desk.failure().filter(|_| waits));
        }
        marked
    }

    /// Confirms that the status of an object contains what `mark` returned. Its due messages may now be sent.
    pub fn written(&self, about: &Subject) {
        self.all().iter().for_each(|desk| desk.written(about));
    }

    /// Removes an object that was deleted, or that has no destination any more.
    pub fn forget(&self, about: &Subject) {
        self.remove_except(about, &[]);
    }

    /// Removes all objects but these.
    pub fn keep_only(&self, objects: &BTreeSet<Subject>) {
        let gone = |desk: &Arc<Desk>| {
            let book = desk.book();
            book.items.keys().filter(|about| !objects.contains(*about)).cloned().collect::<Vec<_>>()
        };
        let gone: Vec<Subject> = self.all().iter().flat_map(gone).collect();
        gone.iter().for_each(|about| self.forget(about));
    }

    /// Waits until everything that can be sent is sent and recorded, but at most for `limit`. Then stops all desks, and
    /// waits until the last message that was sent is recorded.
    pub async fn drain(&self, limit: Duration) {
        let desks = self.all();
        let all = || futures::future::join_all(desks.iter().map(|desk| desk.drained()));
        if tokio::time::timeout(limit, all()).await.is_err() {
            tracing::warn!("some messages were not sent before the shutdown: the next start sends them");
        }
        desks.iter().for_each(|desk| desk.stop());
        let _ = tokio::time::timeout(LAST_SENDING, all()).await;
    }

    /// Returns the counters by kind of sink.
    pub fn tallies(&self) -> BTreeMap<&'static str, Tally> {
        let mut tallies = BTreeMap::<_, Tally>::new();
        for (destination, (desk, _)) in self.desks().iter() {
            let tally = tallies.entry(destination.abilities().kind).or_default();
            tally.sent += desk.counts.sent.load(Ordering::Relaxed);
            tally.failed += desk.counts.failed.load(Ordering::Relaxed);
            tally.refused += desk.counts.refused.load(Ordering::Relaxed);
            let mode = destination.abilities().mode;
            tally.waiting += desk.book().items.values().filter(|item| !item.is_delivered(mode)).count();
            tally.closed += usize::from(desk.failure().is_some());
        }
        tallies
    }

    /// Removes an object from the desks of all destinations but these. A desk without objects ends.
    fn remove_except(&self, about: &Subject, destinations: &[Destination]) {
        self.desks().retain(|destination, (desk, _)| {
            let mut book = desk.book();
            let removed = !destinations.contains(destination) && book.items.remove(about).is_some();
            let empty = removed && book.items.is_empty();
            drop(book);
            if removed {
                // The removal can end a cause that the object shared with others.
                desk.wake();
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
        (desk, task::spawn("notifying a destination", work))
    }

    fn desks(&self) -> MutexGuard<'_, Desks> {
        lock(&self.desks)
    }
}
