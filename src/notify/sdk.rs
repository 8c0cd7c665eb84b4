//! What topics and mail have in common: limits of the SDK's clients, and what errors of AWS mean for a
//! message.

use std::error::Error;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::sink::{SinkError, Trouble};
use crate::api::network;

/// AWS's front doors answer a connection in milliseconds.
const CONNECT: Duration = Duration::from_secs(3);
/// A whole call; anything longer is a lost answer.
const CALL: Duration = Duration::from_secs(15);
/// Credentials are renewed by somebody else, without telling us.
const RENEWAL: Duration = Duration::from_secs(60);

const DENIED: &[&str] = &[
    "AuthorizationError",
    "AccessDenied",
    "AccessDeniedException",
    "NotAuthorized",
    "UnauthorizedOperation",
];
const REJECTED: &[&str] = &[
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "InvalidSecurity",
    "AuthFailure",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "OptInRequired",
];
const EXPIRED: &[&str] = &["RequestExpired", "ExpiredToken", "ExpiredTokenException"];
const THROTTLED: &[&str] = &[
    "Throttled",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "TooManyRequestsException",
    "KMSThrottling",
    "KMSThrottlingException",
    "SlowDown",
];

/// The SDK has no time-outs of its own.
pub(super) fn limits() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(CALL).build()
}

/// The SDK would send a message again whose answer was lost, and so say it twice.
pub(super) fn retries() -> RetryConfig {
    RetryConfig::disabled()
}

/// A call that did not work.
pub(super) struct Call<'a> {
    /// `SNS`.
    pub(super) service: &'static str,
    /// `sns:Publish`, which is also the IAM action.
    pub(super) action: &'static str,
    /// What the action was to be allowed on.
    pub(super) on: &'a str,
    pub(super) denied: &'static str,
}

impl Call<'_> {
    /// What an error means, where `table` has no meaning of the service's own for its code and words.
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
        let (kind, reason, words) = match status {
            _ if is(DENIED) => {
                (Trouble::Closed, *denied, format!("AWS denies {action} on {on}: allow it in IAM"))
            }
            _ if is(REJECTED) => (
                Trouble::Closed,
                "AwsCredentialsRejected",
                format!("AWS does not take the agent's credentials for {action} ({code})"),
            ),
            _ if is(EXPIRED) => (
                Trouble::Transient { after: Some(RENEWAL) },
                "AwsCredentialsExpired",
                format!("the AWS credentials have expired ({action}); they are read again"),
            ),
            _ if status == 429 || is(THROTTLED) => {
                let words = format!("{service} asks for a pause");
                (Trouble::Transient { after: None }, "RateLimited", words)
            }
            500.. | 408 => {
                let words = format!("{service} is in trouble (HTTP {status})");
                (Trouble::Transient { after: None }, "ServerError", words)
            }
            _ => (
                Trouble::Refused,
                "MessageRefused",
                format!("{service} refuses this message (HTTP {status}{})", known(code)),
            ),
        };
        SinkError::new(kind, reason, words)
    }

    /// A call that never left may be made again; one that did may have done its work.
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
                let words = format!("no request to {service} can be made with what is configured");
                SinkError::new(Trouble::Closed, "RequestInvalid", words)
            }
            SdkError::ResponseError(answer) if answer.raw().status().as_u16() >= 500 => {
                let words = format!("{service} is in trouble (HTTP {})", answer.raw().status().as_u16());
                SinkError::new(transient, "ServerError", words)
            }
            _ if never_left(error) => {
                let said: Vec<String> = causes(error).map(ToString::to_string).collect();
                let advice = network::advice(&said.join("\n")).map(|advice| format!(": {advice}"));
                let words = format!("cannot reach {service}{}", advice.unwrap_or_default());
                SinkError::new(transient, "Unreachable", words)
            }
            _ => SinkError::new(Trouble::Unclear, "NoAnswer", format!("{service} did not answer")),
        }
    }
}

fn no_credentials(action: &str, error: &CredentialsError) -> SinkError {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            let words = format!("no AWS credentials for {action}: give the pod or the machine a role");
            SinkError::new(Trouble::Closed, "AwsCredentialsMissing", words)
        }
        _ => {
            let words = format!("no AWS credentials for {action} at the moment");
            SinkError::new(Trouble::Transient { after: None }, "AwsCredentialsMissing", words)
        }
    }
}

/// Whether there never was a connection. The SDK's kinds of errors do not tell that from a connection
/// that broke; the words of its HTTP client do.
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

/// A code, where it has the form of one.
fn known(code: &str) -> String {
    let is_code = (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_code { format!(", {code}") } else { String::new() }
}
