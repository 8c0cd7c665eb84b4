//! Slack by an incoming webhook: lines in the one channel the webhook belongs to. It names no message
//! it posted, so there is nothing to edit or to reply to.

use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::announce::Message;

use super::blocks;
use super::http::{Address, Answer, Http, rate_limited};
use super::sink::{Sink, SinkError, Trouble};

const WHO: &str = "Slack";

/// An incoming webhook.
pub struct Incoming {
    http: Http,
    address: Address,
    /// Where the address came from, for words: `Secret ops/slack`.
    place: String,
}

impl Incoming {
    pub fn new(http: Http, address: Address, place: String) -> Self {
        Self { http, address, place }
    }

    /// What Slack's word for an error means here; it comes with a status that says less.
    fn failed(&self, answer: &Answer) -> SinkError {
        let place = &self.place;
        let closed = |reason, words: String| SinkError::new(Trouble::Closed, reason, words);
        match answer.word() {
            "rate_limited" | "ratelimited" => rate_limited(WHO, answer.after),
            word @ ("invalid_payload"
            | "no_text"
            | "invalid_blocks"
            | "too_many_attachments"
            | "msg_too_long") => {
                let words = format!("Slack refuses this message ({word})");
                SinkError::new(Trouble::Refused, "SlackMessageRefused", words)
            }
            word @ ("no_service" | "no_service_id" | "no_team" | "team_disabled" | "invalid_token"
            | "user_not_found") => closed(
                "SlackWebhookInvalid",
                format!(
                    "Slack knows the webhook no more ({word}): put a new address into key url of {place}"
                ),
            ),
            "channel_not_found" => closed(
                "SlackChannelNotFound",
                format!(
                    "the webhook's channel is gone: put the address of another webhook into key url of {place}"
                ),
            ),
            "channel_is_archived" => closed(
                "SlackChannelArchived",
                format!(
                    "the webhook's channel is archived: take it back from the archive, or put the address of another \
                     webhook into key url of {place}"
                ),
            ),
            word @ ("action_prohibited" | "posting_to_general_channel_denied") => closed(
                "SlackChannelRestricted",
                format!(
                    "the workspace does not let the webhook of {place} post ({word}): an owner must allow it"
                ),
            ),
            _ => answer.busy(WHO).unwrap_or_else(|| answer.odd(&format!("the webhook of {place}"))),
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
            // Slack says `ok`; what else speaks its language may say something else.
            if answer.status.is_success() { Ok(None) } else { Err(self.failed(&answer)) }
        })
    }
}
