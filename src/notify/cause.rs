//! Many objects that fail for one cause are one message. Pure.

use super::book::{Book, cause_of};
use crate::announce::{Message, Story, Tone, Weight, short_name};
use crate::api::ObjectKey;

/// From so many objects on, one message tells of all.
pub const MANY: usize = 3;
/// Names that are spelled out.
const NAMED: usize = 12;

/// Objects that share a cause: those that still fail for it, and all that were told of under it.
pub struct Sharing<'a> {
    pub failing: Vec<(&'a ObjectKey, &'a Story)>,
    pub all: Vec<(ObjectKey, String)>,
    /// The message that tells of it.
    pub message: Option<String>,
}

/// Who was told of under a cause.
pub fn sharing<'a>(book: &'a Book, cause: &str) -> Sharing<'a> {
    let mut sharing = Sharing { failing: Vec::new(), all: Vec::new(), message: None };
    for (object, item) in &book.items {
        for record in &item.records {
            let Some((_, message)) = record.cause.as_ref().filter(|(of, _)| of == cause) else { continue };
            sharing.message = sharing.message.or_else(|| message.clone());
            sharing.all.push((object.clone(), record.thread.clone()));
            let story = item.story(&record.thread);
            let fails = story.filter(|story| cause_of(story).as_deref() == Some(cause));
            sharing.failing.extend(fails.map(|story| (object, story)));
        }
    }
    sharing
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
pub fn head(failing: &[(&ObjectKey, &Story)]) -> Option<Message> {
    let (_, first) = failing.first()?;
    let head = &first.head;
    let names: Vec<String> = failing.iter().take(NAMED).map(|(object, _)| short_name(object)).collect();
    let more = failing.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
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
        title: format!("{} objects fail for one cause: {reason}", failing.len()),
        text: head.text.clone(),
        facts: vec![("Objects", format!("{}{more}", names.join(", ")))],
        excerpt: head.excerpt.clone(),
        next: head.next.clone(),
        links: Vec::new(),
    })
}

/// None of them fails any more.
pub fn over(all: &[(ObjectKey, String)]) -> Message {
    let count = all.iter().map(|(object, _)| object).collect::<std::collections::BTreeSet<_>>().len();
    Message {
        id: "cause-over".to_owned(),
        reason: "Recovered".into(),
        tone: Tone::Good,
        weight: Weight::Loud,
        title: format!("What {count} objects failed for is over"),
        text: String::new(),
        facts: Vec::new(),
        excerpt: Vec::new(),
        next: None,
        links: Vec::new(),
    }
}
