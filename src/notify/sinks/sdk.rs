//! What `sns` and `ses` share: the limits of the SDK clients, and the meaning of AWS errors for a message.

use std::error::Error;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::{SinkError, Trouble};
use crate::api::aws_codes::{DENIED, EXPIRED, REJECTED, THROTTLED};
use crate::api::network;

/// Time limit of a connection. AWS accepts connections within milliseconds.
const CONNECT: Duration = Duration::from_secs(3);
/// Time limit of a whole call. A response that takes longer is most likely lost.
const CALL: Duration = Duration::from_secs(15);
/// Pause after expired credentials. Something else renews them, without a notification.
const RENEWAL: Duration = Duration::from_secs(60);

/// Returns time limits: the SDK has none by default.
pub(super) fn limits() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(CALL).build()
}

/// Disables the retries of the SDK: after a lost response it would send the message again, and so deliver it twice.
pub(super) fn retries() -> RetryConfig {
    RetryConfig::disabled()
}

/// The call that failed, for messages.
pub(super) struct Call<'a> {
    /// `SNS`.
    pub(super) service: &'static str,
    /// `sns:Publish`, which is also the IAM action.
    pub(super) action: &'static str,
    /// The resource that the action needs permission for.
    pub(super) on: &'a str,
    /// The reason to report if the call is denied.
    pub(super) denied: &'static str,
}

impl Call<'_> {
    /// Returns the meaning of an error. `table` returns the meanings that only this service has, by code and message.
    pub(super) fn failed<E>(
        &self,
        error: &SdkError<E, HttpResponse>,
        table: impl FnOnce(&str, &str) -> Option<SinkError>,
    ) -> SinkError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Some(answer) = error.as_service_error() else { return self.no_answer(error) };
        let code = answer.code().unwrap_or_default();
        let status = error.raw_response().map_or(0, |raw| raw.status().as_u16());
        table(code, answer.message().unwrap_or_default()).unwrap_or_else(|| self.answered(code, status))
    }

    fn answered(&self, code: &str, status: u16) -> SinkError {
        let Self { service, action, on, denied } = self;
        let is = |codes: &[&str]| codes.contains(&code);
        let (kind, reason, message) = match status {
            _ if is(DENIED) => {
                (Trouble::Closed, *denied, format!("AWS denies {action} on {on}: allow it in IAM"))
            }
            _ if is(REJECTED) => (
                Trouble::Closed,
                "AwsCredentialsRejected",
                format!(
                    "AWS rejects the agent's credentials for {action} ({code}): check the credentials, the account and the clock"
                ),
            ),
            _ if is(EXPIRED) => (
                Trouble::Transient { after: Some(RENEWAL) },
                "AwsCredentialsExpired",
                format!("the AWS credentials for {action} have expired; Opsy reads them again"),
            ),
            _ if status == 429 || is(THROTTLED) => {
                let message = format!("{service}: rate limit reached");
                (Trouble::Transient { after: None }, "RateLimited", message)
            }
            500.. | 408 => {
                let message = format!("{service} is unavailable (HTTP {status})");
                (Trouble::Transient { after: None }, "ServerError", message)
            }
            _ => (
                Trouble::Refused,
                "MessageRefused",
                format!("{service} rejects this message (HTTP {status}{})", known(code)),
            ),
        };
        SinkError::new(kind, reason, message)
    }

    /// Returns the error for a call without a response. A call that was never sent can be repeated without risk; one
    /// that was sent may have taken effect.
    fn no_answer<E>(&self, error: &SdkError<E, HttpResponse>) -> SinkError
    where
        E: Error + 'static,
    {
        let service = self.service;
        if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
            return no_credentials(self.action, error);
        }
        let transient = Trouble::Transient { after: None };
        match error {
            SdkError::ConstructionFailure(_) => {
                let message = format!("the configured values cannot be used for a request to {service}");
                SinkError::new(Trouble::Closed, "RequestInvalid", message)
            }
            SdkError::ResponseError(answer) if answer.raw().status().as_u16() >= 500 => {
                let message = format!("{service} is unavailable (HTTP {})", answer.raw().status().as_u16());
                SinkError::new(transient, "ServerError", message)
            }
            _ if never_left(error) => {
                let messages: Vec<String> = causes(error).map(ToString::to_string).collect();
                let advice = network::advice(&messages.join("\n")).map(|advice| format!(": {advice}"));
                let message = format!("cannot reach {service}{}", advice.unwrap_or_default());
                SinkError::new(transient, "Unreachable", message)
            }
            _ => SinkError::new(Trouble::Unclear, "NoAnswer", format!("{service} did not respond")),
        }
    }
}

fn no_credentials(action: &str, error: &CredentialsError) -> SinkError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            let message =
                format!("no AWS credentials for {action}: assign an IAM role to the pod or the machine");
            SinkError::new(Trouble::Closed, "AwsCredentialsMissing", message)
        }
        _ => {
            let message = format!("the AWS credentials for {action} are not available at the moment");
            SinkError::new(Trouble::Transient { after: None }, "AwsCredentialsMissing", message)
        }
    }
}

/// Returns whether no connection was established. The error kinds of the SDK do not distinguish this from a broken
/// connection, but the message of its HTTP client does.
fn never_left(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.to_string().contains("(Connect)"))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Returns an error code for a message, unless it does not look like one.
fn known(code: &str) -> String {
    let is_code = (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_code { format!(", {code}") } else { String::new() }
}
