//! Publishes notes as Events, which `kubectl describe` shows. A queue of its own sends them one after another, so that
//! no reconcile waits for it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::api::lock::lock;
use crate::engine::Note;
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::{MANAGER, REQUEST_LIMIT};

/// Events that may wait. The first commit of many objects loses none; a day without an API server loses the oldest.
const CAPACITY: usize = 2048;
/// An Event costs the API server as much as the write that it reports. This many are sent at once, then one per
/// interval.
const BURST: u32 = 20;
const INTERVAL: Duration = Duration::from_millis(20);
/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1024;

/// Events that are not sent yet.
#[derive(Default)]
pub struct EventQueue {
    waiting: Mutex<VecDeque<(ObjectReference, Note)>>,
    dropped: AtomicUsize,
    pushed: Notify,
}

impl EventQueue {
    /// Adds a note. A full queue drops its oldest one.
    pub fn push(&self, about: ObjectReference, note: Note) {
        let mut waiting = self.waiting();
        waiting.push_back((about, note));
        if waiting.len() > CAPACITY {
            waiting.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drop(waiting);
        self.pushed.notify_one();
    }

    /// Sends all Events, forever.
    pub async fn send(&self, client: Client) {
        let recorder = Recorder::new(client, MANAGER.into());
        let (mut logged, mut pace) = (None, Pace::new(Instant::now()));
        loop {
            let Some((about, note)) = self.next() else {
                let dropped = self.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!(dropped, "the oldest events were dropped: too many were waiting");
                }
                self.pushed.notified().await;
                continue;
            };
            sleep_until(pace.next(Instant::now())).await;
            let sent = tokio::time::timeout(REQUEST_LIMIT, recorder.publish(&event(&note), &about)).await;
            let failure = match sent {
                Ok(sent) => sent.err().map(|error| Refusal::from(error).message),
                Err(_) => Some("no response in time".to_owned()),
            };
            if failure.is_some() && failure != logged {
                tracing::warn!(error = failure, reason = %note.reason, "the Event cannot be published");
            }
            logged = failure;
        }
    }

    fn next(&self) -> Option<(ObjectReference, Note)> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<(ObjectReference, Note)>> {
        lock(&self.waiting)
    }
}

/// When the next Event may be sent: the time until which the rate is used up.
struct Pace(Instant);

impl Pace {
    fn new(now: Instant) -> Self {
        Self(now)
    }

    /// When to send one more: at once, as long as the burst is not used up.
    fn next(&mut self, now: Instant) -> Instant {
        self.0 = self.0.max(now) + INTERVAL;
        self.0.checked_sub(INTERVAL * BURST).map_or(now, |time| time.max(now))
    }
}

fn event(note: &Note) -> Event {
    let type_ = if note.warning { EventType::Warning } else { EventType::Normal };
    // The recorder counts Events with the same action as one. Only those with the same message are the same.
    let digest = crate::api::ids::digest(&[&note.message]);
    Event {
        type_,
        reason: note.reason.to_string(),
        note: Some(shortened(&note.message)),
        action: format!("{}-{}", note.reason, &digest[..8]),
        secondary: None,
    }
}

fn shortened(message: &str) -> String {
    if message.len() <= LONGEST_NOTE {
        return message.to_owned();
    }
    let ellipsis = "…";
    let longest = LONGEST_NOTE - ellipsis.len();
    let end = (0..=longest).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{ellipsis}", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        Note { reason: "BuildFailed".into(), message: message.to_owned(), warning: true }
    }

    #[test]
    fn a_full_queue_loses_the_oldest() {
        let events = EventQueue::default();
        for number in 0..CAPACITY + 2 {
            events.push(ObjectReference::default(), note(&number.to_string()));
        }
        assert_eq!(events.next().map(|(_, note)| note.message).as_deref(), Some("2"));
        assert_eq!((events.waiting().len(), events.dropped.load(Ordering::Relaxed)), (CAPACITY - 1, 2));
    }

    #[test]
    fn a_burst_is_sent_at_once_and_the_rest_at_intervals() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let waits: Vec<Duration> = (0..BURST + 3).map(|_| pace.next(now) - now).collect();
        let burst = BURST as usize;
        assert!(waits[..burst].iter().all(Duration::is_zero), "{waits:?}");
        assert_eq!(waits[burst..], [INTERVAL, INTERVAL * 2, INTERVAL * 3]);
        let later = now + Duration::from_secs(3600);
        assert_eq!(pace.next(later), later, "a quiet hour allows no more than one burst");
        let waits: Vec<Duration> = (0..BURST).map(|_| pace.next(later) - later).collect();
        assert_eq!(waits[burst - 1], INTERVAL);
    }

    #[test]
    fn only_notes_with_the_same_message_are_one_event() {
        assert_eq!(event(&note("a")).action, event(&note("a")).action);
        assert_ne!(event(&note("a")).action, event(&note("b")).action);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "ä".repeat(2000);
        let cut = shortened(&long);
        assert!(cut.len() <= LONGEST_NOTE && cut.ends_with("ä…"));
        assert_eq!(shortened("short"), "short");
    }
}
