//! The sinks, one file per service, and the contract between a sink and the desk that sends to it.
//!
//! Each file declares what its service can do (`ABILITIES`). `slack`, `incoming`, `discord` and `webhook` use `http`,
//! `sns` and `ses` use `sdk`. `blocks` renders for Slack, `plain` renders text without markup, and `text` shortens and
//! escapes text for all of them.

pub mod blocks;
pub mod discord;
pub mod http;
pub mod incoming;
pub mod plain;
mod sdk;
pub mod ses;
pub mod slack;
pub mod sns;
pub mod text;
pub mod webhook;

#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::future::BoxFuture;

use crate::announce::{Message, Weight};

/// Sends messages to one destination: a channel, a topic, an address.
pub trait Sink: Send + Sync {
    /// Posts a message, and returns its ID if the service has message IDs. `thread` is the ID of the first message of a
    /// thread that the message replies to; if the delivery mode is `Lines`, it is the name of the story for machines,
    /// `<kind>/<namespace>/<name>/<story>`. With `loud`, a reply is also shown in the channel itself.
    fn post<'a>(
        &'a self,
        message: &'a Message,
        thread: Option<&'a str>,
        loud: bool,
    ) -> BoxFuture<'a, Result<Option<String>, SinkError>>;
    /// Asks the service whether it accepts the credentials, and returns how it calls their owner. Sends no message.
    /// `None` if the service has no such request.
    fn verify(&self) -> BoxFuture<'_, Result<Option<String>, SinkError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    /// Replaces the content of a posted message. Never called if the delivery mode is `Lines`.
    fn edit<'a>(&'a self, _message: &'a Message, _id: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// What a service can do, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Name of the service in metrics.
    pub kind: &'static str,
    pub mode: DeliveryMode,
    /// Minimum time between two messages.
    pub pace: Duration,
}

/// Slack allows one message per second and channel, and 50 edits per minute. Discord allows slightly more.
const CHAT_PACE: Duration = Duration::from_millis(1200);
/// The other services accept dozens of messages per second. This only limits a flood.
const PACE: Duration = Duration::from_millis(100);

/// How the messages about one story are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// The first message is edited in place, and details are replies to it.
    Threads,
    /// The first message is edited in place, and only failures and recoveries are messages of their own.
    Edits,
    /// Nothing can be edited, so only the start, the result, failures and recoveries are sent.
    Lines,
}

impl DeliveryMode {
    /// Returns the lowest weight of a reply that is sent.
    pub fn least(self) -> Weight {
        match self {
            Self::Threads => Weight::Detail,
            Self::Edits => Weight::Loud,
            Self::Lines => Weight::Milestone,
        }
    }
}

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    pub kind: Trouble,
    /// One CamelCase word, for the status: `SlackTokenInvalid`, `SlackChannelArchived`.
    pub reason: &'static str,
    /// What is wrong, and what to do. It must never contain a token or the address of a webhook.
    pub message: String,
}

/// What happens to a message that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is sent again, not before `after` has passed.
    Transient { after: Option<Duration> },
    /// It may have been delivered, so sending it again may deliver it twice.
    Unclear,
    /// The service rejects this message and always will. It may accept others.
    Refused,
    /// The message to edit or to reply to does not exist any more.
    MessageGone,
    /// No message is accepted until a person acts, for example if the token is wrong or the channel is archived.
    Closed,
}

impl SinkError {
    pub fn new(kind: Trouble, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into() }
    }
}
