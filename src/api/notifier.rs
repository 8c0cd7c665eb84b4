//! Who hears of builds and rollouts, and what was told already.

pub mod checks;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who hears of builds and rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notifier {
    /// Slack: threads in channels by a bot, or lines by an incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// Discord, by a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discord: Option<Discord>,
    /// An SNS topic, with the agent's own AWS credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sns: Option<Sns>,
    /// Mail by SES, with the agent's own AWS credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ses: Option<Ses>,
    /// JSON to any address, signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

impl Notifier {
    /// Names of all Secrets it names.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let slack = self.slack.as_ref().and_then(|slack| slack.secret.as_deref());
        let discord = self.discord.as_ref().and_then(|discord| discord.secret.as_deref());
        let webhook = self.webhook.as_ref().and_then(|webhook| webhook.secret.as_deref());
        [slack, discord, webhook].into_iter().flatten()
    }
}

/// Messages to Slack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slack {
    /// Ids of the channels that hear of it. Without them the secret holds an incoming webhook.
    #[serde(default, rename = "channelIDs", skip_serializing_if = "Option::is_none")]
    pub channel_ids: Option<Vec<String>>,
    /// Secret with the bot token (`token`), or with the address of an incoming webhook (`url`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Messages to Discord.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Discord {
    /// Secret with the address of the webhook (`url`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret: Option<String>,
}

/// Messages to an SNS topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sns {
    /// ARN of the topic.
    #[serde(default, rename = "topicARN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub topic_arn: Option<String>,
}

/// Mail by SES.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ses {
    /// Verified sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub from: Option<String>,
    /// Who gets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50))]
    pub to: Option<Vec<String>>,
    /// Region of the verified sender. Default: the object's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub region: Option<String>,
}

/// JSON to any address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Secret with the address (`url`) and the key of the signature (`key`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret: Option<String>,
}

/// What one destination was told of one story.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Destination, like `slack/C0123456789`.
    pub to: String,
    /// Story: `build/<id>`, `rollout/<id>`, `trouble/<reason>`.
    pub thread: String,
    /// Id of the first message there; replies and edits go by it.
    #[serde(default, rename = "messageID", skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Digest of the first message as it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// Replies that were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Vec<String>>,
    /// Digest of the cause it shares with other objects: one message tells of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Id of that message.
    #[serde(default, rename = "causeMessageID", skip_serializing_if = "Option::is_none")]
    pub cause_message_id: Option<String>,
    /// When the story became known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
}
