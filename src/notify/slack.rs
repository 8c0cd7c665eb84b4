//! Slack by a bot: first messages edited in place, replies in threads, and what its errors mean.

use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::announce::Message;

use super::blocks;
use super::http::{Address, Answer, Http, is_word, rate_limited};
use super::sink::{Sink, SinkError, Trouble};

const WHO: &str = "Slack";

/// A bot in one channel.
pub struct Bot {
    http: Http,
    api: Address,
    /// Nothing, where the token holds what no token holds.
    bearer: Option<HeaderValue>,
    channel: String,
    /// Where the token came from, for words: `Secret ops/slack`.
    place: String,
}

impl Bot {
    /// `api` as `https://slack.com/api/`; `place` says where the token came from: `Secret ops/slack`.
    pub fn new(http: Http, api: Address, token: &str, channel: String, place: String) -> Self {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok();
        if let Some(bearer) = &mut bearer {
            bearer.set_sensitive(true);
        }
        Self { http, api, bearer, channel, place }
    }

    /// Calls a method; answers the channel and the `ts` of the message.
    async fn call(&self, method: &str, body: &Value) -> Result<(String, String), SinkError> {
        let Some(bearer) = &self.bearer else { return Err(self.failed("invalid_auth", None)) };
        let headers = HeaderMap::from_iter([(AUTHORIZATION, bearer.clone())]);
        let body = body.to_string().into_bytes();
        let answer = self.http.send(WHO, Method::POST, &self.api.below(&[method]), headers, body).await?;
        let said = answer.json();
        match (said["ok"].as_bool(), said["error"].as_str(), said["ts"].as_str()) {
            (Some(true), _, Some(ts)) => {
                Ok((said["channel"].as_str().unwrap_or(&self.channel).to_owned(), ts.to_owned()))
            }
            (Some(false), Some(error), _) => Err(self.failed(error, answer.after)),
            _ => Err(unreadable(&answer)),
        }
    }

    /// What Slack's word for an error means here.
    fn failed(&self, error: &str, after: Option<Duration>) -> SinkError {
        let error = if is_word(error) { error } else { "an_unknown_error" };
        let (kind, reason, words) = match meaning(error) {
            Meaning::RateLimited => return rate_limited(WHO, after),
            Meaning::Passing => {
                (Trouble::Transient { after }, "ServerError", format!("Slack is in trouble ({error})"))
            }
            Meaning::Perhaps => {
                (Trouble::Unclear, "NoAnswer", format!("Slack may have posted the message or not ({error})"))
            }
            Meaning::Refused => {
                (Trouble::Refused, "SlackMessageRefused", format!("Slack refuses this message ({error})"))
            }
            Meaning::Gone => (
                Trouble::MessageGone,
                "SlackMessageGone",
                format!("the message in Slack cannot be continued ({error})"),
            ),
            Meaning::Closed(why) => {
                let (reason, words) = self.closed(&why, error);
                (Trouble::Closed, reason, words)
            }
        };
        SinkError::new(kind, reason, words)
    }

    /// What a person must do.
    fn closed(&self, why: &Closed, error: &str) -> (&'static str, String) {
        let (place, channel) = (&self.place, &self.channel);
        match why {
            Closed::Token => (
                "SlackTokenInvalid",
                format!(
                    "Slack does not take the bot's token ({error}): put a new one into key token of {place}"
                ),
            ),
            Closed::Scope => (
                "SlackScopeMissing",
                format!(
                    "the bot may not post ({error}): give its app the scope chat:write, install the app anew, and \
                     put its token into key token of {place}"
                ),
            ),
            Closed::NoChannel => (
                "SlackChannelNotFound",
                format!(
                    "the bot sees no channel {channel}: correct notifier.slack.channelIDs, or, if the channel is \
                     private, invite the bot there: /invite @<bot>"
                ),
            ),
            Closed::NotInChannel => (
                "SlackNotInChannel",
                format!("the bot is not in channel {channel}: invite it there: /invite @<bot>"),
            ),
            Closed::Archived => (
                "SlackChannelArchived",
                format!(
                    "channel {channel} is archived: take it back from the archive, or name another in \
                     notifier.slack.channelIDs"
                ),
            ),
            Closed::Restricted => (
                "SlackChannelRestricted",
                format!(
                    "the workspace does not let the bot post in channel {channel} ({error}): an owner must allow it"
                ),
            ),
        }
    }
}

/// What an error is about.
enum Meaning {
    RateLimited,
    /// Nothing was done; later it will work.
    Passing,
    /// Some of it may have been done.
    Perhaps,
    Refused,
    Gone,
    Closed(Closed),
}

/// What a person must open again.
enum Closed {
    Token,
    Scope,
    NoChannel,
    NotInChannel,
    Archived,
    Restricted,
}

/// The table. What it does not know passes: to be wrong about that costs some calls, while a wrong
/// "never" costs the message.
fn meaning(error: &str) -> Meaning {
    match error {
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => Meaning::RateLimited,
        "fatal_error" => Meaning::Perhaps,
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
        // The message is there, and stays as it is.
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
        _ => Meaning::Passing,
    }
}

/// An answer that is none of the Web API's.
fn unreadable(answer: &Answer) -> SinkError {
    answer.busy(WHO).unwrap_or_else(|| answer.odd(WHO))
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

    /// The blocks are always given: Slack keeps those that are left out.
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
    /// Channel and `ts` of a message. Where the channel was configured by a name, or is a person, the id
    /// names the channel Slack made of it: edits take no other.
    fn parts<'a>(&'a self, id: &'a str) -> (&'a str, &'a str) {
        id.split_once('/').unwrap_or((&self.channel, id))
    }
}
