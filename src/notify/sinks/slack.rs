//! Slack through a bot: first messages that are edited in place, replies in threads, and the meaning of errors.

use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::announce::Message;

use super::blocks;
use super::http::{Address, Answer, Http, is_word, rate_limited};
use super::{Abilities, CHAT_PACE, DeliveryMode, Sink, SinkError, Trouble};

pub const ABILITIES: Abilities = Abilities { kind: "slack", mode: DeliveryMode::Threads, pace: CHAT_PACE };

const WHO: &str = "Slack";

/// A bot in one channel.
pub struct Bot {
    http: Http,
    api: Address,
    /// `None` if the token contains characters that no token contains.
    bearer: Option<HeaderValue>,
    channel: String,
    /// Where the token comes from, for messages: `Secret ops/slack`.
    place: String,
}

impl Bot {
    /// `api` is the base address, `https://slack.com/api/`. `place` is where the token comes from: `Secret ops/slack`.
    pub fn new(http: Http, api: Address, token: &str, channel: String, place: String) -> Self {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok();
        if let Some(bearer) = &mut bearer {
            bearer.set_sensitive(true);
        }
        Self { http, api, bearer, channel, place }
    }

    /// Calls a method that posts or edits, and returns the channel and the `ts` of the message.
    async fn call(&self, method: &str, body: &Value) -> Result<(String, String), SinkError> {
        let answer = self.ask(method, body).await?;
        let result = answer.json();
        let Some(ts) = result["ts"].as_str() else { return Err(unreadable(&answer)) };
        Ok((result["channel"].as_str().unwrap_or(&self.channel).to_owned(), ts.to_owned()))
    }

    /// Calls a method, and returns the response of a call that succeeded.
    async fn ask(&self, method: &str, body: &Value) -> Result<Answer, SinkError> {
        let Some(bearer) = &self.bearer else { return Err(self.failed("invalid_auth", None)) };
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer.clone())]);
        let body = body.to_string().into_bytes();
        let answer = self.http.send(WHO, Method::POST, &self.api.below(&[method]), headers, body).await?;
        let result = answer.json();
        match (result["ok"].as_bool(), result["error"].as_str()) {
            (Some(true), _) => Ok(answer),
            (Some(false), Some(error)) => Err(self.failed(error, answer.after)),
            _ => Err(unreadable(&answer)),
        }
    }

    /// Returns the meaning of an error code of Slack.
    fn failed(&self, error: &str, after: Option<Duration>) -> SinkError {
        let error = if is_word(error) { error } else { "an_unknown_error" };
        let (kind, reason, message) = match meaning(error) {
            Meaning::RateLimited => return rate_limited(WHO, after),
            Meaning::Transient => {
                (Trouble::Transient { after }, "ServerError", format!("Slack returned an error ({error})"))
            }
            Meaning::Unclear => (
                Trouble::Unclear,
                "NoAnswer",
                format!("Slack may or may not have posted the message ({error})"),
            ),
            Meaning::Refused => {
                (Trouble::Refused, "SlackMessageRefused", format!("Slack rejects this message ({error})"))
            }
            Meaning::Gone => (
                Trouble::MessageGone,
                "SlackMessageGone",
                format!("the message in Slack can no longer be edited or replied to ({error})"),
            ),
            Meaning::Closed(why) => {
                let (reason, message) = self.closed(&why, error);
                (Trouble::Closed, reason, message)
            }
        };
        SinkError::new(kind, reason, message)
    }

    /// Returns the reason and what a person must do.
    fn closed(&self, why: &Closed, error: &str) -> (&'static str, String) {
        let (place, channel) = (&self.place, &self.channel);
        match why {
            Closed::Token => (
                "SlackTokenInvalid",
                format!("Slack rejects the bot's token ({error}): put a new token into key token of {place}"),
            ),
            Closed::Scope => (
                "SlackScopeMissing",
                format!(
                    "the bot is not allowed to post ({error}): add the scope chat:write to its app, \
                     reinstall the app, and put its token into key token of {place}"
                ),
            ),
            Closed::NoChannel => (
                "SlackChannelNotFound",
                format!(
                    "the bot cannot find channel {channel}: correct notifier.slack.channelIDs, or, if the \
                     channel is private, invite the bot with /invite @<bot>"
                ),
            ),
            Closed::NotInChannel => (
                "SlackNotInChannel",
                format!("the bot is not a member of channel {channel}: invite it with /invite @<bot>"),
            ),
            Closed::Archived => (
                "SlackChannelArchived",
                format!(
                    "channel {channel} is archived: unarchive it, or name another channel in \
                     notifier.slack.channelIDs"
                ),
            ),
            Closed::Restricted => (
                "SlackChannelRestricted",
                format!(
                    "the workspace does not allow the bot to post in channel {channel} ({error}): a \
                     workspace owner must allow it"
                ),
            ),
        }
    }
}

/// The meaning of an error code.
enum Meaning {
    RateLimited,
    /// Nothing was done, and a later attempt can succeed.
    Transient,
    /// The request may have taken effect.
    Unclear,
    Refused,
    Gone,
    Closed(Closed),
}

/// Why no message is accepted until a person acts.
enum Closed {
    Token,
    Scope,
    NoChannel,
    NotInChannel,
    Archived,
    Restricted,
}

/// The table of error codes. An unknown code counts as transient: if this is wrong, it costs some calls, while the
/// opposite mistake would lose the message.
fn meaning(error: &str) -> Meaning {
    match error {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => Meaning::RateLimited,
        "fatal_error" => Meaning::Unclear,
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "org_login_required"
        | "not_allowed_token_type"
        | "access_denied"
        | "accesslimited"
        | "ekm_access_denied"
        | "enterprise_is_restricted"
        | "team_access_not_granted" => Meaning::Closed(Closed::Token),
        "missing_scope" | "no_permission" => Meaning::Closed(Closed::Scope),
        "channel_not_found" => Meaning::Closed(Closed::NoChannel),
        "not_in_channel" => Meaning::Closed(Closed::NotInChannel),
        "is_archived" => Meaning::Closed(Closed::Archived),
        "message_not_found" | "thread_not_found" | "cannot_reply_to_message" => Meaning::Gone,
        // The message exists, but cannot be changed in this way.
        "cant_update_message"
        | "edit_window_closed"
        | "restricted_action_thread_locked"
        | "msg_too_long"
        | "msg_blocks_too_long"
        | "no_text"
        | "too_many_attachments"
        | "cant_broadcast_message"
        | "json_not_object" => Meaning::Refused,
        _ if error.starts_with("restricted_action") => Meaning::Closed(Closed::Restricted),
        _ if error.starts_with("invalid_") => Meaning::Refused,
        _ => Meaning::Transient,
    }
}

/// Returns the error for a response that does not come from the Web API.
fn unreadable(answer: &Answer) -> SinkError {
    answer.busy(WHO).unwrap_or_else(|| answer.unexpected(WHO))
}

impl Sink for Bot {
    fn post<'a>(
        &'a self,
        message: &'a Message,
        thread: Option<&'a str>,
        loud: bool,
    ) -> BoxFuture<'a, Result<Option<String>, SinkError>> {
        Box::pin(async move {
            let mut body = blocks::payload(message);
            body["channel"] = json!(self.channel);
            if let Some(thread) = thread {
                let (channel, ts) = self.parts(thread);
                body["channel"] = json!(channel);
                body["thread_ts"] = json!(ts);
                body["reply_broadcast"] = json!(loud);
            }
            let (channel, ts) = self.call("chat.postMessage", &body).await?;
            Ok(Some(if channel == self.channel { ts } else { format!("{channel}/{ts}") }))
        })
    }

    fn verify(&self) -> BoxFuture<'_, Result<Option<String>, SinkError>> {
        Box::pin(async move {
            let answer = self.ask("auth.test", &json!({})).await?.json();
            let name = |field: &str| answer[field].as_str().unwrap_or("?").to_owned();
            Ok(Some(format!("bot {} of workspace {}", name("user"), name("team"))))
        })
    }

    /// Always sends the blocks, because Slack keeps the old ones if they are left out.
    fn edit<'a>(&'a self, message: &'a Message, id: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let (channel, ts) = self.parts(id);
            let mut body = blocks::payload(message);
            body["channel"] = json!(channel);
            body["ts"] = json!(ts);
            self.call("chat.update", &body).await.map(drop)
        })
    }
}

impl Bot {
    /// Splits the ID of a message into channel and `ts`. If the channel was configured by name, or is a user, the ID
    /// contains the channel ID that Slack returned, because edits accept no other.
    fn parts<'a>(&'a self, id: &'a str) -> (&'a str, &'a str) {
        id.split_once('/').unwrap_or((&self.channel, id))
    }
}
