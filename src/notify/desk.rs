//! The task of one destination: asks the plan what is next, sends it, remembers what came of it.
//!
//! It sends one message at a time, at the pace its service allows, and stands in nobody's way: passes
//! leave stories in its book and go on.

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
use super::sink::{Manner, Sink, SinkError, Trouble};
use crate::announce::{Subject, Weight};

/// First and longest pause after a failure that goes away by itself.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// How often to look whether a person has acted: a new token, a channel that is open again.
const CLOSED: Duration = Duration::from_secs(300);
/// Failures in a row from which on the status tells of them.
const SILENT_FAILURES: u32 = 3;
/// Passes come in bursts: a plan looks at all objects, so it is made for many of them at once.
const BURST: Duration = Duration::from_millis(100);
/// What is due later than this is not waited for by those who wait until all is told.
const SOON: Duration = Duration::from_secs(35);
/// After so many tries a message that fails while others pass is given up.
const TRIES: u32 = 5;
/// And after so many without an answer in any case: it may have arrived each time.
const UNCLEAR_TRIES: u32 = 20;
/// No sink takes longer; one that does has lost the message.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// Makes the sink of a destination, with the secret as it is now.
pub type Open = Arc<
    dyn Fn(Destination) -> futures::future::BoxFuture<'static, Result<Box<dyn Sink>, SinkError>>
        + Send
        + Sync,
>;
/// Hears that what is remembered of an object has changed.
pub type Changed = Arc<dyn Fn(&Subject) + Send + Sync>;

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
    stopped: AtomicBool,
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
            stopped: AtomicBool::new(false),
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
            if quiet && self.book().items.values().all(Item::is_written) {
                return;
            }
            if idle.changed().await.is_err() {
                return;
            }
        }
    }

    /// What was marked is in an object's status now: it may be told of.
    pub fn written(&self, about: &Subject) {
        let mut book = self.book();
        let Some(item) = book.items.get_mut(about) else { return };
        item.written = item.marked;
        if let Some(pending) = item.pending.take() {
            item.update(about, pending);
        }
        let due = !item.is_told(self.destination.manner())
            || item.records.iter().any(|record| record.cause.is_some());
        drop(book);
        if due {
            self.ring();
        }
        self.idle.send_modify(|_| {});
    }

    /// Sends nothing more once the message under way has come to its end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// Works for ever.
    pub async fn work(self: Arc<Self>, open: Open, changed: Changed) {
        let (sink, tries, passed) = (None, BTreeMap::new(), 0);
        let mut worker = Worker { desk: self, open, changed, sink, failures: 0, tries, passed };
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
    /// How often each message failed, and how many others had passed when it first did.
    tries: BTreeMap<String, (u32, u64)>,
    passed: u64,
}

impl Worker {
    /// Sends one message, or waits until there may be one.
    async fn turn(&mut self) {
        if self.desk.stopped.load(Ordering::Relaxed) {
            self.desk.idle.send_replace(true);
            return std::future::pending().await;
        }
        let manner = self.desk.destination.manner();
        let next = plan::next(&mut self.desk.book(), manner, Instant::now().into_std());
        match next {
            Next::Send(sending) => self.send(*sending, manner).await,
            Next::At(due) => {
                let due = Instant::from_std(due);
                if due > Instant::now() + SOON {
                    self.desk.idle.send_replace(true);
                }
                let rung = self.desk.bell.notified();
                tokio::select! {
                    () = rung => sleep_until(due.min(Instant::now() + BURST)).await,
                    () = sleep_until(due) => {}
                }
            }
            Next::Nothing => {
                self.desk.idle.send_replace(true);
                self.desk.bell.notified().await;
                self.desk.idle.send_replace(false);
                sleep_until(Instant::now() + BURST).await;
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
                if sending.way != Way::Unsaid {
                    self.desk.counts.sent.fetch_add(1, Ordering::Relaxed);
                    self.tries.remove(&key_of(&sending));
                    self.passes();
                }
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
                    let lines = self.desk.destination.manner() == Manner::Lines;
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
        let pause = match error.kind {
            Trouble::Refused => {
                self.give_up(sending, &error);
                self.desk.destination.pace()
            }
            Trouble::MessageGone => {
                self.desk.counts.refused.fetch_add(1, Ordering::Relaxed);
                self.remember(|book, _| outcome::gone(book, sending));
                self.desk.destination.pace()
            }
            Trouble::Closed => {
                self.desk.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.sink = None;
                self.tell_trouble(error.reason, error.message);
                CLOSED
            }
            Trouble::Transient { after } => self.try_later(sending, error, after),
            Trouble::Unclear => self.try_later(sending, error, None),
        };
        // A person who acts, or the end, is not waited for.
        let until = Instant::now() + pause;
        while !self.desk.stopped.load(Ordering::Relaxed) && Instant::now() < until {
            let _ = tokio::time::timeout_at(until, self.desk.bell.notified()).await;
        }
    }

    /// Notes that it failed, and gives up a message that fails while others pass. Answers the pause.
    fn try_later(&mut self, sending: &Sending, error: SinkError, after: Option<Duration>) -> Duration {
        self.desk.counts.failed.fetch_add(1, Ordering::Relaxed);
        self.failures = self.failures.saturating_add(1);
        let (tries, passed) = self.tries.entry(key_of(sending)).or_insert((0, self.passed));
        *tries += 1;
        let hopeless = *tries >= TRIES && self.passed > *passed;
        if hopeless || (error.kind == Trouble::Unclear && *tries >= UNCLEAR_TRIES) {
            self.give_up(sending, &error);
            return self.desk.destination.pace();
        }
        self.desk.book().later(&sending.task, Instant::now().into_std());
        if self.failures >= SILENT_FAILURES {
            self.tell_trouble(error.reason, error.message);
        }
        let (first, most) = AGAIN;
        let doubled = first.saturating_mul(1 << (self.failures - 1).min(16)).min(most);
        after.unwrap_or(doubled)
    }

    fn give_up(&mut self, sending: &Sending, error: &SinkError) {
        self.desk.counts.refused.fetch_add(1, Ordering::Relaxed);
        self.tries.remove(&key_of(sending));
        let (to, reason, id) = (self.desk.destination.name(), error.reason, &sending.message.id);
        tracing::error!(to, reason, id, "a message is given up: {error}");
        self.remember(|book, now| outcome::told(book, sending, None, now));
    }

    /// Notes what became of a message, and has those statuses written that are to say so.
    fn remember(&self, note: impl FnOnce(&mut Book, std::time::Instant)) {
        let mut book = self.desk.book();
        note(&mut book, Instant::now().into_std());
        let unwritten: Vec<Subject> = book
            .items
            .iter()
            .filter(|(_, item)| item.changes > item.marked)
            .map(|(about, _)| about.clone())
            .collect();
        drop(book);
        unwritten.iter().for_each(|about| (self.changed)(about));
    }

    /// It passes again.
    fn passes(&mut self) {
        self.failures = 0;
        self.passed += 1;
        if self.desk.lock_trouble().take().is_some() {
            tracing::info!(to = self.desk.destination.name(), "messages pass again");
            self.wake_waiting();
        }
    }

    /// Told once: in the log, and in the status of whoever waits for it.
    fn tell_trouble(&self, reason: &'static str, message: String) {
        let trouble = Some((reason, message));
        let before = std::mem::replace(&mut *self.desk.lock_trouble(), trouble.clone());
        // Words may differ from one try to the next.
        if before.is_none_or(|(before, _)| before != reason) {
            let words = trouble.map(|(_, words)| words).unwrap_or_default();
            tracing::warn!(to = self.desk.destination.name(), reason, "messages do not pass: {words}");
            self.wake_waiting();
        }
        self.desk.idle.send_modify(|_| {});
    }

    fn wake_waiting(&self) {
        let manner = self.desk.destination.manner();
        let book = self.desk.book();
        let waiting = book.items.iter().filter(|(_, item)| !item.is_told(manner));
        let objects: Vec<Subject> = waiting.map(|(about, _)| about.clone()).collect();
        drop(book);
        objects.iter().for_each(|about| (self.changed)(about));
    }
}

/// One message, whatever becomes of its words.
fn key_of(sending: &Sending) -> String {
    format!("{} {}", sending.subject(), sending.message.id)
}

/// Sent twice, a detail or an edit annoys or changes nothing; a first message or an announcement that
/// is missing would leave people unaware.
fn may_be_lost(sending: &Sending, manner: Manner) -> bool {
    match &sending.way {
        Way::Post { .. } => manner == Manner::Threads && sending.message.weight == Weight::Detail,
        Way::Edit { .. } | Way::Unsaid => false,
    }
}
