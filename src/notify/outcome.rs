//! Records in the book what became of a message: delivered, refused for good, or deleted by a person. Pure.

use std::time::Instant;

use super::book::{Book, CauseMessage, HEAD, Item, Record, digest_of};
use super::plan::{Sending, Task, Way};
use crate::announce::{Subject, TROUBLE, Tone};

/// Records that a message was delivered. `id` is its ID, if the sink has IDs. A message that was refused for good also
/// counts as delivered, because it would be refused again.
pub fn delivered(book: &mut Book, sending: &Sending, id: Option<String>, now: Instant) {
    let shown = digest_of(&sending.message);
    match &sending.task {
        Task::Head { about, thread } => {
            book.edited.insert((about.clone(), thread.clone()), now);
            change(book, about, |item| head_delivered(item, thread, id, shown));
        }
        Task::Reply { about, thread, reply } => {
            change(book, about, |item| item.change(thread, |record| record.mark_delivered(reply)));
        }
        Task::Edit { about, thread } => {
            book.edited.insert((about.clone(), thread.clone()), now);
            change(book, about, |item| {
                let over = item.story(thread).is_some_and(|story| story.over);
                item.change(thread, |record| record.show(shown, over));
            });
        }
        Task::Resolve { about, thread } => change(book, about, |item| {
            let posted = item.record(thread).is_some_and(|record| record.message.is_some());
            // If there is a first message, it is edited before the record is removed (`Task::Close`).
            if posted {
                item.change(thread, |record| record.mark_delivered(&sending.message.id))
            } else {
                item.forget(thread)
            }
        }),
        Task::Close { about, thread } => change(book, about, |item| item.forget(thread)),
        Task::Cause { cause, joined } => {
            // Only a new message notifies people. An edit keeps the time at which they were notified.
            let before = book.causes.get(cause).and_then(|known| known.announced);
            let announced = if matches!(sending.way, Way::Post { .. }) { Some(now) } else { before };
            book.causes.insert(cause.clone(), CauseMessage { announced, written: now, shown });
            let message = match &sending.way {
                Way::Edit { id } | Way::Post { thread: Some(id), .. } => Some(id.clone()),
                Way::Post { thread: None, .. } | Way::RecordOnly => id,
            };
            for (about, thread) in joined {
                change(book, about, |item| join(item, thread, (cause.clone(), message.clone())));
            }
        }
        Task::CauseOver { cause } => cause_over(book, cause),
    }
}

/// Records that a person deleted the message that was to be edited or replied to. A story that continues gets a new
/// one.
pub fn gone(book: &mut Book, sending: &Sending) {
    match &sending.task {
        Task::Head { .. } => {}
        Task::Reply { about, thread, .. } | Task::Edit { about, thread } => change(book, about, |item| {
            let over = item.story(thread).is_none_or(|story| story.over);
            let is_reply = matches!(sending.task, Task::Reply { .. });
            item.change(thread, |record| {
                record.message = None;
                // A story that has ended and only lacks its last edit needs no new message.
                if is_reply || !over {
                    record.delivered.retain(|id| id != HEAD);
                }
            });
        }),
        Task::Resolve { about, thread } => {
            change(book, about, |item| item.change(thread, |record| record.message = None));
        }
        Task::Close { about, thread } => change(book, about, |item| item.forget(thread)),
        Task::Cause { cause, .. } | Task::CauseOver { cause } => {
            for item in book.items.values_mut() {
                of_cause(item, cause).iter().for_each(|thread| {
                    item.change(thread, |record| record.cause = Some((cause.clone(), None)));
                });
            }
        }
    }
}

fn change(book: &mut Book, about: &Subject, change: impl FnOnce(&mut Item)) {
    if let Some(item) = book.items.get_mut(about) {
        change(item);
    }
}

/// Records that the first message was delivered. It shows the current state, so replies about what happened before are
/// no longer sent.
fn head_delivered(item: &mut Item, thread: &str, id: Option<String>, shown: String) {
    let replies: Vec<String> =
        item.story(thread).iter().flat_map(|story| &story.replies).map(|reply| reply.id.clone()).collect();
    let over = item.story(thread).is_some_and(|story| story.over);
    item.change(thread, |record| {
        record.message = id;
        record.show(shown, over);
        record.mark_delivered(HEAD);
        replies.iter().for_each(|reply| record.mark_delivered(reply));
    });
}

/// Records that the message about a shared cause covers this thread from now on.
fn join(item: &mut Item, thread: &str, cause: (String, Option<String>)) {
    let bad = |tone: Tone| matches!(tone, Tone::Bad | Tone::Person);
    // The object failed for this cause before, recovered, and fails again. The earlier problem was only announced by
    // the shared message, which goes on, so its end is not reported. One with a first message of its own is still
    // resolved.
    let unannounced = |record: &Record| record.thread != thread && !record.has_delivered(HEAD);
    let gone: Vec<String> = item
        .records
        .iter()
        .filter(|record| record.cause.as_ref().is_some_and(|(of, _)| *of == cause.0) && unannounced(record))
        .filter(|record| item.story(&record.thread).is_none())
        .map(|record| record.thread.clone())
        .collect();
    gone.iter().for_each(|thread| item.forget(thread));
    // The shared message reports the failures so far. Good news in the thread is still sent.
    let replies: Vec<String> = item
        .story(thread)
        .iter()
        .flat_map(|story| &story.replies)
        .filter(|reply| bad(reply.tone))
        .map(|reply| reply.id.clone())
        .collect();
    item.change(thread, |record| {
        record.cause = Some(cause);
        replies.iter().for_each(|reply| record.mark_delivered(reply));
    });
}

/// Records that the end of a cause was reported. Stories that only the shared message announced and that have ended
/// need no message of their own. All others continue by themselves.
fn cause_over(book: &mut Book, cause: &str) {
    book.causes.remove(cause);
    for item in book.items.values_mut() {
        for thread in of_cause(item, cause) {
            let unannounced = item.record(&thread).is_some_and(|record| !record.has_delivered(HEAD));
            if unannounced && thread.starts_with(TROUBLE) && item.story(&thread).is_none() {
                item.forget(&thread);
                continue;
            }
            let over = item.story(&thread).is_none_or(|story| story.over);
            item.change(&thread, |record| record.cause = None);
            if unannounced && over {
                head_delivered(item, &thread, None, String::new());
            }
        }
    }
}

fn of_cause(item: &Item, cause: &str) -> Vec<String> {
    let records = item.records.iter();
    let shares = records.filter(|record| record.cause.as_ref().is_some_and(|(of, _)| of == cause));
    shares.map(|record| record.thread.clone()).collect()
}
