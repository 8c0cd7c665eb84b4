//! Mail by SES: the title as subject, a plain text, and nothing that could be taken for markup.

use aws_config::{Region, SdkConfig};
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message as Letter};
use futures::future::BoxFuture;

use crate::announce::Message;

use super::plain;
use super::sdk::{self, Call};
use super::sink::{Sink, SinkError, Trouble};

/// One sender and everybody who gets its mail.
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
            call.failed(&error, |code, words| self.meaning(code, words))
        })
    }

    /// What only SES says.
    fn meaning(&self, code: &str, words: &str) -> Option<SinkError> {
        let Self { region, from, .. } = self;
        let closed = |reason, words: String| Some(SinkError::new(Trouble::Closed, reason, words));
        match code {
            "MailFromDomainNotVerifiedException" => closed("SesSenderUnverified", self.unverified()),
            "MessageRejected" if words.contains("not verified") => {
                closed("SesSenderUnverified", self.unverified())
            }
            "BadRequestException" if words.to_ascii_lowercase().contains("address") => closed(
                "SesAddressInvalid",
                format!(
                    "SES takes an address for none: correct notifier.ses.from ({from}) or notifier.ses.to"
                ),
            ),
            "SendingPausedException" => closed(
                "SesSendingPaused",
                format!("SES has paused all mail of the account in {region}: see its console for why"),
            ),
            "AccountSuspendedException" => {
                closed("SesSuspended", format!("the account may send no mail by SES in {region} any more"))
            }
            "NotFoundException" => closed(
                "SesSenderUnverified",
                format!("SES in {region} does not know {from}: verify it there"),
            ),
            "LimitExceededException" => {
                let words = "the account's mail of a day is used up";
                Some(SinkError::new(Trouble::Transient { after: None }, "SesQuotaUsed", words))
            }
            _ => None,
        }
    }

    fn unverified(&self) -> String {
        let Self { region, from, .. } = self;
        format!(
            "SES in {region} has not verified {from}, or, where the account is in SES's sandbox, somebody in \
             notifier.ses.to: verify them there"
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
