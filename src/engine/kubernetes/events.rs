//! Events: notes as `kubectl describe` shows them. Sent one after another beside the work, never in its way.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::error::Refusal;
use super::{MANAGER, REQUEST_LIMIT};
use crate::engine::Note;

/// Events that may wait: a first commit of many objects loses none, a day without an API server the oldest.
const KEPT: usize = 2048;
/// Events cost the API server as much as the work they tell of: so many go at once, then one every so often.
const BURST: u32 = 20;
const PACE: Duration = Duration::from_millis(20);
/// The API server takes no longer notes.
const LONGEST_NOTE: usize = 1024;

/// Events that were not sent yet.
#[derive(Default)]
pub struct Events {
    waiting: Mutex<VecDeque<(ObjectReference, Note)>>,
    dropped: AtomicUsize,
    bell: Notify,
}

impl Events {
    /// Puts a note in the queue; the oldest falls out of one that is full.
    pub fn push(&self, about: ObjectReference, note: Note) {
        let mut waiting = self.waiting();
        waiting.push_back((about, note));
        if waiting.len() > KEPT {
            waiting.pop_front();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        drop(waiting);
        self.bell.notify_one();
    }

    /// Sends what comes, for ever.
    pub async fn send(&self, client: Client) {
        let recorder = Recorder::new(client, MANAGER.into());
        let (mut said, mut pace) = (None, Pace::new(Instant::now()));
        loop {
            let Some((about, note)) = self.next() else {
                let dropped = self.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    tracing::warn!(dropped, "the oldest events were dropped: too many were waiting");
                }
                self.bell.notified().await;
                continue;
            };
            sleep_until(pace.next(Instant::now())).await;
            let sent = tokio::time::timeout(REQUEST_LIMIT, recorder.publish(&event(&note), &about)).await;
            let failure = match sent {
                Ok(sent) => sent.err().map(|error| Refusal::from(error).message),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if failure.is_some() && failure != said {
                tracing::warn!(error = failure, reason = %note.reason, "an event cannot be written");
            }
            said = failure;
        }
    }

    fn next(&self) -> Option<(ObjectReference, Note)> {
        self.waiting().pop_front()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<(ObjectReference, Note)>> {
        self.waiting.lock().expect("no code panics while it holds the events")
    }
}

/// When the next event may go.
struct Pace(Instant);

impl Pace {
    fn new(now: Instant) -> Self {
        Self(now)
    }

    /// The turn of one more: at once as long as not all of a burst is used up.
    fn next(&mut self, now: Instant) -> Instant {
        self.0 = self.0.max(now) + PACE;
        self.0.checked_sub(PACE * BURST).map_or(now, |turn| turn.max(now))
    }
}

fn event(note: &Note) -> Event {
    let type_ = if note.warning { EventType::Warning } else { EventType::Normal };
    // Events with the same action count as one: those with the same words are meant.
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
    let mark = "…";
    let end = (0..=LONGEST_NOTE - mark.len()).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{mark}", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(message: &str) -> Note {
        Note { reason: "BuildFailed".into(), message: message.to_owned(), warning: true }
    }

    #[test]
    fn a_full_queue_loses_the_oldest() {
        let events = Events::default();
        for number in 0..KEPT + 2 {
            events.push(ObjectReference::default(), note(&number.to_string()));
        }
        assert_eq!(events.next().map(|(_, note)| note.message).as_deref(), Some("2"));
        assert_eq!((events.waiting().len(), events.dropped.load(Ordering::Relaxed)), (KEPT - 1, 2));
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_in_step() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let turns: Vec<Duration> = (0..BURST + 3).map(|_| pace.next(now) - now).collect();
        let burst = BURST as usize;
        assert!(turns[..burst].iter().all(Duration::is_zero), "{turns:?}");
        assert_eq!(turns[burst..], [PACE, PACE * 2, PACE * 3]);
        let later = now + Duration::from_secs(3600);
        assert_eq!(pace.next(later), later, "quiet hours are not saved up for more than a burst");
        let turns: Vec<Duration> = (0..BURST).map(|_| pace.next(later) - later).collect();
        assert_eq!(turns[burst - 1], PACE);
    }

    #[test]
    fn only_the_same_words_are_one_event() {
        assert_eq!(event(&note("a")).action, event(&note("a")).action);
        assert_ne!(event(&note("a")).action, event(&note("b")).action);
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let long = "ä".repeat(2000);
        let cut = shortened(&long);
        assert!(cut.len() <= LONGEST_NOTE && cut.ends_with("ä…"));
        assert_eq!(shortened("short"), "short");
    }
}
