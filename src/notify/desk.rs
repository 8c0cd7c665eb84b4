//! The worker of one destination: gets the next message from `plan`, sends it, and lets `outcome` record the result.
//!
//! It sends one message at a time, at the rate that the service allows. Reconciles only put stories into the book and
//! never wait for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::book::{Book, Item};
use super::destination::Destination;
use super::outcome;
use super::plan::{self, Next, Sending, Way};
use super::sinks::{DeliveryMode, Sink, SinkError, Trouble};
use crate::announce::{Subject, Weight};
use crate::api::backoff;
use crate::api::lock::lock;

/// First and longest backoff after a transient failure. The longest is short enough for a person who waits for a
/// message.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Time between two attempts while a person must act: after it, a new token or a reopened channel is noticed.
const CLOSED: Duration = Duration::from_secs(300);
/// Number of consecutive failures from which they are reported. A single failure is usually gone a moment later.
const REPORTED_FAILURES: u32 = 3;
/// Time to collect the stories of several reconciles, which come in bursts: each plan reads all objects.
const BURST: Duration = Duration::from_millis(100);
/// A shutdown waits for a message that is due within this time. It covers the delays of `plan`, but not the holds of
/// problems that may end without action.
const SOON: Duration = Duration::from_secs(35);
/// Number of attempts after which a message that fails while others are delivered is dropped.
const TRIES: u32 = 5;
/// Number of attempts without a clear response after which a message is dropped: each attempt may have delivered it.
const UNCLEAR_TRIES: u32 = 20;
/// Time limit of one attempt. Every sink has a shorter limit of its own.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// Creates the sink of a destination, with the current content of its Secret.
pub type Open = Arc<
    dyn Fn(Destination) -> futures::future::BoxFuture<'static, Result<Box<dyn Sink>, SinkError>>
        + Send
        + Sync,
>;
/// Called when the records of an object have changed, so that its status is written.
pub type Changed = Arc<dyn Fn(&Subject) + Send + Sync>;

/// Number of messages by result.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub failed: AtomicU64,
    pub refused: AtomicU64,
}

/// The desk of one destination.
pub struct Desk {
    pub destination: Destination,
    pub counts: Counts,
    book: Mutex<Book>,
    /// Why messages cannot be delivered: reason and message for the status.
    failure: Mutex<Option<(&'static str, String)>>,
    wakeup: Notify,
    stopped: AtomicBool,
    /// No message is due soon.
    idle: watch::Sender<bool>,
}

impl Desk {
    pub fn new(destination: Destination) -> Self {
        Self {
            destination,
            counts: Counts::default(),
            book: Mutex::default(),
            failure: Mutex::default(),
            wakeup: Notify::new(),
            stopped: AtomicBool::new(false),
            idle: watch::Sender::new(true),
        }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub fn failure(&self) -> Option<(&'static str, String)> {
        self.lock_failure().clone()
    }

    fn lock_failure(&self) -> MutexGuard<'_, Option<(&'static str, String)>> {
        lock(&self.failure)
    }

    /// Wakes the worker, because a message may be due.
    pub fn wake(&self) {
        self.idle.send_replace(false);
        self.wakeup.notify_one();
    }

    /// Waits until no message that can be sent is due, and the persisted statuses contain all records.
    pub async fn drained(&self) {
        let mut idle = self.idle.subscribe();
        loop {
            let quiet = *idle.borrow_and_update() || self.lock_failure().is_some();
            if quiet && self.book().items.values().all(Item::is_written) {
                return;
            }
            if idle.changed().await.is_err() {
                return;
            }
        }
    }

    /// Puts the pending stories of an object into effect, because its status is persisted.
    pub fn written(&self, about: &Subject) {
        let mut book = self.book();
        let Some(item) = book.items.get_mut(about) else { return };
        item.written = item.marked;
        if let Some(pending) = item.pending.take() {
            item.update(about, pending);
        }
        // A shared cause can end with this object, even if the object itself has no message left to send.
        let due = !item.is_delivered(self.destination.abilities().mode)
            || item.records.iter().any(|record| record.cause.is_some());
        drop(book);
        if due {
            self.wake();
        }
        self.idle.send_modify(|_| {});
    }

    /// Lets the worker finish the current message and send no more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.wakeup.notify_one();
    }

    /// Runs the worker. It never returns.
    pub async fn work(self: Arc<Self>, open: Open, changed: Changed) {
        let (sink, tries, delivered) = (None, BTreeMap::new(), 0);
        let mut worker = Worker { desk: self, open, changed, sink, failures: 0, tries, delivered };
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
    /// Number of consecutive failures.
    failures: u32,
    /// How often each message failed, and the value of `delivered` when it first did.
    tries: BTreeMap<String, (u32, u64)>,
    /// Number of messages delivered so far.
    delivered: u64,
}

impl Worker {
    /// Sends one message, or waits until one may be due.
    async fn turn(&mut self) {
        if self.desk.stopped.load(Ordering::Relaxed) {
            self.desk.idle.send_replace(true);
            return std::future::pending().await;
        }
        let mode = self.desk.destination.abilities().mode;
        let next = plan::next(&mut self.desk.book(), mode, Instant::now().into_std());
        match next {
            Next::Send(sending) => self.send(*sending, mode).await,
            Next::At(due) => {
                let due = Instant::from_std(due);
                if due > Instant::now() + SOON {
                    self.desk.idle.send_replace(true);
                }
                let woken = self.desk.wakeup.notified();
                tokio::select! {
                    () = woken => sleep_until(due.min(Instant::now() + BURST)).await,
                    () = sleep_until(due) => {}
                }
            }
            Next::Nothing => {
                self.desk.idle.send_replace(true);
                self.desk.wakeup.notified().await;
                self.desk.idle.send_replace(false);
                sleep_until(Instant::now() + BURST).await;
            }
        }
    }

    async fn send(&mut self, sending: Sending, mode: DeliveryMode) {
        let begun = Instant::now();
        let sent = match self.try_to_send(&sending).await {
            Err(SinkError { kind: Trouble::Unclear, .. }) if may_be_lost(&sending, mode) => Ok(None),
            sent => sent,
        };
        match sent {
            Ok(id) => {
                if sending.way != Way::RecordOnly {
                    self.desk.counts.sent.fetch_add(1, Ordering::Relaxed);
                    self.tries.remove(&key_of(&sending));
                    self.succeeded();
                }
                self.record(|book, now| outcome::delivered(book, &sending, id, now));
                sleep_until(begun + self.desk.destination.abilities().pace).await;
            }
            Err(error) => self.failed(&sending, error).await,
        }
    }

    async fn try_to_send(&mut self, sending: &Sending) -> Result<Option<String>, SinkError> {
        if sending.way == Way::RecordOnly {
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
                    let lines = self.desk.destination.abilities().mode == DeliveryMode::Lines;
                    let thread = if lines { Some(subject.as_str()) } else { thread.as_deref() };
                    sink.post(&sending.message, thread, *loud).await
                }
                Way::Edit { id } => sink.edit(&sending.message, id).await.map(|()| None),
                Way::RecordOnly => Ok(None),
            }
        };
        timeout(SEND_LIMIT, sent).await.unwrap_or_else(|_| {
            let message = "no response within the time limit".to_owned();
            Err(SinkError { kind: Trouble::Unclear, reason: "NoAnswer", message })
        })
    }

    async fn failed(&mut self, sending: &Sending, error: SinkError) {
        let pause = match error.kind {
            Trouble::Refused => {
                self.give_up(sending, &error);
                self.desk.destination.abilities().pace
            }
            Trouble::MessageGone => {
                self.desk.counts.refused.fetch_add(1, Ordering::Relaxed);
                self.record(|book, _| outcome::gone(book, sending));
                self.desk.destination.abilities().pace
            }
            Trouble::Closed => {
                self.desk.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.sink = None;
                self.report_trouble(error.reason, error.message);
                CLOSED
            }
            Trouble::Transient { after } => self.try_later(sending, error, after),
            Trouble::Unclear => self.try_later(sending, error, None),
        };
        // New stories do not shorten the pause, but a shutdown ends it.
        let until = Instant::now() + pause;
        while !self.desk.stopped.load(Ordering::Relaxed) && Instant::now() < until {
            let _ = tokio::time::timeout_at(until, self.desk.wakeup.notified()).await;
        }
    }

    /// Counts a failure, drops a message that fails while others are delivered, and returns the pause until the next
    /// attempt.
    fn try_later(&mut self, sending: &Sending, error: SinkError, after: Option<Duration>) -> Duration {
        self.desk.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.failures = self.failures.saturating_add(1);
        let (tries, delivered) = self.tries.entry(key_of(sending)).or_insert((0, self.delivered));
        *tries += 1;
        let hopeless = *tries >= TRIES && self.delivered > *delivered;
        if hopeless || (error.kind == Trouble::Unclear && *tries >= UNCLEAR_TRIES) {
            self.give_up(sending, &error);
            return self.desk.destination.abilities().pace;
        }
        if let Some((about, thread)) = sending.task.thread() {
            self.desk.book().later(&about, &thread, Instant::now().into_std());
        }
        if self.failures >= REPORTED_FAILURES {
            self.report_trouble(error.reason, error.message);
        }
        let (first, most) = RETRY;
        after.unwrap_or_else(|| backoff::doubled(first, most, self.failures))
    }

    fn give_up(&mut self, sending: &Sending, error: &SinkError) {
        self.desk.counts.refused.fetch_add(1, Ordering::Relaxed);
        self.tries.remove(&key_of(sending));
        let (to, reason, id) = (self.desk.destination.name(), error.reason, &sending.message.id);
        tracing::error!(to, reason, id, "message not delivered, giving up: {error}");
        self.record(|book, now| outcome::delivered(book, sending, None, now));
    }

    /// Changes the book, and wakes the objects whose records have changed, so that their status is written.
    fn record(&self, change: impl FnOnce(&mut Book, std::time::Instant)) {
        let mut book = self.desk.book();
        change(&mut book, Instant::now().into_std());
        let unwritten: Vec<Subject> = book
            .items
            .iter()
            .filter(|(_, item)| item.changes > item.marked)
            .map(|(about, _)| about.clone())
            .collect();
        drop(book);
        unwritten.iter().for_each(|about| (self.changed)(about));
    }

    /// Counts a success, and reports that messages are delivered again.
    fn succeeded(&mut self) {
        self.failures = 0;
        self.delivered += 1;
        if self.desk.lock_failure().take().is_some() {
            tracing::info!(to = self.desk.destination.name(), "messages are delivered again");
            self.wake_waiting();
        }
    }

    /// Reports once why messages cannot be delivered: in the log, and in the status of every object with undelivered
    /// messages.
    fn report_trouble(&self, reason: &'static str, message: String) {
        let failure = Some((reason, message));
        let before = std::mem::replace(&mut *self.desk.lock_failure(), failure.clone());
        // Only a new reason is reported: the message can differ from one attempt to the next.
        if before.is_none_or(|(before, _)| before != reason) {
            let message = failure.map(|(_, message)| message).unwrap_or_default();
            tracing::warn!(to = self.desk.destination.name(), reason, "cannot deliver messages: {message}");
            self.wake_waiting();
        }
        self.desk.idle.send_modify(|_| {});
    }

    fn wake_waiting(&self) {
        let mode = self.desk.destination.abilities().mode;
        let book = self.desk.book();
        let waiting = book.items.iter().filter(|(_, item)| !item.is_delivered(mode));
        let objects: Vec<Subject> = waiting.map(|(about, _)| about.clone()).collect();
        drop(book);
        objects.iter().for_each(|about| (self.changed)(about));
    }
}

/// Returns a key that identifies a message even if its text changes between two attempts.
fn key_of(sending: &Sending) -> String {
    format!("{} {}", sending.subject(), sending.message.id)
}

/// Returns whether a message without a clear response counts as delivered. A detail in a thread does: a second copy
/// annoys more than a missing one. An edit and any other message are sent again: an edit can be repeated, and without a
/// first message or an announcement people would not know of a failure.
fn may_be_lost(sending: &Sending, mode: DeliveryMode) -> bool {
    match &sending.way {
        Way::Post { .. } => mode == DeliveryMode::Threads && sending.message.weight == Weight::Detail,
        Way::Edit { .. } | Way::RecordOnly => false,
    }
}
