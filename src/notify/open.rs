//! Creates the sink of a destination from its Secret. An error names the missing key and what to put there.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use jiff::Timestamp;

use super::destination::Destination;
use super::sinks::discord::Hook;
use super::sinks::http::{Address, Http};
use super::sinks::incoming::Incoming;
use super::sinks::ses::Mail;
use super::sinks::slack::Bot;
use super::sinks::sns::Topic;
use super::sinks::webhook::Receiver;
use super::sinks::{Sink, SinkError, Trouble};

/// Start of every Slack token. A manifest chooses the Secret, so no other value of it may be sent to Slack.
const TOKEN: &str = "xox";

/// Keys and values of a Secret.
pub type Values = BTreeMap<String, String>;

/// What sinks are created from.
#[derive(Clone)]
pub struct Means {
    /// The HTTP client, or why it could not be created.
    pub http: Result<Http, String>,
    /// Base address of Slack's Web API.
    pub slack: Address,
    pub aws: SdkConfig,
    pub now: fn() -> Timestamp,
}

impl Means {
    /// Returns the sink of a destination. `values` is the content of its Secret, if it has one.
    pub fn open(&self, to: &Destination, values: &Values) -> Result<Box<dyn Sink>, SinkError> {
        let place =
            to.secret().map(|(namespace, name)| format!("Secret {namespace}/{name}")).unwrap_or_default();
        let value = |key: &str| value(values, key, &place);
        let address = || {
            let text = value("url")?;
            Address::parse(text).map_err(|why| closed("WebhookInvalid", format!("key url of {place}: {why}")))
        };
        let http = || self.http.clone().map_err(|why| closed("NoCertificates", why));
        Ok(match to {
            Destination::Slack { channel, .. } => {
                let token = token(values, &place)?;
                Box::new(Bot::new(http()?, self.slack.clone(), token, channel.clone(), place.clone()))
            }
            Destination::SlackWebhook { .. } => Box::new(Incoming::new(http()?, address()?, place.clone())),
            Destination::Discord { .. } => Box::new(Hook::new(http()?, address()?, place.clone())),
            Destination::Webhook { .. } => {
                let made = Receiver::new(http()?, address()?, value("key")?, self.now, &place);
                Box::new(made.map_err(|why| closed("SecretIncomplete", format!("{place}: {why}")))?)
            }
            Destination::Sns { topic } => {
                Box::new(Topic::new(&self.aws, topic).map_err(|why| closed("TopicInvalid", why))?)
            }
            Destination::Ses { region, from, to } => {
                Box::new(Mail::new(&self.aws, region, from.clone(), to.clone()))
            }
        })
    }
}

/// Returns the token under the key `token`, else the first value that is a Slack token.
fn token<'a>(values: &'a Values, place: &str) -> Result<&'a str, SinkError> {
    let is_token = |value: &&String| value.trim().starts_with(TOKEN);
    let named = values.get("token").filter(is_token);
    let found = named.or_else(|| values.values().find(is_token)).map(|value| value.trim());
    let missing = || format!("{place} has no key token with a Slack bot token (xoxb-…): add it");
    found.ok_or_else(|| closed("SecretIncomplete", missing()))
}

fn value<'a>(values: &'a Values, key: &str, place: &str) -> Result<&'a str, SinkError> {
    let found = values.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
    found.ok_or_else(|| closed("SecretIncomplete", format!("{place} has no key {key}: add it")))
}

fn closed(reason: &'static str, message: String) -> SinkError {
    SinkError { kind: Trouble::Closed, reason, message }
}
