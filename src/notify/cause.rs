//! Causes that several objects share, and the one message that covers all of them. Pure.

use std::collections::BTreeSet;

use super::book::{Book, HEAD, cause_of};
use crate::announce::{Message, Story, Subject, TROUBLE, Tone, Weight, listed};
use crate::api::reasons;

/// Number of objects from which one message covers all of them: two messages are still easy to read.
pub const MANY: usize = 3;

/// The objects that share a cause.
pub struct Sharing<'a> {
    /// The objects that still fail for it.
    pub failing: Vec<(&'a Subject, &'a Story)>,
    /// One of the objects is retrying, without success so far.
    pub trying: bool,
    /// All objects and threads that the message covers.
    pub all: Vec<(Subject, String)>,
    /// ID of the message.
    pub message: Option<String>,
}

impl Sharing<'_> {
    /// Returns whether all objects have recovered. A retry in progress is not a recovery.
    pub fn is_over(&self) -> bool {
        self.failing.is_empty() && !self.trying
    }
}

/// Returns the objects that share a cause.
pub fn sharing<'a>(book: &'a Book, cause: &str) -> Sharing<'a> {
    let mut sharing = Sharing { failing: Vec::new(), trying: false, all: Vec::new(), message: None };
    for (about, item) in &book.items {
        for record in &item.records {
            let Some((_, message)) = record.cause.as_ref().filter(|(of, _)| of == cause) else { continue };
            sharing.message = sharing.message.or_else(|| message.clone());
            sharing.all.push((about.clone(), record.thread.clone()));
            let story = item.story(&record.thread);
            sharing.trying |= story.is_some_and(|story| !story.over && story.head.tone == Tone::Working);
            let fails = story.filter(|story| cause_of(story).as_deref() == Some(cause));
            sharing.failing.extend(fails.map(|story| (about, story)));
        }
    }
    sharing
}

/// Returns the objects that fail for this cause and were announced by themselves.
pub fn announced_alone(book: &Book, cause: &str) -> Vec<(Subject, String)> {
    let mut announced = Vec::new();
    for (about, item) in &book.items {
        let fails = item.records.iter().filter(|record| {
            let story = item.story(&record.thread).filter(|story| cause_of(story).as_deref() == Some(cause));
            record.cause.is_none() && record.has_delivered(HEAD) && story.is_some_and(|story| !story.over)
        });
        announced.extend(fails.map(|record| (about.clone(), record.thread.clone())));
    }
    announced
}

/// Returns all causes that a message covers.
pub fn causes(book: &Book) -> Vec<String> {
    let records = book.items.values().flat_map(|item| &item.records);
    let mut causes: Vec<String> =
        records.filter_map(|record| Some(record.cause.as_ref()?.0.clone())).collect();
    causes.sort();
    causes.dedup();
    causes
}

/// Returns the message about all objects that fail.
pub fn head(failing: &[(&Subject, &Story)]) -> Option<Message> {
    let (_, first) = failing.first()?;
    let head = &first.head;
    let reason = first.cause.as_deref().and_then(|cause| cause.split(':').next()).unwrap_or("Failing");
    let tone = if failing.iter().any(|(_, story)| story.head.tone == Tone::Person) {
        Tone::Person
    } else {
        Tone::Bad
    };
    Some(Message {
        id: "cause".to_owned(),
        reason: reason.to_owned().into(),
        tone,
        weight: Weight::Loud,
        title: match failing.len() {
            1 => format!("1 object fails: {reason}"),
            count => format!("{count} objects fail for the same cause: {reason}"),
        },
        text: head.text.clone(),
        facts: vec![("Objects", named(failing.iter().map(|(about, _)| *about)))],
        excerpt: head.excerpt.clone(),
        next: head.next.clone(),
        links: Vec::new(),
    })
}

/// Returns the message that none of the objects fails any more.
pub fn over(all: &[(Subject, String)]) -> Message {
    let objects: BTreeSet<&Subject> = all.iter().map(|(about, _)| about).collect();
    let reason = match all.first().map(|(_, thread)| thread.as_str()) {
        Some(thread) if thread.starts_with(TROUBLE) => {
            thread[TROUBLE.len()..].split('/').next().unwrap_or_default()
        }
        Some(thread) if thread.starts_with("rollout/") => reasons::UPDATE_FAILED,
        _ => reasons::BUILD_FAILED,
    };
    Message {
        id: "cause-over".to_owned(),
        reason: reasons::RECOVERED.into(),
        tone: Tone::Good,
        weight: Weight::Loud,
        title: match objects.len() {
            1 => format!("{reason} is resolved"),
            count => format!("{reason} is resolved for all {count} objects"),
        },
        text: String::new(),
        facts: vec![("Objects", named(objects.into_iter()))],
        excerpt: Vec::new(),
        next: None,
        links: Vec::new(),
    }
}

/// Returns the names of the objects. Of a long list, it returns the first names and the number of the others.
fn named<'a>(objects: impl Iterator<Item = &'a Subject>) -> String {
    listed(&objects.map(Subject::short_name).collect::<Vec<_>>())
}
