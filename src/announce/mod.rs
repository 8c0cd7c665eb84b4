//! The text of notifications. Events, logs and every sink use this text. Pure.
//!
//! ```text
//! object with its status ─→ stories: one per build, per rollout and per problem
//!                             ├─ head: the current state (edited in place if the sink can)
//!                             └─ replies: what happened, each sent once
//! ```
//! A story is computed from status alone. After a restart, or after an outage of Slack, the same story therefore
//! continues where it stopped.

pub mod builder;
mod context;
pub mod digest;
mod reason;
pub mod refresher;
pub mod repository;
mod subject;
mod trouble;

use std::borrow::Cow;
use std::time::Duration;

pub use context::{Change, Context, Origin, took};
pub use subject::{Subject, listed, short_name};
use subject::{argument, cause};
pub use trouble::{PREFIX as TROUBLE, resolved};

/// Name of the fact that contains a commit.
pub const COMMIT: &str = "Commit";

/// The messages about one build, rollout or problem of an object, as its status is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Name of the thread, the same for the whole story: `build/<id>`, `rollout/<id>` or `trouble/<reason>/<time>`.
    pub thread: String,
    /// The first message of the thread: the current state.
    pub head: Message,
    /// What happened so far, in order. Each reply has an ID of its own.
    pub replies: Vec<Message>,
    /// Nothing more will happen in this story.
    pub over: bool,
    /// How long a problem must last before it is reported, because it may end without action. Else zero.
    pub hold: Duration,
    /// Why it fails, without what is specific to the object. Stories with the same cause are announced together.
    pub cause: Option<String>,
}

/// One message, without markup. Its text can contain what templates and logs printed, so every sink must escape it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique and stable within its story: `started`, `failed/2`, `group/workers/done`.
    pub id: String,
    /// One CamelCase word for machines, also used in Events.
    pub reason: Cow<'static, str>,
    pub tone: Tone,
    pub weight: Weight,
    /// One line: which object, and what happened to it.
    pub title: String,
    /// One or two sentences of detail. Can be empty.
    pub text: String,
    /// Short facts as name and value, such as `Region` and `eu-central-1`.
    pub facts: Vec<(&'static str, String)>,
    /// Lines of a log, as they were printed.
    pub excerpt: Vec<String>,
    /// What to do next.
    pub next: Option<String>,
    pub links: Vec<Link>,
}

/// Whether a message is good or bad news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something is in progress.
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
    /// The people who follow the thread.
    Detail,
    /// Also the readers of destinations without threads: done, canceled.
    Milestone,
    /// The whole channel, once: failed, recovered, needs attention.
    Loud,
}

/// A link to further information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub label: String,
    pub url: String,
}

impl Message {
    /// Returns the message as one line, for Events, logs and the short text of a chat message.
    pub fn line(&self) -> String {
        if self.text.is_empty() { self.title.clone() } else { format!("{}: {}", self.title, self.text) }
    }
}

/// Returns the messages of `after` that `before` does not have, in order.
pub fn news<'a>(before: &[Story], after: &'a [Story]) -> Vec<&'a Message> {
    let mut news = Vec::new();
    for story in after.iter().filter(|story| story.hold.is_zero()) {
        let known = before.iter().find(|old| old.thread == story.thread);
        // The head of a new story is news only while the work is in progress. If it has ended, its replies say so.
        let begins = known.is_none() && (story.head.tone == Tone::Working || story.replies.is_empty());
        news.extend(begins.then_some(&story.head));
        let is_known = |reply: &&Message| {
            known.is_some_and(|old| old.replies.iter().any(|before| before.id == reply.id))
        };
        news.extend(story.replies.iter().filter(|reply| !is_known(reply)));
    }
    news
}

/// Adds a link to the runbook to every message that reports a failure.
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

/// Creates a message with the fields that every message has. The caller sets the others.
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
