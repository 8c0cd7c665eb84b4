//! Mail through Amazon SES: the title as subject, and the message as plain text.

use aws_config::{Region, SdkConfig};
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message as Letter};
use futures::future::BoxFuture;

use crate::announce::Message;

use super::plain;
use super::sdk::{self, Call};
use super::{Abilities, DeliveryMode, PACE, Sink, SinkError, Trouble};

pub const ABILITIES: Abilities = Abilities { kind: "ses", mode: DeliveryMode::Lines, pace: PACE };

/// One sender and its recipients.
pub struct Mail {
    sdk: aws_sdk_sesv2::Client,
    region: String,
    from: String,
    to: Vec<String>,
}

impl Mail {
    pub fn new(config: &SdkConfig, region: &str, from: String, to: Vec<String>) -> Self {
        let config = aws_sdk_sesv2::config::Builder::from(config)
            .region(Region::new(region.to_owned()))
            .timeout_config(sdk::limits())
            .retry_config(sdk::retries())
            .build();
        Self { sdk: aws_sdk_sesv2::Client::from_conf(config), region: region.to_owned(), from, to }
    }

    async fn send(&self, message: &Message) -> Result<(), SinkError> {
        let text = |text: String| {
            Content::builder()
                .data(text)
                .charset("UTF-8")
                .build()
                .expect("the one member that must be set is set")
        };
        let letter = Letter::builder()
            .subject(text(plain::subject(message)))
            .body(Body::builder().text(text(plain::body(message))).build())
            .build();
        let answer = self
            .sdk
            .send_email()
            .from_email_address(&self.from)
            .destination(Destination::builder().set_to_addresses(Some(self.to.clone())).build())
            .content(EmailContent::builder().simple(letter).build())
            .send()
            .await;
        answer.map(drop).map_err(|error| {
            let call =
                Call { service: "SES", action: "ses:SendEmail", on: &self.from, denied: "SesAccessDenied" };
            call.failed(&error, |code, message| self.meaning(code, message))
        })
    }

    /// Returns the meaning of the errors that only SES has.
    fn meaning(&self, code: &str, message: &str) -> Option<SinkError> {
        let Self { region, from, .. } = self;
        let closed = |reason, message: String| Some(SinkError::new(Trouble::Closed, reason, message));
        match code {
            "MailFromDomainNotVerifiedException" => closed("SesSenderUnverified", self.unverified()),
            "MessageRejected" if message.contains("not verified") => {
                closed("SesSenderUnverified", self.unverified())
            }
            "BadRequestException" if message.to_ascii_lowercase().contains("address") => closed(
                "SesAddressInvalid",
                format!(
                    "SES rejects an address as invalid: correct notifier.ses.from ({from}) or notifier.ses.to"
                ),
            ),
            "SendingPausedException" => closed(
                "SesSendingPaused",
                format!(
                    "SES has paused sending for the account in {region}: resolve the reason that its console shows"
                ),
            ),
            "AccountSuspendedException" => closed(
                "SesSuspended",
                format!("SES has suspended the account in {region}: contact AWS Support"),
            ),
            "NotFoundException" => closed(
                "SesSenderUnverified",
                format!("{from} is not an identity in SES in {region}: verify it there"),
            ),
            "LimitExceededException" => {
                let message = "the account has used up its sending quota in SES";
                Some(SinkError::new(Trouble::Transient { after: None }, "SesQuotaUsed", message))
            }
            _ => None,
        }
    }

    fn unverified(&self) -> String {
        let Self { region, from, .. } = self;
        format!(
            "{from} is not verified in SES in {region}, or the account is in the SES sandbox and a recipient \
             in notifier.ses.to is not verified: verify them there"
        )
    }
}

impl Sink for Mail {
    fn post<'a>(
        &'a self,
        message: &'a Message,
        _: Option<&'a str>,
        _: bool,
    ) -> BoxFuture<'a, Result<Option<String>, SinkError>> {
        Box::pin(async move { self.send(message).await.map(|()| None) })
    }
}
