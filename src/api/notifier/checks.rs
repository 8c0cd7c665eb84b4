//! Validation of a notifier: errors, and notes about what is probably a mistake. Both kinds share these rules. Pure.
//!
//! The operator accepts anything in the Slack block, so problems there are only notes, except for an invalid name of a
//! Secret: a notification must not stop a build. The other sinks exist only in Opsy, and an incomplete one is an error.

use super::{Notifier, Ses, Slack};
use crate::api::Region;
use crate::api::checks::{Problem, Problems, written};

/// Path of the notifier in both kinds.
const AT: &str = "spec.notifier";
/// Maximum number of recipients of a message in SES.
const MOST_RECIPIENTS: usize = 50;
/// Maximum length of the name of a topic.
const TOPIC_NAME_LIMIT: usize = 256;
/// Maximum length of the part before the `@`.
const MAILBOX_LIMIT: usize = 64;
/// Characters that must be quoted in an address, or that separate two addresses.
const NOT_IN_ADDRESSES: &str = ",;:<>()[]\"\\";

/// Records everything that is wrong with a notifier.
pub fn check(notifier: Option<&Notifier>, problems: &mut Problems) {
    let Some(notifier) = notifier else { return };
    let slack = notifier.slack.as_ref().and_then(|slack| slack.secret.as_ref());
    problems.name(&format!("{AT}.slack.secret"), slack);
    if let Some(discord) = &notifier.discord {
        let what = "missing: name the Secret that contains the URL of the webhook (key url)";
        secret(&format!("{AT}.discord.secret"), discord.secret.as_ref(), what, problems);
    }
    if let Some(webhook) = &notifier.webhook {
        let what = "missing: name the Secret that contains the URL (key url) and the signing key (key key)";
        secret(&format!("{AT}.webhook.secret"), webhook.secret.as_ref(), what, problems);
    }
    if let Some(sns) = &notifier.sns {
        let path = format!("{AT}.sns.topicARN");
        match written(sns.topic_arn.as_ref()) {
            None => problems.add(path, "missing: set the ARN of the topic"),
            Some(arn) if !is_topic(arn) => {
                let due = "arn:aws:sns:<region>:<account>:<name>";
                problems.add(path, format!("{arn:?} is not the ARN of an SNS topic ({due})"));
            }
            Some(_) => {}
        }
    }
    if let Some(ses) = &notifier.ses {
        mail(ses, problems);
    }
}

fn secret(path: &str, name: Option<&String>, what: &str, problems: &mut Problems) {
    if written(name).is_none() {
        problems.add(path, what);
    }
    problems.name(path, name);
}

fn mail(ses: &Ses, problems: &mut Problems) {
    let mut address = |path: String, text: &str| {
        if !is_address(text) {
            problems.add(path, format!("{text:?} is not an email address (write only name@example.com)"));
        }
    };
    if let Some(from) = written(ses.from.as_ref()) {
        address(format!("{AT}.ses.from"), from);
    }
    let to = ses.to.as_deref().unwrap_or_default();
    for (index, text) in to.iter().enumerate() {
        address(format!("{AT}.ses.to[{index}]"), text);
    }
    if written(ses.from.as_ref()).is_none() {
        problems.add(format!("{AT}.ses.from"), "missing: set the address of the verified sender");
    }
    if to.is_empty() {
        problems.add(format!("{AT}.ses.to"), "missing: set the addresses of the recipients");
    }
    if to.len() > MOST_RECIPIENTS {
        let words = format!("{} recipients are too many: SES allows at most {MOST_RECIPIENTS}", to.len());
        problems.add(format!("{AT}.ses.to"), words);
    }
    if let Some(region) = written(ses.region.as_ref()) {
        problems.region(&format!("{AT}.ses.region"), region);
    }
}

/// Returns notes about a notifier that is valid but does not send what its author probably expects.
pub fn notes(notifier: &Notifier) -> Vec<Problem> {
    let mut notes = Vec::new();
    if let Some(slack) = &notifier.slack {
        slack_notes(slack, &mut notes);
    }
    let region = notifier.ses.as_ref().and_then(|ses| ses.region.as_deref());
    if region == Some("") {
        notes.push((format!("{AT}.ses.region"), "is empty and counts as not set".to_owned()));
    }
    notes
}

fn slack_notes(slack: &Slack, notes: &mut Vec<Problem>) {
    if written(slack.secret.as_ref()).is_none() {
        let words = "names no Secret, so no messages are sent to Slack";
        notes.push((format!("{AT}.slack.secret"), words.to_owned()));
    }
    for (index, channel) in slack.channel_ids.iter().flatten().enumerate() {
        let words = match channel.as_str() {
            "" => "is empty and counts as not set".to_owned(),
            id if is_channel_id(id) => continue,
            name if is_channel_name(name) => {
                format!(
                    "{name:?} is the name of a channel: use the channel ID, which the details of the channel show"
                )
            }
            odd => format!("{odd:?} is not a channel ID (C, G or D, followed by capital letters and digits)"),
        };
        notes.push((format!("{AT}.slack.channelIDs[{index}]"), words));
    }
}

/// Channels, groups and direct messages. Slack also accepts the ID of a person (U, W) for direct messages to them.
fn is_channel_id(text: &str) -> bool {
    let rest = text.strip_prefix(['C', 'G', 'D', 'U', 'W']).unwrap_or_default();
    !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

/// With its `#`, or without it, as people write it.
fn is_channel_name(text: &str) -> bool {
    text.starts_with('#')
        || text.chars().all(|c| !c.is_uppercase() && (c.is_alphanumeric() || "-_".contains(c)))
}

fn is_topic(arn: &str) -> bool {
    let parts: Vec<&str> = arn.split(':').collect();
    let &["arn", partition, "sns", region, account, name] = parts.as_slice() else { return false };
    let name = name.strip_suffix(".fifo").unwrap_or(name);
    let in_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    partition.starts_with("aws")
        && partition.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        && Region::parse(region).is_ok()
        && account.len() == 12
        && account.chars().all(|c| c.is_ascii_digit())
        && (1..=TOPIC_NAME_LIMIT).contains(&name.len())
        && name.chars().all(in_name)
}

/// SES accepts only ASCII. Domains with other characters have an ASCII form.
fn is_address(text: &str) -> bool {
    let Some((mailbox, domain)) = text.split_once('@') else { return false };
    let fits = |c: char| c.is_ascii_graphic() && c != '@' && !NOT_IN_ADDRESSES.contains(c);
    let is_label =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    (1..=MAILBOX_LIMIT).contains(&mailbox.len())
        && mailbox.chars().all(fits)
        && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(notifier: Value) -> Notifier {
        serde_json::from_value(notifier).expect("a notifier")
    }

    /// Returns the problems, one per string.
    fn problems(notifier: Value) -> Vec<String> {
        let mut found = Problems::default();
        check(Some(&read(notifier)), &mut found);
        found.0.into_iter().map(|(path, words)| format!("{path}: {words}")).collect()
    }

    #[test]
    fn what_is_complete_has_no_problems_and_no_notes() {
        for notifier in [
            json!({}),
            json!({"slack": {"channelIDs": ["C0123456789", "G012AB", "D0", "U024BE7LH"], "secret": "slack"}}),
            json!({"slack": {"secret": "an.incoming-webhook"}}),
            json!({"discord": {"secret": "discord"}, "webhook": {"secret": "hook"}}),
            json!({"sns": {"topicARN": "arn:aws-us-gov:sns:us-gov-west-1:111122223333:Opsy_told.fifo"}}),
            json!({"ses": {"from": "opsy@example.com", "to": ["a.b+c@mail.example.com"], "region": "eu-west-1"}}),
        ] {
            assert_eq!(problems(notifier.clone()), [""; 0], "{notifier}");
            assert_eq!(notes(&read(notifier.clone())), [], "{notifier}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (notifier, due) in [
            (
                json!({"discord": {}}),
                "spec.notifier.discord.secret: missing: name the Secret that contains the URL of the webhook (key url)",
            ),
            (
                json!({"webhook": {"secret": ""}}),
                "spec.notifier.webhook.secret: missing: name the Secret that contains the URL (key url) and the \
                 signing key (key key)",
            ),
            (json!({"sns": {}}), "spec.notifier.sns.topicARN: missing: set the ARN of the topic"),
            (
                json!({"ses": {"to": ["a@b"]}}),
                "spec.notifier.ses.from: missing: set the address of the verified sender",
            ),
            (
                json!({"ses": {"from": "a@b", "to": []}}),
                "spec.notifier.ses.to: missing: set the addresses of the recipients",
            ),
            (
                json!({"ses": {"from": "a@b", "to": vec!["a@b"; 51]}}),
                "spec.notifier.ses.to: 51 recipients are too many: SES allows at most 50",
            ),
        ] {
            assert_eq!(problems(notifier), [due]);
        }
    }

    #[test]
    fn names_of_secrets_and_regions_are_held_against_their_rules() {
        let bad = json!({"slack": {"secret": "A"}, "discord": {"secret": "../x"}, "webhook": {"secret": "x y"},
            "ses": {"from": "a@b", "to": ["a@b"], "region": "nowhere"}});
        let found = problems(bad);
        let paths: Vec<_> = found.iter().filter_map(|line| line.split(": ").next()).collect();
        let due = ["slack.secret", "discord.secret", "webhook.secret", "ses.region"];
        assert_eq!(paths, due.map(|path| format!("spec.notifier.{path}")), "{found:?}");
    }

    #[test]
    fn topics_are_arns_of_sns() {
        for arn in [
            "images",
            "arn:aws:sqs:us-east-1:111122223333:images",
            "arn:aws:sns:us-east-1:111122223333",
            "arn:aws:sns:us-east-1:111122223333:images:6b0e71bd-7e97-4d97-80ce-4a0994e55286",
            "arn:aws:sns::111122223333:images",
            "arn:aws:sns:us-east-1:1111:images",
            "arn:aws:sns:us-east-1:111122223333:",
            "arn:aws:sns:us-east-1:111122223333:a b",
            "arn:gcp:sns:us-east-1:111122223333:images",
        ] {
            let found = problems(json!({"sns": {"topicARN": arn}}));
            assert!(
                found.len() == 1 && found[0].contains("is not the ARN of an SNS topic"),
                "{arn}: {found:?}"
            );
        }
    }

    #[test]
    fn addresses_are_plain_ones() {
        for text in [
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            " a@b",
            "a@b ",
            "a@b\n",
            "a,c@b",
            "Ops <a@b>",
            "a@b..c",
            "ä@b",
            "a@b\u{0}",
            "\"a\"@b",
        ] {
            let found = problems(json!({"ses": {"from": text, "to": [text]}}));
            assert!(found.len() == 2 && found[0].contains("not an email address"), "{text:?}: {found:?}");
        }
    }

    #[test]
    fn what_the_operator_took_is_only_noted() {
        for (slack, due) in [
            (
                json!({"channelIDs": ["C01"]}),
                vec![("secret", "names no Secret, so no messages are sent to Slack")],
            ),
            (json!({"secret": ""}), vec![("secret", "names no Secret, so no messages are sent to Slack")]),
            (
                json!({"secret": "s", "channelIDs": ["#images", "images", "", "C-1", "https://x"]}),
                vec![
                    (
                        "channelIDs[0]",
                        "\"#images\" is the name of a channel: use the channel ID, which the details of the channel show",
                    ),
                    (
                        "channelIDs[1]",
                        "\"images\" is the name of a channel: use the channel ID, which the details of the channel show",
                    ),
                    ("channelIDs[2]", "is empty and counts as not set"),
                    (
                        "channelIDs[3]",
                        "\"C-1\" is not a channel ID (C, G or D, followed by capital letters and digits)",
                    ),
                    (
                        "channelIDs[4]",
                        "\"https://x\" is not a channel ID (C, G or D, followed by capital letters and digits)",
                    ),
                ],
            ),
        ] {
            let notifier = json!({ "slack": slack });
            assert_eq!(problems(notifier.clone()), [""; 0], "{notifier}");
            let due: Vec<_> = due
                .into_iter()
                .map(|(field, words)| (format!("spec.notifier.slack.{field}"), words.to_owned()))
                .collect();
            assert_eq!(notes(&read(notifier)), due);
        }
    }
}
