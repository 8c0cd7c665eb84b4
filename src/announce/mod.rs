//! The text of notifications: pure. Events, logs and every sink take their wording from here.
//!
//! ```text
//! object with its status ─→ stories: one a build, one a rollout, one a trouble
//!                             ├─ head: the status now (edited in place where a sink can)
//!                             └─ replies: what happened, each sent once
//! ```
//! A story is level state, made from the status alone: after a restart, or an hour without Slack, the
//! same story is continued where it was left.

mod around;
pub mod builder;
pub mod digest;
mod reason;
pub mod refresher;
pub mod repository;
mod subject;
mod trouble;

use std::borrow::Cow;
use std::time::Duration;

pub use around::{Around, Change, Origin, commit_url};
pub use subject::{Subject, listed, short_name};
use subject::{argument, cause};
pub use trouble::{PREFIX as TROUBLE, resolved};

/// The messages of one build, one rollout or one trouble of an object, with its status now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Stable as long as it is the same story: `build/<id>`, `rollout/<id>`, `trouble/<reason>`.
    pub thread: String,
    pub head: Message,
    /// In the order they happened, each with an id of its own.
    pub replies: Vec<Message>,
    /// Nothing more will happen in it.
    pub over: bool,
    /// It may end without action: it is not reported before it has lasted this long.
    pub hold: Duration,
    /// What it fails for, without what is the object's own: equal causes are one announcement.
    pub cause: Option<String>,
}

/// One message, without any sink's markup. Texts may hold what templates and logs printed: every sink
/// escapes them for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique and stable within its story: `started`, `failed/2`, `group/workers/done`.
    pub id: String,
    /// One CamelCase word for machines, as Events carry it.
    pub reason: Cow<'static, str>,
    pub tone: Tone,
    pub weight: Weight,
    /// What happened, and to what: one line.
    pub title: String,
    /// A sentence or two more; may be empty.
    pub text: String,
    /// Short facts with their names: `Image`, `ami-…`.
    pub facts: Vec<(&'static str, String)>,
    /// Lines of a log, as they were printed.
    pub excerpt: Vec<String>,
    /// What to do next.
    pub next: Option<String>,
    pub links: Vec<Link>,
}

/// How a message sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something is under way.
    Working,
    Good,
    /// Something failed and is retried.
    Bad,
    /// A person must act.
    Person,
}

/// Who is notified of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Those who follow the thread.
    Detail,
    /// Where there are no threads too: started, done.
    Milestone,
    /// The whole channel, once: failed, recovered, needs attention.
    Loud,
}

/// An address that helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub label: String,
    pub url: String,
}

impl Message {
    /// The message in one line, for Events, logs and subjects.
    pub fn line(&self) -> String {
        if self.text.is_empty() { self.title.clone() } else { format!("{}: {}", self.title, self.text) }
    }
}

/// What happened between two looks: messages that were not there before, in order.
pub fn news<'a>(before: &[Story], after: &'a [Story]) -> Vec<&'a Message> {
    let mut news = Vec::new();
    for story in after.iter().filter(|story| story.hold.is_zero()) {
        let known = before.iter().find(|old| old.thread == story.thread);
        // What a story says when it is first seen; how it ended is in its replies.
        let begins = known.is_none() && (story.head.tone == Tone::Working || story.replies.is_empty());
        news.extend(begins.then_some(&story.head));
        let said = |reply: &&Message| {
            known.is_some_and(|old| old.replies.iter().any(|before| before.id == reply.id))
        };
        news.extend(story.replies.iter().filter(|reply| !said(reply)));
    }
    news
}

/// Puts the address of a runbook beside bad news.
pub fn with_runbook(stories: &mut [Story], runbook: Option<&str>) {
    let Some(url) = runbook.filter(|url| url.starts_with("https://") || url.starts_with("http://")) else {
        return;
    };
    let messages =
        stories.iter_mut().flat_map(|story| std::iter::once(&mut story.head).chain(&mut story.replies));
    for message in messages.filter(|message| matches!(message.tone, Tone::Bad | Tone::Person)) {
        message.links.push(Link { label: "Runbook".to_owned(), url: url.to_owned() });
    }
}

/// A message as stories make them; what a kind of message adds is set afterwards.
fn message(
    id: impl Into<String>,
    reason: &'static str,
    tone: Tone,
    weight: Weight,
    title: String,
) -> Message {
    Message {
        id: id.into(),
        reason: reason.into(),
        tone,
        weight,
        title,
        text: String::new(),
        facts: Vec::new(),
        excerpt: Vec::new(),
        next: None,
        links: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
