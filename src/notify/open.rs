//! A destination and its secret → the sink. What is missing in the secret is told with what to put there.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use jiff::Timestamp;

use super::destination::Destination;
use super::discord::Hook;
use super::http::{Address, Http};
use super::incoming::Incoming;
use super::ses::Mail;
use super::sink::{Sink, SinkError, Trouble};
use super::slack::Bot;
use super::sns::Topic;
use super::webhook::Receiver;

/// Tokens of Slack begin like this. Nothing else of a secret that a manifest names goes to Slack.
const TOKEN: &str = "xox";

/// Keys and values of a secret.
pub type Values = BTreeMap<String, String>;

/// What all sinks are made with.
#[derive(Clone)]
pub struct Means {
    /// Or why there is none.
    pub http: Result<Http, String>,
    /// Slack's Web API.
    pub slack: Address,
    pub aws: SdkConfig,
    pub now: fn() -> Timestamp,
}

impl Means {
    /// The sink of a destination, with the values of its secret where it has one.
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

/// The token under the key `token`, else under whatever key one is.
fn token<'a>(values: &'a Values, place: &str) -> Result<&'a str, SinkError> {
    let is_token = |value: &&String| value.trim().starts_with(TOKEN);
    let named = values.get("token").filter(is_token);
    let found = named.or_else(|| values.values().find(is_token)).map(|value| value.trim());
    let missing = || format!("{place} has no key token with a token of Slack's (xoxb-…): add it");
    found.ok_or_else(|| closed("SecretIncomplete", missing()))
}

fn value<'a>(values: &'a Values, key: &str, place: &str) -> Result<&'a str, SinkError> {
    let found = values.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
    found.ok_or_else(|| closed("SecretIncomplete", format!("{place} has no key {key}: add it")))
}

fn closed(reason: &'static str, words: String) -> SinkError {
    SinkError { kind: Trouble::Closed, reason, message: words }
}
