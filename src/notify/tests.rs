//! What is sent in which order, and that nothing is sent twice: the plan against destinations of each delivery mode.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::book::{Book, Item, Pending};
use super::outcome;
use super::plan::{self, Next, Sending, Way};
use super::sinks::DeliveryMode;
use crate::announce::{Message, Story, Subject, Tone, Weight};
use crate::api::{Key, Kind, ObjectKey};

/// One destination with its book, and the messages that were delivered to it.
struct TestDesk {
    book: Book,
    mode: DeliveryMode,
    now: Instant,
    /// How each message was sent (`post`, `reply`, `loud post`, `loud reply`, `edit` or `nothing`), and its title.
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

impl TestDesk {
    fn new(mode: DeliveryMode) -> Self {
        Self { book: Book::default(), mode, now: Instant::now(), sent: Vec::new() }
    }

    /// Gives the current stories of an object to the desk, with a persisted status.
    fn update(&mut self, name: &str, stories: Vec<Story>) {
        let item = self.book.items.entry(object(name)).or_default();
        item.update(&object(name), Pending { stories, conditions: Vec::new(), now: Timestamp::UNIX_EPOCH });
    }

    /// Sends everything that becomes due within a minute.
    fn work(&mut self) -> Vec<String> {
        self.sent.clear();
        let end = self.now + Duration::from_secs(60);
        loop {
            match plan::next(&mut self.book, self.mode, self.now) {
                Next::Send(sending) => self.arrives(&sending),
                Next::At(due) if due <= end => self.now = due,
                Next::At(_) | Next::Nothing => break,
            }
            assert!(self.sent.len() < 1000, "messages are sent without end: {:?}", &self.sent[..9]);
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
            Way::RecordOnly => "nothing",
        };
        self.sent.push(format!("{word} {}", sending.message.title));
        let id = (self.mode != DeliveryMode::Lines).then(|| format!("m{}", self.now.elapsed().as_nanos()));
        outcome::delivered(&mut self.book, sending, id, self.now);
    }

    /// Restarts the agent: only the records in status remain.
    fn restart(&mut self) {
        let items = std::mem::take(&mut self.book).items;
        for (object, item) in items {
            let records = item.write("here");
            self.book.items.insert(object, Item::read(&records, "here"));
        }
    }
}

const DETAIL: (&str, Tone, Weight) = ("detail", Tone::Working, Weight::Detail);
const FAILED: (&str, Tone, Weight) = ("failed", Tone::Bad, Weight::Loud);
const DONE: (&str, Tone, Weight) = ("done", Tone::Good, Weight::Milestone);
const AGAIN: (&str, Tone, Weight) = ("again", Tone::Good, Weight::Loud);

#[test]
fn a_story_is_one_message_edited_with_its_replies_below() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    desk.update("a", vec![story("build/1", Tone::Working, "building", &[])]);
    assert_eq!(desk.work(), ["post building"]);
    desk.update("a", vec![story("build/1", Tone::Bad, "failed", &[DETAIL, FAILED])]);
    assert_eq!(desk.work(), ["reply detail", "loud reply failed", "edit failed"]);
    desk.update("a", vec![story("build/1", Tone::Good, "built", &[DETAIL, FAILED, AGAIN])]);
    assert_eq!(desk.work(), ["loud reply again", "edit built"]);
    assert_eq!(desk.work(), [""; 0], "no message if nothing changed");
    desk.restart();
    desk.update("a", vec![story("build/1", Tone::Good, "built", &[DETAIL, FAILED, AGAIN])]);
    assert_eq!(desk.work(), [""; 0], "nothing twice");
}

#[test]
fn where_there_are_no_threads_only_what_matters_is_sent() {
    let mut desk = TestDesk::new(DeliveryMode::Lines);
    desk.update("a", vec![story("build/1", Tone::Working, "building", &[])]);
    assert_eq!(desk.work(), ["post building"]);
    desk.update("a", vec![story("build/1", Tone::Good, "built", &[DETAIL, DONE])]);
    assert_eq!(desk.work(), ["post done"]);
    let mut desk = TestDesk::new(DeliveryMode::Edits);
    desk.update("a", vec![story("build/1", Tone::Working, "building", &[])]);
    desk.work();
    desk.update("a", vec![story("build/1", Tone::Bad, "failed", &[DETAIL, FAILED])]);
    assert_eq!(desk.work(), ["loud post failed", "edit failed"]);
}

#[test]
fn what_was_over_before_anybody_listened_is_not_told_and_what_was_missed_is() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    desk.update("old", vec![story("build/0", Tone::Good, "built", &[DONE])]);
    assert_eq!(desk.work(), [""; 0]);
    // The build starts and ends while nothing can be delivered and the agent is restarted.
    desk.update("a", vec![story("build/1", Tone::Working, "building", &[])]);
    desk.restart();
    desk.update("a", vec![story("build/1", Tone::Good, "built", &[DETAIL, FAILED, AGAIN])]);
    assert_eq!(desk.work(), ["post built"], "the result, without what happened before");
}

#[test]
fn a_trouble_is_told_when_it_begins_and_when_it_is_over() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    desk.update("a", vec![story("trouble/InvalidSpec/1", Tone::Person, "needs attention", &[])]);
    assert_eq!(desk.work(), ["post needs attention"]);
    desk.restart();
    desk.update("a", Vec::new());
    assert_eq!(desk.work(), ["loud reply a: InvalidSpec is resolved", "edit a: InvalidSpec is resolved"]);
    assert!(desk.book.items[&object("a")].records.is_empty(), "the record is removed");
    desk.update("b", vec![story("trouble/InvalidSpec/1", Tone::Person, "needs attention", &[])]);
    desk.update("b", Vec::new());
    assert_eq!(desk.work(), [""; 0], "a problem that ended before it was reported is not reported");
}

#[test]
fn many_that_fail_for_one_cause_are_one_message() {
    for mode in [DeliveryMode::Threads, DeliveryMode::Edits, DeliveryMode::Lines] {
        let mut desk = TestDesk::new(mode);
        let names: Vec<String> = (0..200).map(|number| format!("b{number}")).collect();
        for name in &names {
            desk.update(name, vec![story("trouble/Denied/1", Tone::Person, "needs attention", &[])]);
        }
        assert_eq!(desk.work(), ["loud post 200 objects fail for the same cause: Denied"], "{mode:?}");
        desk.update("late", vec![story("trouble/Denied/9", Tone::Person, "needs attention", &[])]);
        let joined = desk.work();
        let expected = match mode {
            DeliveryMode::Lines => "nothing 1 object fails: Denied",
            _ => "edit 201 objects fail for the same cause: Denied",
        };
        assert_eq!(joined, [expected], "{mode:?}");
        desk.restart();
        for name in names.iter().map(String::as_str).chain(["late"]) {
            desk.update(name, Vec::new());
        }
        let over = desk.work();
        let word = if mode == DeliveryMode::Threads { "loud reply" } else { "loud post" };
        assert_eq!(over, [format!("{word} Denied is resolved for all 201 objects")], "{mode:?}");
        assert!(desk.book.items.values().all(|item| item.records.is_empty()));
    }
}

#[test]
fn who_joins_a_known_cause_after_a_restart_is_announced() {
    for mode in [DeliveryMode::Threads, DeliveryMode::Lines] {
        let mut desk = TestDesk::new(mode);
        let update = |desk: &mut TestDesk, names: &[&str]| {
            for name in names {
                desk.update(name, vec![story("trouble/Denied/1", Tone::Person, "needs attention", &[])]);
            }
        };
        update(&mut desk, &["a", "b", "c"]);
        desk.work();
        desk.restart();
        update(&mut desk, &["a", "b", "c"]);
        desk.work();
        update(&mut desk, &["d"]);
        let sent = desk.work();
        assert!(
            sent[0].starts_with("loud") && sent[0].ends_with("1 object fails: Denied"),
            "{mode:?} {sent:?}"
        );
    }
}

#[test]
fn builds_that_fail_for_one_cause_keep_their_threads_and_are_announced_once() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    for name in ["a", "b", "c"] {
        desk.update(name, vec![story("build/1", Tone::Working, "building", &[])]);
    }
    assert_eq!(desk.work().len(), 3);
    for name in ["a", "b", "c"] {
        desk.update(name, vec![story("build/1", Tone::Bad, "failed", &[FAILED])]);
    }
    let sent = desk.work();
    assert_eq!(sent.iter().filter(|sent| sent.starts_with("loud")).count(), 1, "{sent:?}");
    assert_eq!(sent.iter().filter(|sent| *sent == "edit failed").count(), 3, "{sent:?}");
    for name in ["a", "b", "c"] {
        desk.update(name, vec![story("build/1", Tone::Good, "built", &[FAILED, AGAIN])]);
    }
    let sent = desk.work();
    assert_eq!(sent.iter().filter(|sent| sent.starts_with("loud")).count(), 1, "{sent:?}");
}

#[test]
fn those_that_failed_one_by_one_are_one_message_from_the_third_on() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    let fails = |desk: &mut TestDesk, name: &str| {
        desk.update(name, vec![story("build/1", Tone::Working, "building", &[])]);
        desk.work();
        desk.update(name, vec![story("build/1", Tone::Bad, "failed", &[FAILED])]);
        desk.work().into_iter().filter(|sent| sent.starts_with("loud")).collect::<Vec<_>>()
    };
    assert_eq!(fails(&mut desk, "a"), ["loud reply failed"]);
    assert_eq!(fails(&mut desk, "b"), ["loud reply failed"]);
    assert_eq!(fails(&mut desk, "c"), ["loud post 3 objects fail for the same cause: Denied"]);
    assert_eq!(fails(&mut desk, "d"), [""; 0], "the message is edited");
    let names = ["a", "b", "c", "d"];
    names.iter().for_each(|name| {
        desk.update(name, vec![story("build/1", Tone::Good, "built", &[FAILED, AGAIN])]);
    });
    let sent = desk.work();
    let loud: Vec<_> = sent.iter().filter(|sent| sent.starts_with("loud")).collect();
    assert_eq!(loud, ["loud reply BuildFailed is resolved for all 4 objects"]);
}

#[test]
fn another_request_id_of_the_same_refusal_is_no_news() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    let refused = |request: &str| {
        let mut story = story("trouble/Away/1", Tone::Bad, "blocked", &[]);
        story.head.text = format!("ec2:DescribeImages: InternalFailure (RequestID: {request})");
        vec![story]
    };
    desk.update("a", refused("5f8a7c1e-0b57-4d6e-9a3f-2d1c0e9b8a76"));
    assert_eq!(desk.work(), ["post blocked"]);
    desk.update("a", refused("0c0ffee0-1111-4222-8333-444455556666"));
    assert_eq!(desk.work(), [""; 0]);
}

#[test]
fn two_are_not_many() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    for name in ["a", "b"] {
        desk.update(name, vec![story("trouble/Denied/1", Tone::Person, "needs attention", &[])]);
    }
    assert_eq!(desk.work(), ["post needs attention", "post needs attention"]);
}

#[test]
fn a_deleted_message_is_made_anew_only_where_something_goes_on() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    desk.update("a", vec![story("build/1", Tone::Working, "building", &[])]);
    desk.work();
    desk.update("a", vec![story("build/1", Tone::Bad, "failed", &[FAILED])]);
    let due = loop {
        match plan::next(&mut desk.book, desk.mode, desk.now) {
            Next::Send(sending) => break sending,
            Next::At(due) => desk.now = due,
            Next::Nothing => panic!("the failure is due"),
        }
    };
    outcome::gone(&mut desk.book, &due);
    assert_eq!(desk.work(), ["post failed"]);
}

#[test]
fn a_new_try_is_no_recovery() {
    for mode in [DeliveryMode::Threads, DeliveryMode::Edits, DeliveryMode::Lines] {
        let mut desk = TestDesk::new(mode);
        let names = ["a", "b", "c"];
        names
            .iter()
            .for_each(|name| desk.update(name, vec![story("build/1", Tone::Working, "building", &[])]));
        desk.work();
        names
            .iter()
            .for_each(|name| desk.update(name, vec![story("build/1", Tone::Bad, "failed", &[FAILED])]));
        desk.work();
        names
            .iter()
            .for_each(|name| desk.update(name, vec![story("build/1", Tone::Working, "again", &[FAILED])]));
        let sent = desk.work();
        assert!(sent.iter().all(|sent| !sent.contains("is resolved")), "{mode:?} {sent:?}");
        names.iter().for_each(|name| {
            desk.update(name, vec![story("build/1", Tone::Good, "built", &[FAILED, AGAIN])])
        });
        let sent = desk.work();
        let loud = sent.iter().filter(|sent| sent.starts_with("loud")).count();
        assert_eq!(loud, 1, "one recovery for all: {mode:?} {sent:?}");
    }
}

#[test]
fn giving_up_is_told_though_another_message_spoke_for_the_failure() {
    const GAVE_UP: (&str, Tone, Weight) = ("gave up", Tone::Person, Weight::Loud);
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    for name in ["a", "b", "c"] {
        desk.update(name, vec![story("build/1", Tone::Working, "building", &[])]);
    }
    desk.work();
    for name in ["a", "b", "c"] {
        desk.update(name, vec![story("build/1", Tone::Bad, "failed", &[FAILED])]);
    }
    desk.work();
    let mut gave_up = story("build/1", Tone::Person, "gave up", &[FAILED, GAVE_UP]);
    gave_up.cause = Some("RetryLimit: the same".to_owned());
    desk.update("a", vec![gave_up]);
    assert!(desk.work().contains(&"loud reply gave up".to_owned()));
}

#[test]
fn after_a_restart_nobody_is_told_of_an_end_before_all_are_there() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    for name in ["a", "b", "c"] {
        desk.update(name, vec![story("trouble/Denied/1", Tone::Person, "needs attention", &[])]);
    }
    desk.work();
    desk.restart();
    let items = std::mem::take(&mut desk.book.items);
    // The first object that is observed again has recovered.
    desk.book.items.insert(object("a"), items[&object("a")].clone());
    desk.update("a", Vec::new());
    assert!(matches!(plan::next(&mut desk.book, desk.mode, desk.now), Next::At(_)));
    for name in ["b", "c"] {
        desk.book.items.insert(object(name), items[&object(name)].clone());
        desk.update(name, vec![story("trouble/Denied/1", Tone::Person, "needs attention", &[])]);
    }
    assert_eq!(desk.work(), ["edit 2 objects fail for the same cause: Denied"]);
}

#[test]
fn what_may_go_away_by_itself_is_waited_out() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    let held = Story { hold: Duration::from_secs(600), ..story("trouble/Away/1", Tone::Bad, "blocked", &[]) };
    desk.update("a", vec![held.clone()]);
    assert_eq!(desk.work(), [""; 0]);
    desk.now += Duration::from_secs(500);
    desk.update("a", Vec::new());
    assert_eq!(desk.work(), [""; 0], "it ended before people were notified");
    desk.update("a", vec![held]);
    let returned = desk.now;
    while desk.work().is_empty() {
        desk.now += Duration::from_secs(60);
    }
    assert!(desk.now - returned >= Duration::from_secs(600), "counted from the return");
}

#[test]
fn a_thread_that_lost_its_first_message_still_tells_the_channel() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    desk.update("a", vec![story("build/1", Tone::Working, "building", &[])]);
    let Next::Send(sending) = plan::next(&mut desk.book, desk.mode, desk.now) else { panic!("it is due") };
    // It was refused for good.
    outcome::delivered(&mut desk.book, &sending, None, desk.now);
    desk.update("a", vec![story("build/1", Tone::Bad, "failed", &[DETAIL, FAILED])]);
    assert_eq!(desk.work(), ["loud post failed"]);
}

#[test]
fn what_is_over_and_was_shown_so_is_not_written_anew() {
    let mut desk = TestDesk::new(DeliveryMode::Threads);
    desk.update("a", vec![story("build/1", Tone::Working, "building", &[])]);
    desk.work();
    desk.update("a", vec![story("build/1", Tone::Good, "built", &[])]);
    assert_eq!(desk.work(), ["edit built"]);
    desk.restart();
    desk.update("a", vec![story("build/1", Tone::Good, "built, reworded", &[])]);
    assert_eq!(desk.work(), [""; 0]);
}
