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

/// Keys a bot's token is looked up under, the first one first.
const TOKEN: [&str; 5] = ["token", "slack-token", "slackToken", "SLACK_TOKEN", "SLACK_BOT_TOKEN"];
const URL: [&str; 2] = ["url", "address"];
const KEY: [&str; 1] = ["key"];

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
        let value = |keys: &[&str]| value(values, keys, &place);
        let address = || {
            let text = value(&URL)?;
            Address::parse(text).map_err(|why| closed("WebhookInvalid", format!("key url of {place}: {why}")))
        };
        let http = || self.http.clone().map_err(|why| closed("NoCertificates", why));
        Ok(match to {
            Destination::Slack { channel, .. } => {
                let token = value(&TOKEN)?;
                Box::new(Bot::new(http()?, self.slack.clone(), token, channel.clone(), place.clone()))
            }
            Destination::SlackWebhook { .. } => Box::new(Incoming::new(http()?, address()?, place.clone())),
            Destination::Discord { .. } => Box::new(Hook::new(http()?, address()?, place.clone())),
            Destination::Webhook { .. } => {
                let made = Receiver::new(http()?, address()?, value(&KEY)?, self.now, &place);
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

/// The value of the first of these keys; a secret of one key needs no name for it.
fn value<'a>(values: &'a Values, keys: &[&str], place: &str) -> Result<&'a str, SinkError> {
    let named = keys.iter().find_map(|key| values.get(*key));
    let only = || values.values().next().filter(|_| values.len() == 1);
    let found = named.or_else(only).map(|value| value.trim()).filter(|value| !value.is_empty());
    found.ok_or_else(|| closed("SecretIncomplete", format!("{place} has no key {}: add it", keys[0])))
}

fn closed(reason: &'static str, words: String) -> SinkError {
    SinkError { kind: Trouble::Closed, reason, message: words }
}
