//! Which destinations a namespace may use. Pure.
//!
//! Slack, Discord and webhooks need a Secret of the namespace. SNS and SES are used with the agent's own credentials,
//! so a namespace may use only the topics and recipients that the agent's flags allow it.

use super::destination::Destination;
use crate::api::fence::Fence;

/// What each namespace may send to with the agent's credentials.
pub struct Fences {
    pub topics: Fence,
    pub recipients: Fence,
    /// The agent's own namespace. The destinations in `opsy.yaml` belong to it.
    pub own: String,
}

/// The destinations of an object.
#[derive(Debug, Default, PartialEq)]
pub struct Addressed {
    pub to: Vec<Destination>,
    /// Why some destinations are left out: reason and message.
    pub refused: Option<(&'static str, String)>,
}

impl Fences {
    /// Retains the destinations that `namespace` may use. Without a namespace, they are those of `opsy.yaml`.
    pub fn keep(&self, namespace: Option<&str>, mut to: Vec<Destination>) -> Addressed {
        let namespace = namespace.unwrap_or(&self.own);
        let mut refused = None;
        to.retain(|destination| match self.refusal(namespace, destination) {
            Some(why) => {
                refused.get_or_insert(("DestinationNotAllowed", why));
                false
            }
            None => true,
        });
        Addressed { to, refused }
    }

    fn refusal(&self, namespace: &str, destination: &Destination) -> Option<String> {
        let (what, advice) = match destination {
            Destination::Sns { topic } => {
                (format!("SNS topic {topic}"), self.topics.refusal(namespace, topic)?)
            }
            Destination::Ses { to, .. } => {
                let refused = |to: &String| Some((to.clone(), self.recipients.refusal(namespace, to)?));
                let (to, advice) = to.iter().find_map(refused)?;
                (format!("SES for mail to {to}"), advice)
            }
            _ => return None,
        };
        Some(format!("namespace {namespace} may not use {what} with the agent's credentials: {advice}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fences(topics: &[&str], recipients: &[&str]) -> Fences {
        let fence = |flag, rules: &[&str]| {
            let rules = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
            Fence::new(flag, Some("opsy".to_owned()), rules)
        };
        Fences {
            topics: fence("--notify-topics", topics),
            recipients: fence("--notify-recipients", recipients),
            own: "opsy".to_owned(),
        }
    }

    fn all(namespace: &str) -> Vec<Destination> {
        let notifier = json!({"slack": {"secret": "s", "channelIDs": ["C1"]},
            "sns": {"topicARN": "arn:aws:sns:us-east-1:111122223333:nodes"},
            "ses": {"from": "opsy@example.com", "to": ["a@example.com", "b@elsewhere.test"]}});
        let notifier = serde_json::from_value(notifier).expect("a notifier");
        Destination::of(Some(&notifier), namespace, Some("us-east-1"))
    }

    fn names(addressed: &Addressed) -> Vec<String> {
        addressed.to.iter().map(Destination::name).collect()
    }

    #[test]
    fn a_namespace_reaches_with_the_agents_credentials_what_a_rule_allows() {
        let closed = fences(&[], &[]);
        let tenant = closed.keep(Some("tenant"), all("tenant"));
        assert_eq!(names(&tenant), ["slack/C1"], "it may use its own Secret");
        let (reason, why) = tenant.refused.expect("the topic is refused");
        assert_eq!(reason, "DestinationNotAllowed");
        assert!(why.starts_with("namespace tenant may not use SNS topic arn:aws:sns:"), "{why}");
        assert!(why.ends_with(":nodes to allow it") && why.contains("--notify-topics=tenant="), "{why}");
        for own in [closed.keep(Some("opsy"), all("opsy")), closed.keep(None, all("anywhere"))] {
            assert_eq!((own.to.len(), own.refused), (3, None));
        }
        let open = fences(&["tenant=arn:aws:sns:*:nodes"], &["tenant=*@example.com"]);
        let mail = open.keep(Some("tenant"), all("tenant"));
        assert_eq!(names(&mail), ["slack/C1", "sns/arn:aws:sns:us-east-1:111122223333:nodes"]);
        assert!(
            mail.refused.expect("one recipient is refused").1.contains("SES for mail to b@elsewhere.test")
        );
    }
}
