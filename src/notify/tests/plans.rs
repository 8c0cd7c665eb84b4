//! What is told in which order, and what is not told twice: the plan against destinations of each manner.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::book::{Book, Item};
use super::super::outcome;
use super::super::plan::{self, Next, Sending, Way};
use super::super::sink::Manner;
use crate::announce::{Message, Story, Tone, Weight, resolved};
use crate::api::{Key, Kind, ObjectKey};

/// One destination with its book, and what arrived there.
struct Place {
    book: Book,
    manner: Manner,
    now: Instant,
    /// `post`, `reply`, `loud` or `edit`, and the title.
    sent: Vec<String>,
}

fn object(name: &str) -> ObjectKey {
    ObjectKey { kind: Kind::PackerBuilder, key: Key { namespace: "default".into(), name: name.into() } }
}

fn message(id: &str, tone: Tone, weight: Weight, title: &str) -> Message {
    Message {
        id: id.into(),
        reason: "Test".into(),
        tone,
        weight,
        title: title.into(),
        text: String::new(),
        facts: Vec::new(),
        excerpt: Vec::new(),
        next: None,
        links: Vec::new(),
    }
}

fn story(thread: &str, tone: Tone, title: &str, replies: &[(&str, Tone, Weight)]) -> Story {
    let bad = matches!(tone, Tone::Bad | Tone::Person);
    Story {
        thread: thread.into(),
        head: message("head", tone, Weight::Milestone, title),
        replies: replies.iter().map(|(id, tone, weight)| message(id, *tone, *weight, id)).collect(),
        over: tone == Tone::Good,
        cause: bad.then(|| "Denied: the same".to_owned()),
    }
}

impl Place {
    fn new(manner: Manner) -> Self {
        Self { book: Book::default(), manner, now: Instant::now(), sent: Vec::new() }
    }

    /// An object stands like this now, and its status says so.
    fn stands(&mut self, name: &str, stories: Vec<Story>) {
        let item = self.book.items.entry(object(name)).or_default();
        item.update(stories, |thread| resolved(&object(name), thread, &[]), Timestamp::UNIX_EPOCH);
        item.armed = true;
    }

    /// Sends everything that becomes due within a minute.
    fn work(&mut self) -> Vec<String> {
        self.sent.clear();
        let end = self.now + Duration::from_secs(60);
        loop {
            match plan::next(&mut self.book, self.manner, self.now) {
                Next::Send(sending) => self.arrives(&sending),
                Next::At(due) if due <= end => self.now = due,
                Next::At(_) | Next::Nothing => break,
            }
            assert!(self.sent.len() < 1000, "it never ends: {:?}", &self.sent[..9]);
        }
        std::mem::take(&mut self.sent)
    }

    fn arrives(&mut self, sending: &Sending) {
        let word = match &sending.way {
            Way::Post { thread: None, loud: false } => "post",
            Way::Post { thread: None, loud: true } => "loud post",
            Way::Post { loud: false, .. } => "reply",
            Way::Post { loud: true, .. } => "loud reply",
            Way::Edit { .. } => "edit",
            Way::Unsaid => "nothing",
        };
        self.sent.push(format!("{word} {}", sending.message.title));
        let id = (self.manner != Manner::Lines).then(|| format!("m{}", self.now.elapsed().as_nanos()));
        outcome::told(&mut self.book, sending, id, self.now);
    }

    /// The agent starts anew: all it knows is what statuses remember.
    fn restart(&mut self) {
        let items = std::mem::take(&mut self.book).items;
        for (object, item) in items {
            let remembered = item.write("here");
            self.book.items.insert(object, Item::read(&remembered, "here"));
        }
    }
}

const DETAIL: (&str, Tone, Weight) = ("detail", Tone::Working, Weight::Detail);
const FAILED: (&str, Tone, Weight) = ("failed", Tone::Bad, Weight::Loud);
const DONE: (&str, Tone, Weight) = ("done", Tone::Good, Weight::Milestone);
const AGAIN: (&str, Tone, Weight) = ("again", Tone::Good, Weight::Loud);

#[test]
fn a_story_is_one_message_edited_with_its_replies_below() {
    let mut place = Place::new(Manner::Threads);
    place.stands("a", vec![story("build/1", Tone::Working, "building", &[])]);
    assert_eq!(place.work(), ["post building"]);
    place.stands("a", vec![story("build/1", Tone::Bad, "failed", &[DETAIL, FAILED])]);
    assert_eq!(place.work(), ["reply detail", "loud reply failed", "edit failed"]);
    place.stands("a", vec![story("build/1", Tone::Good, "built", &[DETAIL, FAILED, AGAIN])]);
    assert_eq!(place.work(), ["loud reply again", "edit built"]);
    assert_eq!(place.work(), [""; 0], "nothing when nothing changed");
    place.restart();
    place.stands("a", vec![story("build/1", Tone::Good, "built", &[DETAIL, FAILED, AGAIN])]);
    assert_eq!(place.work(), [""; 0], "nothing twice");
}

#[test]
fn where_there_are_no_threads_only_what_matters_is_sent() {
    let mut place = Place::new(Manner::Lines);
    place.stands("a", vec![story("build/1", Tone::Working, "building", &[])]);
    assert_eq!(place.work(), ["post building"]);
    place.stands("a", vec![story("build/1", Tone::Good, "built", &[DETAIL, DONE])]);
    assert_eq!(place.work(), ["post done"]);
    let mut place = Place::new(Manner::Edits);
    place.stands("a", vec![story("build/1", Tone::Working, "building", &[])]);
    place.work();
    place.stands("a", vec![story("build/1", Tone::Bad, "failed", &[DETAIL, FAILED])]);
    assert_eq!(place.work(), ["loud post failed", "edit failed"]);
}

#[test]
fn what_was_over_before_anybody_listened_is_not_told_and_what_was_missed_is() {
    let mut place = Place::new(Manner::Threads);
    place.stands("old", vec![story("build/0", Tone::Good, "built", &[DONE])]);
    assert_eq!(place.work(), [""; 0]);
    // It begins, and ends, while nothing passes and the agent is restarted.
    place.stands("a", vec![story("build/1", Tone::Working, "building", &[])]);
    place.restart();
    place.stands("a", vec![story("build/1", Tone::Good, "built", &[DETAIL, FAILED, AGAIN])]);
    assert_eq!(place.work(), ["post built"], "as it ended, without what led there");
}

#[test]
fn a_trouble_is_told_when_it_begins_and_when_it_is_over() {
    let mut place = Place::new(Manner::Threads);
    place.stands("a", vec![story("trouble/InvalidSpec/1", Tone::Person, "needs a person", &[])]);
    assert_eq!(place.work(), ["post needs a person"]);
    place.restart();
    place.stands("a", Vec::new());
    assert_eq!(place.work(), ["loud reply a: InvalidSpec is over", "edit a: InvalidSpec is over"]);
    assert!(place.book.items[&object("a")].records.is_empty(), "and forgotten");
    place.stands("b", vec![story("trouble/InvalidSpec/1", Tone::Person, "needs a person", &[])]);
    place.stands("b", Vec::new());
    assert_eq!(place.work(), [""; 0], "what came and went unseen is not told");
}

#[test]
fn many_that_fail_for_one_cause_are_one_message() {
    for manner in [Manner::Threads, Manner::Edits, Manner::Lines] {
        let mut place = Place::new(manner);
        let names: Vec<String> = (0..200).map(|number| format!("b{number}")).collect();
        for name in &names {
            place.stands(name, vec![story("trouble/Denied/1", Tone::Person, "needs a person", &[])]);
        }
        assert_eq!(place.work(), ["loud post 200 objects fail for one cause: Denied"], "{manner:?}");
        place.stands("late", vec![story("trouble/Denied/9", Tone::Person, "needs a person", &[])]);
        let joined = place.work();
        let word = if manner == Manner::Lines { "nothing" } else { "edit" };
        assert_eq!(joined, [format!("{word} 201 objects fail for one cause: Denied")], "{manner:?}");
        place.restart();
        for name in names.iter().map(String::as_str).chain(["late"]) {
            place.stands(name, Vec::new());
        }
        let over = place.work();
        let word = if manner == Manner::Threads { "loud reply" } else { "loud post" };
        assert_eq!(over, [format!("{word} What 201 objects failed for is over")], "{manner:?}");
        assert!(place.book.items.values().all(|item| item.records.is_empty()));
    }
}

#[test]
fn builds_that_fail_for_one_cause_keep_their_threads_and_are_announced_once() {
    let mut place = Place::new(Manner::Threads);
    for name in ["a", "b", "c"] {
        place.stands(name, vec![story("build/1", Tone::Working, "building", &[])]);
    }
    assert_eq!(place.work().len(), 3);
    for name in ["a", "b", "c"] {
        place.stands(name, vec![story("build/1", Tone::Bad, "failed", &[FAILED])]);
    }
    let told = place.work();
    assert_eq!(told.iter().filter(|told| told.starts_with("loud")).count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|told| *told == "edit failed").count(), 3, "{told:?}");
    for name in ["a", "b", "c"] {
        place.stands(name, vec![story("build/1", Tone::Good, "built", &[FAILED, AGAIN])]);
    }
    let told = place.work();
    assert_eq!(told.iter().filter(|told| told.starts_with("loud")).count(), 1, "{told:?}");
}

#[test]
fn two_are_not_many() {
    let mut place = Place::new(Manner::Threads);
    for name in ["a", "b"] {
        place.stands(name, vec![story("trouble/Denied/1", Tone::Person, "needs a person", &[])]);
    }
    assert_eq!(place.work(), ["post needs a person", "post needs a person"]);
}

#[test]
fn a_deleted_message_is_made_anew_only_where_something_goes_on() {
    let mut place = Place::new(Manner::Threads);
    place.stands("a", vec![story("build/1", Tone::Working, "building", &[])]);
    place.work();
    place.stands("a", vec![story("build/1", Tone::Bad, "failed", &[FAILED])]);
    let due = loop {
        match plan::next(&mut place.book, place.manner, place.now) {
            Next::Send(sending) => break sending,
            Next::At(due) => place.now = due,
            Next::Nothing => panic!("the failure is due"),
        }
    };
    outcome::gone(&mut place.book, &due);
    assert_eq!(place.work(), ["post failed"]);
}
