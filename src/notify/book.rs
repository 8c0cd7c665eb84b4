//! What one destination is to know and was told already: stories and records, object by object. Pure.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::plan::Task;
use super::sink::Manner;
use crate::announce::{self, Message, Story, Subject, TROUBLE};
use crate::api::conditions::Condition;
use crate::api::notifier::Notification;
use crate::api::{ids, steady};

/// The first message of a thread, as a record names it among what was told.
pub const HEAD: &str = "head";

/// How long an ended story waits for a destination that takes nothing.
const STALE: SignedDuration = SignedDuration::from_hours(24);

/// Everything one destination has to do with.
#[derive(Debug, Default)]
pub struct Book {
    pub items: BTreeMap<Subject, Item>,
    /// Since when something is due, by object, thread and message.
    pub due: BTreeMap<(Subject, String, String), Instant>,
    /// The messages of common causes, as far as they were written since the start.
    pub causes: BTreeMap<String, CauseMessage>,
    /// Since when it is worked by; after a start, objects come in one by one.
    pub since: Option<Instant>,
    /// When first messages were last written.
    pub edited: BTreeMap<(Subject, String), Instant>,
}

/// The message about a common cause.
#[derive(Clone, Debug)]
pub struct CauseMessage {
    /// When people were told of it; that it was edited since nobody noticed.
    pub announced: Option<Instant>,
    pub written: Instant,
    /// As what.
    pub shown: String,
}

/// One object.
#[derive(Clone, Debug, Default)]
pub struct Item {
    pub stories: Vec<Story>,
    pub records: Vec<Record>,
    /// What is said of a trouble that is over, by its thread.
    pub resolved: BTreeMap<String, Message>,
    /// How it stands, once its status says so.
    pub pending: Option<Pending>,
    /// Counts changes of the records, so that it is known which were written down.
    pub changes: u64,
    pub marked: u64,
    pub written: u64,
}

/// An object as it will stand when its status is written.
#[derive(Clone, Debug)]
pub struct Pending {
    pub stories: Vec<Story>,
    pub conditions: Vec<Condition>,
    pub now: Timestamp,
}

/// What was told of one story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub thread: String,
    pub message: Option<String>,
    pub shown: Option<String>,
    pub told: Vec<String>,
    /// The cause it shares with others, and the message that tells of it.
    pub cause: Option<(String, Option<String>)>,
    pub since: Option<Timestamp>,
}

impl Record {
    pub fn has_told(&self, id: &str) -> bool {
        self.told.iter().any(|told| told == id)
    }

    pub fn tell(&mut self, id: &str) {
        if !self.has_told(id) {
            self.told.push(id.to_owned());
        }
    }

    /// The head was written.
    pub fn show(&mut self, shown: String, over: bool) {
        self.shown = Some(shown);
        if over {
            self.tell(OVER);
        }
    }

    /// What could not be told for so long, and is over, is of no use any more.
    fn give_up(&mut self, story: Option<&Story>, now: Timestamp) {
        let old = self.since.is_some_and(|since| now.duration_since(since) > STALE);
        if let Some(story) = story.filter(|story| old && story.over && !self.has_told(HEAD)) {
            self.tell(HEAD);
            story.replies.iter().for_each(|reply| self.tell(&reply.id));
        }
    }

    /// A story that ends with the words its head shows already is shown as it ended.
    fn close(&mut self, story: Option<&Story>) {
        let shown = |story: &Story| self.shown.as_deref() == Some(&digest_of(&story.head));
        if story.is_some_and(|story| story.over && self.has_told(HEAD) && shown(story)) {
            self.tell(OVER);
        }
    }

    /// Does the head say how the story stands? What is over is not written anew, whatever words change.
    pub fn shows(&self, story: &Story) -> bool {
        let over = story.over && self.has_told(OVER);
        self.message.is_none() || over || self.shown.as_deref() == Some(&digest_of(&story.head))
    }

    fn read(wire: &Notification) -> Self {
        Self {
            thread: wire.thread.clone(),
            message: wire.message_id.clone(),
            shown: wire.shown.clone(),
            told: wire.told.clone().unwrap_or_default(),
            cause: wire.cause.clone().map(|cause| (cause, wire.cause_message_id.clone())),
            since: wire.since,
        }
    }

    fn write(&self, to: &str) -> Notification {
        Notification {
            to: to.to_owned(),
            thread: self.thread.clone(),
            message_id: self.message.clone(),
            shown: self.shown.clone(),
            told: Some(self.told.clone()).filter(|told| !told.is_empty()),
            cause: self.cause.as_ref().map(|(cause, _)| cause.clone()),
            cause_message_id: self.cause.as_ref().and_then(|(_, message)| message.clone()),
            since: self.since,
        }
    }
}

impl Book {
    /// Puts a thread's next message behind those of others.
    pub fn later(&mut self, task: &Task, now: Instant) {
        if let Some((about, thread)) = task.thread() {
            let due = self.due.iter_mut().filter(|((of, at, _), _)| *of == about && *at == thread);
            due.for_each(|(_, due)| *due = now);
        }
    }
}

impl Item {
    /// Takes up what a status remembers.
    pub fn read(records: &[Notification], to: &str) -> Self {
        let records = records.iter().filter(|record| record.to == to).map(Record::read).collect();
        Self { records, ..Self::default() }
    }

    /// What a status is to remember.
    pub fn write(&self, to: &str) -> Vec<Notification> {
        self.records.iter().map(|record| record.write(to)).collect()
    }

    /// Are the records in the object's status?
    pub fn is_written(&self) -> bool {
        self.written == self.changes
    }

    /// Takes the stories as they stand now. A story that was over before anybody was to hear of it is
    /// never told; one that is gone is forgotten, but for a trouble, whose end is told.
    pub fn update(&mut self, about: &Subject, pending: Pending) {
        let Pending { stories, conditions, now } = pending;
        for story in &stories {
            let known = self.records.iter().any(|record| record.thread == story.thread);
            if !known && !story.over {
                let since = Some(now);
                self.records.push(Record { thread: story.thread.clone(), since, ..Record::default() });
            }
        }
        let is_there = |thread: &str| stories.iter().any(|story| story.thread == thread);
        self.records.retain(|record| {
            let ends =
                record.thread.starts_with(TROUBLE) && (record.has_told(HEAD) || record.cause.is_some());
            is_there(&record.thread) || ends
        });
        for record in &mut self.records {
            let story = stories.iter().find(|story| story.thread == record.thread);
            record.give_up(story, now);
            record.close(story);
        }
        let over = self.records.iter().filter(|record| !is_there(&record.thread));
        let end = |record: &Record| announce::resolved(about, &record.thread, &conditions);
        self.resolved = over.map(|record| (record.thread.clone(), end(record))).collect();
        self.stories = stories;
    }

    /// Was everything told that is to be told in this manner?
    pub fn is_told(&self, manner: Manner) -> bool {
        self.records.iter().all(|record| {
            let Some(story) = self.story(&record.thread) else { return false };
            let replies = story.replies.iter().filter(|reply| reply.weight >= manner.least());
            let shown = manner == Manner::Lines || record.shows(story);
            let told = record.has_told(HEAD) && replies.map(|reply| &reply.id).all(|id| record.has_told(id));
            record.cause.is_some() || (told && shown)
        })
    }

    pub fn story(&self, thread: &str) -> Option<&Story> {
        self.stories.iter().find(|story| story.thread == thread)
    }

    pub fn record(&self, thread: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.thread == thread)
    }

    /// Changes what is remembered of a thread.
    pub fn change(&mut self, thread: &str, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.iter_mut().find(|record| record.thread == thread) {
            change(record);
            self.changes += 1;
        }
    }

    /// Forgets a thread.
    pub fn forget(&mut self, thread: &str) {
        self.records.retain(|record| record.thread != thread);
        self.resolved.remove(thread);
        self.changes += 1;
    }
}

/// Among what was told: the head was written as the story ended.
pub const OVER: &str = "over";

/// Names a text: the head as it was shown, or a cause.
pub fn digest(text: &str) -> String {
    ids::digest(&[text])[..12].to_owned()
}

/// Names a head as it stands. A later commit is not whose change it was, so it is no news; neither is a new
/// request id of the same refusal.
pub fn digest_of(message: &Message) -> String {
    let facts: Vec<_> = message.facts.iter().filter(|(name, _)| *name != "Commit").collect();
    let Message { reason, tone, title, text, excerpt, next, .. } = message;
    digest(&steady::news(&format!("{reason} {tone:?} {title} {text} {facts:?} {excerpt:?} {next:?}")))
}

/// The name of a story's cause, where it fails.
pub fn cause_of(story: &Story) -> Option<String> {
    let bad = matches!(story.head.tone, announce::Tone::Bad | announce::Tone::Person);
    story.cause.as_ref().filter(|_| bad).map(|cause| digest(cause))
}
