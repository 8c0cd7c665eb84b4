//! What every sink is to the desk that writes to it, and what may go wrong there.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::announce::{Message, Weight};

/// One place messages go to: a channel, a topic, an address.
pub trait Sink: Send + Sync {
    /// Posts a message; in a thread where `thread` names its first message. `loud`: the whole channel is
    /// to see it. Answers the id of the message, where the sink has any. Where a destination's manner is
    /// `Lines`, `thread` may name the story itself, for machines: `<kind>/<namespace>/<name>/<story>`.
    fn post<'a>(
        &'a self,
        message: &'a Message,
        thread: Option<&'a str>,
        loud: bool,
    ) -> BoxFuture<'a, Result<Option<String>, SinkError>>;
    /// Writes a message anew that was posted before. Asked only where the manner is not `Lines`.
    fn edit<'a>(&'a self, _message: &'a Message, _id: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What a sink can do: its destination says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// First messages are edited in place, details are replies to them.
    Threads,
    /// First messages are edited in place; there are no replies.
    Edits,
    /// What was said is said: only what matters is sent.
    Lines,
}

impl Manner {
    /// Replies that are sent at all.
    pub fn least(self) -> Weight {
        match self {
            Self::Threads => Weight::Detail,
            Self::Edits => Weight::Loud,
            Self::Lines => Weight::Milestone,
        }
    }
}

/// A message that did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    pub kind: Trouble,
    /// One CamelCase word, for the status: `SlackTokenInvalid`, `ChannelArchived`.
    pub reason: &'static str,
    /// What is wrong and what to do; never a token, never a webhook's address.
    pub message: String,
}

/// What becomes of a message that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Try again, not before `after`.
    Transient { after: Option<Duration> },
    /// It may or may not have arrived: sending it again may say it twice.
    Unclear,
    /// This message is refused, whatever is done; others may pass.
    Refused,
    /// The message that was to be edited or replied to is gone.
    MessageGone,
    /// Nothing passes until a person acts: a wrong token, an archived channel.
    Closed,
}

impl SinkError {
    pub fn new(kind: Trouble, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into() }
    }
}
