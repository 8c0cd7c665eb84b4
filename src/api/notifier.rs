//! The notifier of both kinds: where notifications are sent, and which were delivered.

pub mod checks;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sinks that are notified of builds and rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notifier {
    /// Sends messages to Slack: threads in channels with a bot token, or single messages with an incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Slack>,
    /// Sends messages to a Discord channel through a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discord: Option<Discord>,
    /// Publishes messages to an Amazon SNS topic, with the AWS credentials of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sns: Option<Sns>,
    /// Sends email through Amazon SES, with the AWS credentials of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ses: Option<Ses>,
    /// Sends signed JSON messages to an HTTPS endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

impl Notifier {
    /// Returns the names of all Secrets that the notifier refers to.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let slack = self.slack.as_ref().and_then(|slack| slack.secret.as_deref());
        let discord = self.discord.as_ref().and_then(|discord| discord.secret.as_deref());
        let webhook = self.webhook.as_ref().and_then(|webhook| webhook.secret.as_deref());
        [slack, discord, webhook].into_iter().flatten()
    }
}

/// Settings for messages to Slack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slack {
    /// IDs of the channels that receive messages, for example C0123456789. If there are none, the Secret must contain
    /// the URL of an incoming webhook.
    #[serde(default, rename = "channelIDs", skip_serializing_if = "Option::is_none")]
    pub channel_ids: Option<Vec<String>>,
    /// Name of the Secret that contains the bot token (key `token`) or the URL of an incoming webhook (key `url`).
    /// Without a Secret, no messages are sent to Slack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Settings for messages to Discord.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Discord {
    /// Name of the Secret that contains the URL of the webhook (key `url`). Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret: Option<String>,
}

/// Settings for messages to an Amazon SNS topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sns {
    /// ARN of the topic, for example arn:aws:sns:us-east-1:111122223333:images. Required.
    #[serde(default, rename = "topicARN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub topic_arn: Option<String>,
}

/// Settings for email through Amazon SES.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ses {
    /// Email address of the sender, which must be verified in SES. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub from: Option<String>,
    /// Email addresses of the recipients, at least 1 and at most 50. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 50))]
    pub to: Option<Vec<String>>,
    /// AWS region in which the sender is verified. Default: the region of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub region: Option<String>,
}

/// Settings for signed JSON messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Name of the Secret that contains the URL of the endpoint (key `url`) and the key that signs the messages (key
    /// `key`). Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret: Option<String>,
}

/// Record of the messages that were delivered to one destination about one build, rollout or problem.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Destination of the messages, for example `slack/C0123456789`.
    pub to: String,
    /// Thread of the messages: `build/<id>`, `rollout/<id>` or `trouble/<reason>`.
    pub thread: String,
    /// ID of the first message of the thread. Replies and edits refer to it.
    #[serde(default, rename = "messageID", skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Digest of the content of the first message as it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// IDs of the messages of the thread that were delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Vec<String>>,
    /// Digest of the cause that the problem shares with other objects. One message covers all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// ID of the message that covers all objects with the same cause.
    #[serde(default, rename = "causeMessageID", skip_serializing_if = "Option::is_none")]
    pub cause_message_id: Option<String>,
    /// Time at which the build, rollout or problem became known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
}
