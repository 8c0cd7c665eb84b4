//! The book of one destination: for every object its current stories, and the records of what was delivered. Pure.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::sinks::DeliveryMode;
use crate::announce::{self, Message, Story, Subject, TROUBLE};
use crate::api::conditions::Condition;
use crate::api::notifier::Notification;
use crate::api::{ids, steady};

/// ID of the first message of a thread in the list of delivered messages.
pub const HEAD: &str = "head";

/// Age at which an ended story that could not be delivered is dropped: it is of no use any more.
const STALE: SignedDuration = SignedDuration::from_hours(24);

/// All notification state of one destination.
#[derive(Debug, Default)]
pub struct Book {
    pub items: BTreeMap<Subject, Item>,
    /// Since when a message is due, by object, thread and message.
    pub due: BTreeMap<(Subject, String, String), Instant>,
    /// The messages about shared causes that were sent or edited since the start.
    pub causes: BTreeMap<String, CauseMessage>,
    /// Time of the first plan after the start.
    pub since: Option<Instant>,
    /// When the first message of each thread was last sent or edited.
    pub edited: BTreeMap<(Subject, String), Instant>,
}

/// The message about a shared cause.
#[derive(Clone, Debug)]
pub struct CauseMessage {
    /// When people were last notified of it. An edit does not notify them.
    pub announced: Option<Instant>,
    /// When it was last sent or edited.
    pub written: Instant,
    /// Digest of its content.
    pub shown: String,
}

/// The notification state of one object at one destination.
#[derive(Clone, Debug, Default)]
pub struct Item {
    pub stories: Vec<Story>,
    pub records: Vec<Record>,
    /// The messages that a problem is resolved, by thread.
    pub resolved: BTreeMap<String, Message>,
    /// The stories that take effect once the status is persisted.
    pub pending: Option<Pending>,
    /// Number of changes of the records so far.
    pub changes: u64,
    /// The changes that the last status from `Notifier::mark` contains.
    pub marked: u64,
    /// The changes that the persisted status contains.
    pub written: u64,
}

/// The stories of an object as of a status that is not persisted yet.
#[derive(Clone, Debug)]
pub struct Pending {
    pub stories: Vec<Story>,
    pub conditions: Vec<Condition>,
    pub now: Timestamp,
}

/// What was delivered of one story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub thread: String,
    /// ID of the first message, if the destination has message IDs.
    pub message: Option<String>,
    /// Digest of the first message as it was last sent or edited.
    pub shown: Option<String>,
    /// IDs of the messages that were delivered, or that this destination does not get.
    pub delivered: Vec<String>,
    /// The cause that the story shares with others, and the ID of the message that covers them.
    pub cause: Option<(String, Option<String>)>,
    /// When the story became known.
    pub since: Option<Timestamp>,
}

impl Record {
    pub fn has_delivered(&self, id: &str) -> bool {
        self.delivered.iter().any(|delivered| delivered == id)
    }

    pub fn mark_delivered(&mut self, id: &str) {
        if !self.has_delivered(id) {
            self.delivered.push(id.to_owned());
        }
    }

    /// Records that the first message was sent or edited.
    pub fn show(&mut self, shown: String, over: bool) {
        self.shown = Some(shown);
        if over {
            self.mark_delivered(OVER);
        }
    }

    /// Drops an ended story that could not be delivered for too long.
    fn give_up(&mut self, story: Option<&Story>, now: Timestamp) {
        let old = self.since.is_some_and(|since| now.duration_since(since) > STALE);
        if let Some(story) = story.filter(|story| old && story.over && !self.has_delivered(HEAD)) {
            self.mark_delivered(HEAD);
            story.replies.iter().for_each(|reply| self.mark_delivered(&reply.id));
        }
    }

    /// Records that the first message already shows the end of the story, so that no edit is needed.
    fn close(&mut self, story: Option<&Story>) {
        let shown = |story: &Story| self.shown.as_deref() == Some(&digest_of(&story.head));
        if story.is_some_and(|story| story.over && self.has_delivered(HEAD) && shown(story)) {
            self.mark_delivered(OVER);
        }
    }

    /// Returns whether the first message is up to date. Once it shows the end of the story, it is never edited again,
    /// even if a later version of Opsy words it differently.
    pub fn shows(&self, story: &Story) -> bool {
        let over = story.over && self.has_delivered(OVER);
        self.message.is_none() || over || self.shown.as_deref() == Some(&digest_of(&story.head))
    }

    fn read(notification: &Notification) -> Self {
        let cause_message = notification.cause_message_id.clone();
        Self {
            thread: notification.thread.clone(),
            message: notification.message_id.clone(),
            shown: notification.shown.clone(),
            delivered: notification.told.clone().unwrap_or_default(),
            cause: notification.cause.clone().map(|cause| (cause, cause_message)),
            since: notification.since,
        }
    }

    fn write(&self, to: &str) -> Notification {
        Notification {
            to: to.to_owned(),
            thread: self.thread.clone(),
            message_id: self.message.clone(),
            shown: self.shown.clone(),
            told: Some(self.delivered.clone()).filter(|delivered| !delivered.is_empty()),
            cause: self.cause.as_ref().map(|(cause, _)| cause.clone()),
            cause_message_id: self.cause.as_ref().and_then(|(_, message)| message.clone()),
            since: self.since,
        }
    }
}

impl Book {
    /// Moves the next message of a thread behind the messages of other threads.
    pub fn later(&mut self, about: &Subject, thread: &str, now: Instant) {
        let due = self.due.iter_mut().filter(|((of, at, _), _)| of == about && at == thread);
        due.for_each(|(_, due)| *due = now);
    }
}

impl Item {
    /// Reads the records for one destination from a status.
    pub fn read(records: &[Notification], to: &str) -> Self {
        let records = records.iter().filter(|record| record.to == to).map(Record::read).collect();
        Self { records, ..Self::default() }
    }

    /// Returns the records as a status contains them.
    pub fn write(&self, to: &str) -> Vec<Notification> {
        self.records.iter().map(|record| record.write(to)).collect()
    }

    /// Returns whether the persisted status contains all records.
    pub fn is_written(&self) -> bool {
        self.written == self.changes
    }

    /// Replaces the stories by the current ones, and brings the records up to date.
    pub fn update(&mut self, about: &Subject, pending: Pending) {
        let Pending { stories, conditions, now } = pending;
        for story in &stories {
            let known = self.records.iter().any(|record| record.thread == story.thread);
            // A story that has already ended when this destination first gets it is not news.
            if !known && !story.over {
                let since = Some(now);
                self.records.push(Record { thread: story.thread.clone(), since, ..Record::default() });
            }
        }
        let is_there = |thread: &str| stories.iter().any(|story| story.thread == thread);
        // A story that no longer exists needs no record. The exception is a problem that people were notified of, by
        // itself or by the message about a shared cause: it disappears when it is resolved, and they must learn of
        // that.
        self.records.retain(|record| {
            let is_resolved_problem =
                record.thread.starts_with(TROUBLE) && (record.has_delivered(HEAD) || record.cause.is_some());
            is_there(&record.thread) || is_resolved_problem
        });
        for record in &mut self.records {
            let story = stories.iter().find(|story| story.thread == record.thread);
            record.give_up(story, now);
            record.close(story);
        }
        // The message is made now, because it contains the current state, and the conditions are not stored.
        let resolved = self.records.iter().filter(|record| !is_there(&record.thread));
        let message = |record: &Record| announce::resolved(about, &record.thread, &conditions);
        self.resolved = resolved.map(|record| (record.thread.clone(), message(record))).collect();
        self.stories = stories;
    }

    /// Returns whether nothing is left to send to a destination with this delivery mode.
    pub fn is_delivered(&self, mode: DeliveryMode) -> bool {
        self.records.iter().all(|record| {
            let Some(story) = self.story(&record.thread) else { return false };
            let replies = story.replies.iter().filter(|reply| reply.weight >= mode.least());
            let shown = mode == DeliveryMode::Lines || record.shows(story);
            let delivered = record.has_delivered(HEAD)
                && replies.map(|reply| &reply.id).all(|id| record.has_delivered(id));
            record.cause.is_some() || (delivered && shown)
        })
    }

    pub fn story(&self, thread: &str) -> Option<&Story> {
        self.stories.iter().find(|story| story.thread == thread)
    }

    pub fn record(&self, thread: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.thread == thread)
    }

    /// Changes the record of a thread, and counts the change.
    pub fn change(&mut self, thread: &str, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.iter_mut().find(|record| record.thread == thread) {
            change(record);
            self.changes += 1;
        }
    }

    /// Removes the record of a thread, and counts the change.
    pub fn forget(&mut self, thread: &str) {
        self.records.retain(|record| record.thread != thread);
        self.resolved.remove(thread);
        self.changes += 1;
    }
}

/// ID in the list of delivered messages that means: the first message shows the end of the story.
pub const OVER: &str = "over";

/// Returns a short digest of a string, for status.
pub fn digest(text: &str) -> String {
    ids::digest(&[text])[..12].to_owned()
}

/// Returns the digest of a first message. It leaves out what is not news: the commit, because a later one did not cause
/// the change, and the request IDs of refusals.
pub fn digest_of(message: &Message) -> String {
    let facts: Vec<_> = message.facts.iter().filter(|(name, _)| *name != announce::COMMIT).collect();
    let Message { reason, tone, title, text, excerpt, next, .. } = message;
    digest(&steady::news(&format!("{reason} {tone:?} {title} {text} {facts:?} {excerpt:?} {next:?}")))
}

/// Returns the digest of the cause of a story that fails.
pub fn cause_of(story: &Story) -> Option<String> {
    let bad = matches!(story.head.tone, announce::Tone::Bad | announce::Tone::Person);
    story.cause.as_ref().filter(|_| bad).map(|cause| digest(cause))
}
