//! Many objects that fail for one cause are one message. Pure.

use std::collections::BTreeSet;

use super::book::{Book, HEAD, cause_of};
use crate::announce::{Message, Story, Subject, TROUBLE, Tone, Weight, listed};

/// From so many objects on, one message tells of all.
pub const MANY: usize = 3;

/// Objects that share a cause: those that still fail for it, and all that were told of under it.
pub struct Sharing<'a> {
    pub failing: Vec<(&'a Subject, &'a Story)>,
    /// Is somebody of them at it again, without having succeeded?
    pub trying: bool,
    pub all: Vec<(Subject, String)>,
    /// The message that tells of it.
    pub message: Option<String>,
}

impl Sharing<'_> {
    /// Has everybody got over it? A new try is no success yet.
    pub fn is_over(&self) -> bool {
        self.failing.is_empty() && !self.trying
    }
}

/// Who was told of under a cause.
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

/// Bad news of this cause that was told by itself, and still is how those objects stand.
pub fn told_alone(book: &Book, cause: &str) -> Vec<(Subject, String)> {
    let mut told = Vec::new();
    for (about, item) in &book.items {
        let fails = item.records.iter().filter(|record| {
            let story = item.story(&record.thread).filter(|story| cause_of(story).as_deref() == Some(cause));
            record.cause.is_none() && record.has_told(HEAD) && story.is_some_and(|story| !story.over)
        });
        told.extend(fails.map(|record| (about.clone(), record.thread.clone())));
    }
    told
}

/// All causes something was told under.
pub fn causes(book: &Book) -> Vec<String> {
    let records = book.items.values().flat_map(|item| &item.records);
    let mut causes: Vec<String> =
        records.filter_map(|record| Some(record.cause.as_ref()?.0.clone())).collect();
    causes.sort();
    causes.dedup();
    causes
}

/// The one message about all of them.
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
            count => format!("{count} objects fail for one cause: {reason}"),
        },
        text: head.text.clone(),
        facts: vec![("Objects", named(failing.iter().map(|(about, _)| *about)))],
        excerpt: head.excerpt.clone(),
        next: head.next.clone(),
        links: Vec::new(),
    })
}

/// None of them fails any more.
pub fn over(all: &[(Subject, String)]) -> Message {
    let objects: BTreeSet<&Subject> = all.iter().map(|(about, _)| about).collect();
    let reason = match all.first().map(|(_, thread)| thread.as_str()) {
        Some(thread) if thread.starts_with(TROUBLE) => {
            thread[TROUBLE.len()..].split('/').next().unwrap_or_default()
        }
        Some(thread) if thread.starts_with("rollout/") => "UpdateFailed",
        _ => "BuildFailed",
    };
    Message {
        id: "cause-over".to_owned(),
        reason: "Recovered".into(),
        tone: Tone::Good,
        weight: Weight::Loud,
        title: match objects.len() {
            1 => format!("{reason} is over"),
            count => format!("{reason} is over for all {count} objects"),
        },
        text: String::new(),
        facts: vec![("Objects", named(objects.into_iter()))],
        excerpt: Vec::new(),
        next: None,
        links: Vec::new(),
    }
}

/// Names of those it tells of, the first of many.
fn named<'a>(objects: impl Iterator<Item = &'a Subject>) -> String {
    listed(&objects.map(Subject::short_name).collect::<Vec<_>>())
}
