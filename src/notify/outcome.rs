//! What is remembered of a message once it arrived, was refused, or turned out to be gone. Pure.

use std::time::Instant;

use super::book::{Book, CauseMessage, HEAD, Item, Record, digest_of};
use super::plan::{Sending, Task, Way};
use crate::announce::{Subject, TROUBLE, Tone};

/// It arrived, as `id` where the sink has ids. What is refused for good counts as told, too: it would
/// be refused again.
pub fn told(book: &mut Book, sending: &Sending, id: Option<String>, now: Instant) {
    let shown = digest_of(&sending.message);
    match &sending.task {
        Task::Head { about, thread } => {
            book.edited.insert((about.clone(), thread.clone()), now);
            change(book, about, |item| head_told(item, thread, id, shown));
        }
        Task::Reply { about, thread, reply } => {
            change(book, about, |item| item.change(thread, |record| record.tell(reply)));
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
            if posted {
                item.change(thread, |record| record.tell(&sending.message.id))
            } else {
                item.forget(thread)
            }
        }),
        Task::Close { about, thread } => change(book, about, |item| item.forget(thread)),
        Task::Cause { cause, joined } => {
            let before = book.causes.get(cause).and_then(|known| known.announced);
            let announced = if matches!(sending.way, Way::Post { .. }) { Some(now) } else { before };
            book.causes.insert(cause.clone(), CauseMessage { announced, written: now, shown });
            let message = match &sending.way {
                Way::Edit { id } | Way::Post { thread: Some(id), .. } => Some(id.clone()),
                Way::Post { thread: None, .. } | Way::Unsaid => id,
            };
            for (about, thread) in joined {
                change(book, about, |item| join(item, thread, (cause.clone(), message.clone())));
            }
        }
        Task::CauseOver { cause } => cause_over(book, cause),
    }
}

/// The message that was to be edited or answered is gone: a person deleted it. What goes on gets a new one.
pub fn gone(book: &mut Book, sending: &Sending) {
    match &sending.task {
        Task::Head { .. } => {}
        Task::Reply { about, thread, .. } | Task::Edit { about, thread } => change(book, about, |item| {
            let over = item.story(thread).is_none_or(|story| story.over);
            let is_reply = matches!(sending.task, Task::Reply { .. });
            item.change(thread, |record| {
                record.message = None;
                if is_reply || !over {
                    record.told.retain(|told| told != HEAD);
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

/// The first message says how it stands: replies that were due until then are in it.
fn head_told(item: &mut Item, thread: &str, id: Option<String>, shown: String) {
    let replies: Vec<String> =
        item.story(thread).iter().flat_map(|story| &story.replies).map(|reply| reply.id.clone()).collect();
    let over = item.story(thread).is_some_and(|story| story.over);
    item.change(thread, |record| {
        record.message = id;
        record.show(shown, over);
        record.tell(HEAD);
        replies.iter().for_each(|reply| record.tell(reply));
    });
}

/// From now on one message speaks for this thread's bad news.
fn join(item: &mut Item, thread: &str, cause: (String, Option<String>)) {
    let bad = |tone: Tone| matches!(tone, Tone::Bad | Tone::Person);
    // The newest trouble is told of: an older one of that name has nothing more to say.
    let silent = |record: &Record| record.thread != thread && !record.has_told(HEAD);
    let gone: Vec<String> = item
        .records
        .iter()
        .filter(|record| record.cause.as_ref().is_some_and(|(of, _)| *of == cause.0) && silent(record))
        .filter(|record| item.story(&record.thread).is_none())
        .map(|record| record.thread.clone())
        .collect();
    gone.iter().for_each(|thread| item.forget(thread));
    let replies: Vec<String> = item
        .story(thread)
        .iter()
        .flat_map(|story| &story.replies)
        .filter(|reply| bad(reply.tone))
        .map(|reply| reply.id.clone())
        .collect();
    item.change(thread, |record| {
        record.cause = Some(cause);
        replies.iter().for_each(|reply| record.tell(reply));
    });
}

/// What never spoke for itself and is over stays silent; the rest goes on by itself.
fn cause_over(book: &mut Book, cause: &str) {
    book.causes.remove(cause);
    for item in book.items.values_mut() {
        for thread in of_cause(item, cause) {
            let silent = item.record(&thread).is_some_and(|record| !record.has_told(HEAD));
            if silent && thread.starts_with(TROUBLE) && item.story(&thread).is_none() {
                item.forget(&thread);
                continue;
            }
            let over = item.story(&thread).is_none_or(|story| story.over);
            item.change(&thread, |record| record.cause = None);
            if silent && over {
                head_told(item, &thread, None, String::new());
            }
        }
    }
}

fn of_cause(item: &Item, cause: &str) -> Vec<String> {
    let records = item.records.iter();
    let shares = records.filter(|record| record.cause.as_ref().is_some_and(|(of, _)| of == cause));
    shares.map(|record| record.thread.clone()).collect()
}
