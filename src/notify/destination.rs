//! The destinations that a spec names. Pure.

use std::collections::BTreeSet;

use super::sinks::{Abilities, discord, incoming, ses, slack, sns, webhook};
use crate::api::checks::written;
use crate::api::notifier::Notifier;

/// One destination. Its Secret is in the namespace of the object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A Slack channel, through a bot.
    Slack {
        namespace: String,
        secret: String,
        channel: String,
    },
    /// A Slack channel, through an incoming webhook.
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
    /// Returns the destinations that a spec names, each once. Incomplete ones are skipped: validation has reported
    /// them.
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

    /// Returns the name in status and logs.
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

    /// Returns what its sink can do.
    pub fn abilities(&self) -> Abilities {
        match self {
            Self::Slack { .. } => slack::ABILITIES,
            Self::SlackWebhook { .. } => incoming::ABILITIES,
            Self::Discord { .. } => discord::ABILITIES,
            Self::Sns { .. } => sns::ABILITIES,
            Self::Ses { .. } => ses::ABILITIES,
            Self::Webhook { .. } => webhook::ABILITIES,
        }
    }

    /// Returns the namespace and name of the Secret that it needs.
    pub fn secret(&self) -> Option<(&str, &str)> {
        match self {
            Self::Slack { namespace, secret, .. }
            | Self::SlackWebhook { namespace, secret }
            | Self::Discord { namespace, secret }
            | Self::Webhook { namespace, secret } => Some((namespace, secret)),
            Self::Sns { .. } | Self::Ses { .. } => None,
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
        let modes: Vec<_> = all.iter().map(|destination| destination.abilities().mode).collect();
        use crate::notify::sinks::DeliveryMode::{Edits, Lines, Threads};
        assert_eq!(modes, [Threads, Edits, Lines, Lines, Lines]);
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
