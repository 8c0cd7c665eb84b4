//! Amazon SNS: publishes messages to a topic, with an ASCII subject and plain text.

use aws_config::{Region, SdkConfig};
use aws_sdk_sns::types::MessageAttributeValue;
use futures::future::BoxFuture;

use crate::announce::Message;

use super::plain;
use super::sdk::{self, Call};
use super::text::ascii;
use super::webhook::stable_key;
use super::{Abilities, DeliveryMode, PACE, Sink, SinkError, Trouble};

pub const ABILITIES: Abilities = Abilities { kind: "sns", mode: DeliveryMode::Lines, pace: PACE };

/// SNS's limit. A subject must be ASCII.
const SUBJECT: usize = 100;

/// A topic.
pub struct Topic {
    sdk: aws_sdk_sns::Client,
    arn: String,
}

impl Topic {
    /// Returns the topic of an ARN, in the region that the ARN contains.
    pub fn new(config: &SdkConfig, arn: &str) -> Result<Self, String> {
        let parts: Vec<&str> = arn.split(':').collect();
        let region = match parts.as_slice() {
            ["arn", partition, "sns", region, account, name]
                if [partition, region, account, name].iter().all(|part| is_plain(part)) =>
            {
                *region
            }
            _ => return Err(format!("{arn:?} is not the ARN of an SNS topic")),
        };
        let config = aws_sdk_sns::config::Builder::from(config)
            .region(Region::new(region.to_owned()))
            .timeout_config(sdk::limits())
            .retry_config(sdk::retries())
            .build();
        Ok(Self { sdk: aws_sdk_sns::Client::from_conf(config), arn: arn.to_owned() })
    }

    async fn publish(&self, message: &Message, thread: Option<&str>) -> Result<(), SinkError> {
        let mut call = self
            .sdk
            .publish()
            .topic_arn(&self.arn)
            .subject(ascii(&message.title, SUBJECT))
            .message(plain::body(message))
            .message_attributes("reason", word(message.reason.as_ref()))
            .message_attributes("event", word(&message.id));
        if self.arn.ends_with(".fifo") {
            let key = stable_key(message, thread);
            call = call.message_group_id("opsy").message_deduplication_id(key);
        }
        let answer = call.send().await;
        answer.map(drop).map_err(|error| {
            let call =
                Call { service: "SNS", action: "sns:Publish", on: &self.arn, denied: "SnsAccessDenied" };
            call.failed(&error, |code, message| self.meaning(code, message))
        })
    }

    /// Returns the meaning of the errors that only SNS has.
    fn meaning(&self, code: &str, message: &str) -> Option<SinkError> {
        let arn = &self.arn;
        let closed = |reason, message: String| Some(SinkError::new(Trouble::Closed, reason, message));
        let parameter =
            matches!(code, "InvalidParameter" | "InvalidParameterValue" | "ParameterValueInvalid");
        match code {
            "NotFound" | "NotFoundException" => closed(
                "SnsTopicNotFound",
                format!("topic {arn} does not exist: correct notifier.sns.topicARN"),
            ),
            _ if parameter && message.contains("TopicArn") => closed(
                "SnsTopicInvalid",
                format!("SNS does not accept {arn} as a topic: correct notifier.sns.topicARN"),
            ),
            "KMSThrottling" | "KMSThrottlingException" => None,
            _ if code.starts_with("KMS") => closed(
                "SnsKeyDenied",
                format!(
                    "the key that encrypts {arn} cannot be used: allow kms:GenerateDataKey and kms:Decrypt \
                     on it, in IAM and in the key policy"
                ),
            ),
            _ => None,
        }
    }
}

impl Sink for Topic {
    fn post<'a>(
        &'a self,
        message: &'a Message,
        thread: Option<&'a str>,
        _: bool,
    ) -> BoxFuture<'a, Result<Option<String>, SinkError>> {
        Box::pin(async move { self.publish(message, thread).await.map(|()| None) })
    }
}

/// Returns an attribute by which subscriptions can filter.
fn word(text: &str) -> MessageAttributeValue {
    let value = MessageAttributeValue::builder().data_type("String").string_value(text);
    value.build().expect("the one member that must be set is set")
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
