//! Where messages go, as a spec names it. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::sink::Manner;
use crate::api::checks::written;
use crate::api::notifier::Notifier;

/// Slack allows a message a second and channel, and 50 edits a minute; Discord some more.
const CHAT_PACE: Duration = Duration::from_millis(1200);
/// The others take dozens a second: this keeps a flood from being one.
const PACE: Duration = Duration::from_millis(100);

/// One destination. Secrets are those of the object's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A channel, by a bot.
    Slack {
        namespace: String,
        secret: String,
        channel: String,
    },
    /// A channel, by an incoming webhook.
    SlackWebhook {
        namespace: String,
        secret: String,
    },
    Discord {
        namespace: String,
        secret: String,
    },
    Sns {
        topic: String,
    },
    Ses {
        region: String,
        from: String,
        to: Vec<String>,
    },
    Webhook {
        namespace: String,
        secret: String,
    },
}

impl Destination {
    /// The destinations a spec names, each once. What is incomplete was refused or noted when it was read.
    pub fn of(notifier: Option<&Notifier>, namespace: &str, region: Option<&str>) -> Vec<Self> {
        let Some(notifier) = notifier else { return Vec::new() };
        let namespace = namespace.to_owned();
        let mut all = Vec::new();
        if let Some((slack, secret)) =
            notifier.slack.as_ref().and_then(|slack| Some((slack, written(slack.secret.as_ref())?)))
        {
            let (ids, secret) = (slack.channel_ids.iter().flatten(), secret.to_owned());
            let before = all.len();
            all.extend(ids.filter(|channel| !channel.is_empty()).map(|channel| Self::Slack {
                namespace: namespace.clone(),
                secret: secret.clone(),
                channel: channel.clone(),
            }));
            if all.len() == before {
                all.push(Self::SlackWebhook { namespace: namespace.clone(), secret });
            }
        }
        let discord = notifier.discord.as_ref().and_then(|discord| discord.secret.clone());
        all.extend(discord.map(|secret| Self::Discord { namespace: namespace.clone(), secret }));
        let topic = notifier.sns.as_ref().and_then(|sns| sns.topic_arn.clone());
        all.extend(topic.map(|topic| Self::Sns { topic }));
        all.extend(notifier.ses.as_ref().and_then(|ses| {
            let region = written(ses.region.as_ref()).or(region)?.to_owned();
            Some(Self::Ses { region, from: ses.from.clone()?, to: ses.to.clone()? })
        }));
        let webhook = notifier.webhook.as_ref().and_then(|webhook| webhook.secret.clone());
        all.extend(webhook.map(|secret| Self::Webhook { namespace, secret }));
        let mut seen = BTreeSet::new();
        all.retain(|destination| seen.insert(destination.clone()));
        all
    }

    /// How status and people name it.
    pub fn name(&self) -> String {
        match self {
            Self::Slack { channel, .. } => format!("slack/{channel}"),
            Self::SlackWebhook { secret, .. } => format!("slack-webhook/{secret}"),
            Self::Discord { secret, .. } => format!("discord/{secret}"),
            Self::Sns { topic } => format!("sns/{topic}"),
            Self::Ses { to, .. } => format!("ses/{}", to.join(",")),
            Self::Webhook { secret, .. } => format!("webhook/{secret}"),
        }
    }

    /// The kind of sink, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Slack { .. } => "slack",
            Self::SlackWebhook { .. } => "slack-webhook",
            Self::Discord { .. } => "discord",
            Self::Sns { .. } => "sns",
            Self::Ses { .. } => "ses",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// The Secret it needs: namespace and name.
    pub fn secret(&self) -> Option<(&str, &str)> {
        match self {
            Self::Slack { namespace, secret, .. }
            | Self::SlackWebhook { namespace, secret }
            | Self::Discord { namespace, secret }
            | Self::Webhook { namespace, secret } => Some((namespace, secret)),
            Self::Sns { .. } | Self::Ses { .. } => None,
        }
    }

    /// What its sink can do.
    pub fn manner(&self) -> Manner {
        match self {
            Self::Slack { .. } => Manner::Threads,
            Self::Discord { .. } => Manner::Edits,
            _ => Manner::Lines,
        }
    }

    /// The least time from one message to the next.
    pub fn pace(&self) -> Duration {
        match self {
            Self::Slack { .. } | Self::SlackWebhook { .. } | Self::Discord { .. } => CHAT_PACE,
            _ => PACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn manners_are_what_services_can_do() {
        let all = json!({"slack": {"secret": "s", "channelIDs": ["C1"]}, "discord": {"secret": "d"},
            "sns": {"topicARN": "arn"}, "ses": {"from": "a@b", "to": ["c@d"]}, "webhook": {"secret": "w"}});
        let notifier = serde_json::from_value(all).expect("a notifier");
        let all = Destination::of(Some(&notifier), "ops", Some("us-east-1"));
        let manners: Vec<Manner> = all.iter().map(Destination::manner).collect();
        use Manner::{Edits, Lines, Threads};
        assert_eq!(manners, [Threads, Edits, Lines, Lines, Lines]);
    }

    fn names(notifier: serde_json::Value) -> Vec<String> {
        let notifier = serde_json::from_value(notifier).expect("a notifier");
        Destination::of(Some(&notifier), "ops", Some("us-east-1")).iter().map(Destination::name).collect()
    }

    #[test]
    fn each_destination_is_there_once_and_what_says_nothing_is_none() {
        for (notifier, due) in [
            (json!({}), vec![]),
            (json!({"slack": {"secret": "", "channelIDs": ["C1"]}}), vec![]),
            (
                json!({"slack": {"secret": "s", "channelIDs": ["C1", "", "C2", "C1"]}}),
                vec!["slack/C1", "slack/C2"],
            ),
            (json!({"slack": {"secret": "s", "channelIDs": []}}), vec!["slack-webhook/s"]),
            (json!({"slack": {"secret": "s", "channelIDs": [""]}}), vec!["slack-webhook/s"]),
            (json!({"discord": {}, "sns": {}, "ses": {"from": "a@b"}, "webhook": {}}), vec![]),
            (
                json!({"ses": {"from": "a@b", "to": ["c@d"], "region": ""}, "webhook": {"secret": "w"}}),
                vec!["ses/c@d", "webhook/w"],
            ),
        ] {
            assert_eq!(names(notifier.clone()), due, "{notifier}");
        }
    }
}
