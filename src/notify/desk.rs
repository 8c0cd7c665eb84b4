//! The task of one destination: asks the plan what is next, sends it, remembers what came of it.
//!
//! It sends one message at a time, at the pace its service allows, and stands in nobody's way: passes
//! leave stories in its book and go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::book::Book;
use super::destination::Destination;
use super::outcome;
use super::plan::{self, Next, Sending, Way};
use super::sink::{Manner, Sink, SinkError, Trouble};
use crate::announce::Weight;
use crate::api::ObjectKey;

/// First and longest pause after a failure that goes away by itself.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// How often to look whether a person has acted: a new token, a channel that is open again.
const CLOSED: Duration = Duration::from_secs(300);
/// Failures in a row from which on the status tells of them.
const SILENT_FAILURES: u32 = 3;
/// No sink takes longer; one that does has lost the message.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// Makes the sink of a destination, with the secret as it is now.
pub type Open = Arc<
    dyn Fn(Destination) -> futures::future::BoxFuture<'static, Result<Box<dyn Sink>, SinkError>>
        + Send
        + Sync,
>;
/// Hears that what is remembered of an object has changed.
pub type Changed = Arc<dyn Fn(&ObjectKey) + Send + Sync>;

/// Messages by what became of them.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
    pub refused: AtomicU64,
}

/// One destination.
pub struct Desk {
    pub destination: Destination,
    pub counts: Counts,
    book: Mutex<Book>,
    /// Why nothing passes, where that is so: reason and words for the status.
    trouble: Mutex<Option<(&'static str, String)>>,
    bell: Notify,
    /// Nothing is due.
    idle: watch::Sender<bool>,
}

impl Desk {
    pub fn new(destination: Destination) -> Self {
        Self {
            destination,
            counts: Counts::default(),
            book: Mutex::default(),
            trouble: Mutex::default(),
            bell: Notify::new(),
            idle: watch::Sender::new(true),
        }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no code panics while it holds the book")
    }

    pub fn trouble(&self) -> Option<(&'static str, String)> {
        self.lock_trouble().clone()
    }

    fn lock_trouble(&self) -> MutexGuard<'_, Option<(&'static str, String)>> {
        self.trouble.lock().expect("no code panics while it holds the trouble")
    }

    /// There may be something to send.
    pub fn ring(&self) {
        self.idle.send_replace(false);
        self.bell.notify_one();
    }

    /// Waits until nothing is due that can be sent, and statuses say what was.
    pub async fn drained(&self) {
        let mut idle = self.idle.subscribe();
        loop {
            let quiet = *idle.borrow_and_update() || self.lock_trouble().is_some();
            if quiet && self.book().items.values().all(|item| !item.armed || item.is_written()) {
                return;
            }
            if idle.changed().await.is_err() {
                return;
            }
        }
    }

    /// What was remembered is in an object's status now.
    pub fn written(&self, object: &ObjectKey) {
        if let Some(item) = self.book().items.get_mut(object) {
            item.written = item.marked;
            item.armed = true;
        }
        self.idle.send_modify(|_| {});
    }

    /// Works for ever.
    pub async fn work(self: Arc<Self>, open: Open, changed: Changed) {
        let mut worker = Worker { desk: self, open, changed, sink: None, failures: 0 };
        loop {
            worker.turn().await;
        }
    }
}

struct Worker {
    desk: Arc<Desk>,
    open: Open,
    changed: Changed,
    sink: Option<Box<dyn Sink>>,
    /// In a row.
    failures: u32,
}

impl Worker {
    /// Sends one message, or waits until there may be one.
    async fn turn(&mut self) {
        let manner = self.sink.as_ref().map_or(self.desk.destination.manner(), |sink| sink.manner());
        let next = plan::next(&mut self.desk.book(), manner, Instant::now().into_std());
        match next {
            Next::Send(sending) => self.send(*sending, manner).await,
            Next::At(due) => {
                let rung = self.desk.bell.notified();
                tokio::select! {
                    () = rung => {}
                    () = sleep_until(Instant::from_std(due)) => {}
                }
            }
            Next::Nothing => {
                self.desk.idle.send_replace(true);
                self.desk.bell.notified().await;
            }
        }
    }

    async fn send(&mut self, sending: Sending, manner: Manner) {
        let begun = Instant::now();
        let sent = match self.try_to_send(&sending).await {
            Err(SinkError { kind: Trouble::Unclear, .. }) if may_be_lost(&sending, manner) => Ok(None),
            sent => sent,
        };
        match sent {
            Ok(id) => {
                self.desk.counts.sent.fetch_add(1, Ordering::Relaxed);
                self.passes();
                self.remember(|book, now| outcome::told(book, &sending, id, now));
                sleep_until(begun + self.desk.destination.pace()).await;
            }
            Err(error) => self.failed(&sending, error).await,
        }
    }

    async fn try_to_send(&mut self, sending: &Sending) -> Result<Option<String>, SinkError> {
        if sending.way == Way::Unsaid {
            return Ok(None);
        }
        let sink = match self.sink.take() {
            Some(sink) => sink,
            None => (self.open)(self.desk.destination.clone()).await?,
        };
        let sink = self.sink.insert(sink);
        let subject = sending.subject();
        let sent = async {
            match &sending.way {
                Way::Post { thread, loud } => {
                    let lines = sink.manner() == Manner::Lines;
                    let thread = if lines { Some(subject.as_str()) } else { thread.as_deref() };
                    sink.post(&sending.message, thread, *loud).await
                }
                Way::Edit { id } => sink.edit(&sending.message, id).await.map(|()| None),
                Way::Unsaid => Ok(None),
            }
        };
        timeout(SEND_LIMIT, sent).await.unwrap_or_else(|_| {
            let words = "no answer in time".to_owned();
            Err(SinkError { kind: Trouble::Unclear, reason: "NoAnswer", message: words })
        })
    }

    async fn failed(&mut self, sending: &Sending, error: SinkError) {
        let counts = &self.desk.counts;
        match error.kind {
            Trouble::Refused => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                let (to, reason) = (self.desk.destination.name(), error.reason);
                tracing::error!(to, reason, message = sending.message.id, "a message is refused: {error}");
                self.remember(|book, now| outcome::told(book, sending, None, now));
            }
            Trouble::MessageGone => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                self.remember(|book, _| outcome::gone(book, sending));
            }
            Trouble::Closed => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                self.sink = None;
                self.tell_trouble(error.reason, error.message);
                sleep_until(Instant::now() + CLOSED).await;
            }
            Trouble::Transient { .. } | Trouble::Unclear => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                self.failures = self.failures.saturating_add(1);
                let after = match error.kind {
                    Trouble::Transient { after } => after,
                    _ => None,
                };
                if self.failures >= SILENT_FAILURES {
                    self.tell_trouble(error.reason, error.message);
                }
                let (first, most) = AGAIN;
                let doubled = first.saturating_mul(1 << (self.failures - 1).min(16)).min(most);
                sleep_until(Instant::now() + after.unwrap_or(doubled)).await;
            }
        }
    }

    /// Notes what became of a message, and has those statuses written that are to say so.
    fn remember(&self, note: impl FnOnce(&mut Book, std::time::Instant)) {
        let mut book = self.desk.book();
        note(&mut book, Instant::now().into_std());
        let unwritten: Vec<ObjectKey> = book
            .items
            .iter()
            .filter(|(_, item)| item.changes > item.marked)
            .map(|(object, _)| object.clone())
            .collect();
        drop(book);
        unwritten.iter().for_each(|object| (self.changed)(object));
    }

    /// It passes again.
    fn passes(&mut self) {
        self.failures = 0;
        if self.desk.lock_trouble().take().is_some() {
            tracing::info!(to = self.desk.destination.name(), "messages pass again");
            self.wake_all();
        }
    }

    /// Told once: in the log, and in the status of whoever waits for it.
    fn tell_trouble(&self, reason: &'static str, message: String) {
        let trouble = Some((reason, message));
        let before = std::mem::replace(&mut *self.desk.lock_trouble(), trouble.clone());
        if before != trouble {
            let words = trouble.map(|(_, words)| words).unwrap_or_default();
            tracing::warn!(to = self.desk.destination.name(), reason, "messages do not pass: {words}");
            self.wake_all();
        }
        self.desk.idle.send_modify(|_| {});
    }

    fn wake_all(&self) {
        let objects: Vec<ObjectKey> = self.desk.book().items.keys().cloned().collect();
        objects.iter().for_each(|object| (self.changed)(object));
    }
}

/// Sent twice, a detail or an edit annoys or changes nothing; a first message or an announcement that
/// is missing would leave people unaware.
fn may_be_lost(sending: &Sending, manner: Manner) -> bool {
    match &sending.way {
        Way::Post { .. } => manner == Manner::Threads && sending.message.weight == Weight::Detail,
        Way::Edit { .. } | Way::Unsaid => false,
    }
}
