//! What is told in which order, and what is not told twice: the plan against destinations of each manner.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::super::book::{Book, Item, Pending};
use super::super::outcome;
use super::super::plan::{self, Next, Sending, Way};
use super::super::sink::Manner;
use crate::announce::{Message, Story, Subject, Tone, Weight};
use crate::api::{Key, Kind, ObjectKey};

/// One destination with its book, and what arrived there.
struct Place {
    book: Book,
    manner: Manner,
    now: Instant,
    /// `post`, `reply`, `loud` or `edit`, and the title.
    sent: Vec<String>,
}

fn object(name: &str) -> Subject {
    let key = Key { namespace: "default".into(), name: name.into() };
    Subject::Object(ObjectKey { kind: Kind::PackerBuilder, key })
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
        hold: Duration::ZERO,
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
        item.update(&object(name), Pending { stories, conditions: Vec::new(), now: Timestamp::UNIX_EPOCH });
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
        let expected = match manner {
            Manner::Lines => "nothing 1 object fails: Denied",
            _ => "edit 201 objects fail for one cause: Denied",
        };
        assert_eq!(joined, [expected], "{manner:?}");
        place.restart();
        for name in names.iter().map(String::as_str).chain(["late"]) {
            place.stands(name, Vec::new());
        }
        let over = place.work();
        let word = if manner == Manner::Threads { "loud reply" } else { "loud post" };
        assert_eq!(over, [format!("{word} Denied is over for all 201 objects")], "{manner:?}");
        assert!(place.book.items.values().all(|item| item.records.is_empty()));
    }
}

#[test]
fn who_joins_a_known_cause_after_a_restart_is_announced() {
    for manner in [Manner::Threads, Manner::Lines] {
        let mut place = Place::new(manner);
        let stands = |place: &mut Place, names: &[&str]| {
            for name in names {
                place.stands(name, vec![story("trouble/Denied/1", Tone::Person, "needs a person", &[])]);
            }
        };
        stands(&mut place, &["a", "b", "c"]);
        place.work();
        place.restart();
        stands(&mut place, &["a", "b", "c"]);
        place.work();
        stands(&mut place, &["d"]);
        let told = place.work();
        assert!(
            told[0].starts_with("loud") && told[0].ends_with("1 object fails: Denied"),
            "{manner:?} {told:?}"
        );
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
fn those_that_failed_one_by_one_are_one_message_from_the_third_on() {
    let mut place = Place::new(Manner::Threads);
    let fails = |place: &mut Place, name: &str| {
        place.stands(name, vec![story("build/1", Tone::Working, "building", &[])]);
        place.work();
        place.stands(name, vec![story("build/1", Tone::Bad, "failed", &[FAILED])]);
        place.work().into_iter().filter(|told| told.starts_with("loud")).collect::<Vec<_>>()
    };
    assert_eq!(fails(&mut place, "a"), ["loud reply failed"]);
    assert_eq!(fails(&mut place, "b"), ["loud reply failed"]);
    assert_eq!(fails(&mut place, "c"), ["loud post 3 objects fail for one cause: Denied"]);
    assert_eq!(fails(&mut place, "d"), [""; 0], "it is edited in");
    let names = ["a", "b", "c", "d"];
    names.iter().for_each(|name| {
        place.stands(name, vec![story("build/1", Tone::Good, "built", &[FAILED, AGAIN])]);
    });
    let told = place.work();
    let loud: Vec<_> = told.iter().filter(|told| told.starts_with("loud")).collect();
    assert_eq!(loud, ["loud reply BuildFailed is over for all 4 objects"]);
}

#[test]
fn another_request_id_of_the_same_refusal_is_no_news() {
    let mut place = Place::new(Manner::Threads);
    let refused = |request: &str| {
        let mut story = story("trouble/Away/1", Tone::Bad, "held up", &[]);
        story.head.text = format!("ec2:DescribeImages: InternalFailure (RequestID: {request})");
        vec![story]
    };
    place.stands("a", refused("5f8a7c1e-0b57-4d6e-9a3f-2d1c0e9b8a76"));
    assert_eq!(place.work(), ["post held up"]);
    place.stands("a", refused("0c0ffee0-1111-4222-8333-444455556666"));
    assert_eq!(place.work(), [""; 0]);
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

#[test]
fn a_new_try_is_no_recovery() {
    for manner in [Manner::Threads, Manner::Edits, Manner::Lines] {
        let mut place = Place::new(manner);
        let names = ["a", "b", "c"];
        names
            .iter()
            .for_each(|name| place.stands(name, vec![story("build/1", Tone::Working, "building", &[])]));
        place.work();
        names
            .iter()
            .for_each(|name| place.stands(name, vec![story("build/1", Tone::Bad, "failed", &[FAILED])]));
        place.work();
        names
            .iter()
            .for_each(|name| place.stands(name, vec![story("build/1", Tone::Working, "again", &[FAILED])]));
        let told = place.work();
        assert!(told.iter().all(|told| !told.contains("is over")), "{manner:?} {told:?}");
        names.iter().for_each(|name| {
            place.stands(name, vec![story("build/1", Tone::Good, "built", &[FAILED, AGAIN])])
        });
        let told = place.work();
        let loud = told.iter().filter(|told| told.starts_with("loud")).count();
        assert_eq!(loud, 1, "one recovery for all: {manner:?} {told:?}");
    }
}

#[test]
fn giving_up_is_told_though_another_message_spoke_for_the_failure() {
    const GAVE_UP: (&str, Tone, Weight) = ("gave up", Tone::Person, Weight::Loud);
    let mut place = Place::new(Manner::Threads);
    for name in ["a", "b", "c"] {
        place.stands(name, vec![story("build/1", Tone::Working, "building", &[])]);
    }
    place.work();
    for name in ["a", "b", "c"] {
        place.stands(name, vec![story("build/1", Tone::Bad, "failed", &[FAILED])]);
    }
    place.work();
    let mut gave_up = story("build/1", Tone::Person, "gave up", &[FAILED, GAVE_UP]);
    gave_up.cause = Some("RetryLimit: the same".to_owned());
    place.stands("a", vec![gave_up]);
    assert!(place.work().contains(&"loud reply gave up".to_owned()));
}

#[test]
fn after_a_restart_nobody_is_told_of_an_end_before_all_are_there() {
    let mut place = Place::new(Manner::Threads);
    for name in ["a", "b", "c"] {
        place.stands(name, vec![story("trouble/Denied/1", Tone::Person, "needs a person", &[])]);
    }
    place.work();
    place.restart();
    let items = std::mem::take(&mut place.book.items);
    // The first one that is back has recovered.
    place.book.items.insert(object("a"), items[&object("a")].clone());
    place.stands("a", Vec::new());
    assert!(matches!(plan::next(&mut place.book, place.manner, place.now), Next::At(_)));
    for name in ["b", "c"] {
        place.book.items.insert(object(name), items[&object(name)].clone());
        place.stands(name, vec![story("trouble/Denied/1", Tone::Person, "needs a person", &[])]);
    }
    assert_eq!(place.work(), ["edit 2 objects fail for one cause: Denied"]);
}

#[test]
fn what_may_go_away_by_itself_is_waited_out() {
    let mut place = Place::new(Manner::Threads);
    let held = Story { hold: Duration::from_secs(600), ..story("trouble/Away/1", Tone::Bad, "held up", &[]) };
    place.stands("a", vec![held.clone()]);
    assert_eq!(place.work(), [""; 0]);
    place.stands("a", Vec::new());
    place.stands("a", vec![held]);
    let begun = place.now;
    while place.work().is_empty() {
        place.now += Duration::from_secs(60);
    }
    assert!(place.now - begun >= Duration::from_secs(600), "since it came again");
}

#[test]
fn a_thread_that_lost_its_first_message_still_tells_the_channel() {
    let mut place = Place::new(Manner::Threads);
    place.stands("a", vec![story("build/1", Tone::Working, "building", &[])]);
    let Next::Send(sending) = plan::next(&mut place.book, place.manner, place.now) else {
        panic!("it is due")
    };
    // It was refused for good.
    outcome::told(&mut place.book, &sending, None, place.now);
    place.stands("a", vec![story("build/1", Tone::Bad, "failed", &[DETAIL, FAILED])]);
    assert_eq!(place.work(), ["loud post failed"]);
}

#[test]
fn what_is_over_and_was_shown_so_is_not_written_anew() {
    let mut place = Place::new(Manner::Threads);
    place.stands("a", vec![story("build/1", Tone::Working, "building", &[])]);
    place.work();
    place.stands("a", vec![story("build/1", Tone::Good, "built", &[])]);
    assert_eq!(place.work(), ["edit built"]);
    place.restart();
    place.stands("a", vec![story("build/1", Tone::Good, "built, in other words", &[])]);
    assert_eq!(place.work(), [""; 0]);
}
