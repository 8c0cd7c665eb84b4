//! Slack through an incoming webhook: single messages in the channel of the webhook. It returns no message IDs, so
//! nothing can be edited or replied to.

use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::announce::Message;

use super::blocks;
use super::http::{Address, Answer, Http, rate_limited};
use super::{Abilities, CHAT_PACE, DeliveryMode, Sink, SinkError, Trouble};

pub const ABILITIES: Abilities =
    Abilities { kind: "slack-webhook", mode: DeliveryMode::Lines, pace: CHAT_PACE };

const WHO: &str = "Slack";

/// An incoming webhook.
pub struct Incoming {
    http: Http,
    address: Address,
    /// Where the address comes from, for messages: `Secret ops/slack`.
    place: String,
}

impl Incoming {
    pub fn new(http: Http, address: Address, place: String) -> Self {
        Self { http, address, place }
    }

    /// Returns the meaning of an error code of Slack. The HTTP status that comes with it is less specific.
    fn failed(&self, answer: &Answer) -> SinkError {
        let place = &self.place;
        let closed = |reason, message: String| SinkError::new(Trouble::Closed, reason, message);
        match answer.word() {
            "rate_limited" | "ratelimited" => rate_limited(WHO, answer.after),
            word @ ("invalid_payload"
            | "no_text"
            | "invalid_blocks"
            | "too_many_attachments"
            | "msg_too_long") => {
                let message = format!("Slack rejects this message ({word})");
                SinkError::new(Trouble::Refused, "SlackMessageRefused", message)
            }
            word @ ("no_service" | "no_service_id" | "no_team" | "team_disabled" | "invalid_token"
            | "user_not_found") => closed(
                "SlackWebhookInvalid",
                format!(
                    "Slack does not know the webhook any more ({word}): put a new URL into key url of {place}"
                ),
            ),
            "channel_not_found" => closed(
                "SlackChannelNotFound",
                format!(
                    "the channel of the webhook was deleted: put the URL of another webhook into key url of \
                     {place}"
                ),
            ),
            "channel_is_archived" => closed(
                "SlackChannelArchived",
                format!(
                    "the channel of the webhook is archived: unarchive it, or put the URL of another webhook \
                     into key url of {place}"
                ),
            ),
            word @ ("action_prohibited" | "posting_to_general_channel_denied") => closed(
                "SlackChannelRestricted",
                format!(
                    "the workspace does not allow the webhook of {place} to post ({word}): a workspace owner \
                     must allow it"
                ),
            ),
            _ => answer.busy(WHO).unwrap_or_else(|| answer.unexpected(&format!("the webhook of {place}"))),
        }
    }
}

impl Sink for Incoming {
    fn post<'a>(
        &'a self,
        message: &'a Message,
        _: Option<&'a str>,
        _: bool,
    ) -> BoxFuture<'a, Result<Option<String>, SinkError>> {
        Box::pin(async move {
            let body = blocks::payload(message).to_string().into_bytes();
            let answer = self.http.send(WHO, Method::POST, &self.address, HeaderMap::new(), body).await?;
            // The body is not checked: Slack returns `ok`, but compatible services can return something else.
            if answer.status.is_success() { Ok(None) } else { Err(self.failed(&answer)) }
        })
    }
}
