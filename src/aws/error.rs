//! The one table that maps responses of AWS, and missing responses, to classes. Callers do not look at error codes:
//! there is a predicate here for every distinction that they need.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::causes::{causes, find, root};
use super::codes::{
    BUSY, CLUSTER_UPGRADING, CONFLICT, FULL, INVALID, LAUNCH, LOCKED, NO_GROUP, NOT_ALLOWED, NOT_FOUND,
    TOO_OLD, UNSIGNED, USES_TEMPLATE, VAGUE,
};
use super::credentials::{self, Explained};
use crate::api::aws_codes::{DENIED, EXPIRED, REJECTED, THROTTLED};
use crate::api::{Class, network, steady};

/// Delay after expired credentials. They are renewed by another process, which does not notify the agent.
const RENEWAL: Duration = Duration::from_secs(60);

/// Longest delay that a server may request, so that an object never looks forgotten.
const MOST_PATIENCE: Duration = Duration::from_secs(600);

/// EC2 appends kilobytes of encoded policy to a denial. Nothing in it helps a reader.
const ENCODED: &str = "Encoded authorization failure message";

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct AwsError {
    class: Class,
    /// `ec2:DescribeImages`: service and operation, which is also the IAM action.
    operation: String,
    /// AWS's error code and message.
    message: String,
    /// AWS's error code alone, if there was a response.
    code: Option<String>,
    /// AWS refused this call and does not say whether it will ever accept it.
    refusal: bool,
}

impl AwsError {
    /// Creates an error without an error code of AWS.
    pub fn new(class: Class, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, operation: operation.into(), message: message.into(), code: None, refusal: false }
    }

    pub fn class(&self) -> Class {
        self.class
    }

    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns service and operation, which is also the IAM action.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Returns AWS's error code and message, without the operation.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns whether the launch template exists, but not this version of it, as EC2 or EKS reports it.
    pub fn is_missing_version(&self) -> bool {
        let missing = ["not found", "does not exist", "could not find", "doesn't exist"];
        let said = self.message.to_lowercase();
        let vague = self.code().is_some_and(|code| VAGUE.contains(&code));
        self.code() == Some("InvalidLaunchTemplateId.VersionNotFound")
            || vague && said.contains("version") && missing.iter().any(|words| said.contains(words))
    }

    /// Returns whether AWS refused the call for a reason that is known neither to pass nor to stay. Such a refusal is
    /// final once it has stayed the same for long enough.
    pub fn may_be_final(&self) -> bool {
        self.refusal
    }

    /// Returns whether the launch template has no room for another version.
    pub fn is_full(&self) -> bool {
        self.code() == Some(FULL)
    }

    /// Returns whether EC2 does not know the ID, because it never existed, is gone, or is malformed.
    pub(super) fn is_unknown_id(&self) -> bool {
        self.class == Class::NotFound || self.code().is_some_and(|code| code.ends_with(".Malformed"))
    }

    /// Creates the error of a call. `operation` has the form `ec2:DescribeImages`, and `host` is where the call was
    /// sent.
    pub(super) fn of_call<E>(operation: String, host: Option<&str>, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let Some(service) = error.as_service_error() {
            let code = service.code().map(str::to_owned);
            let answer = Answer {
                code: code.as_deref(),
                message: service.message(),
                status: error.raw_response().map(|raw| raw.status().as_u16()),
                after: error.raw_response().and_then(patience),
            };
            let (class, refusal) = (answer.class(), answer.is_refusal());
            let message = answer.words(&operation);
            return Self { class, operation, message, code, refusal };
        }
        let (class, message) = no_answer(host.unwrap_or("AWS"), error);
        Self { class, operation, message, code: None, refusal: false }
    }
}

/// The relevant parts of a response of AWS.
struct Answer<'a> {
    code: Option<&'a str>,
    message: Option<&'a str>,
    status: Option<u16>,
    after: Option<Duration>,
}

impl Answer<'_> {
    /// The table. An unknown code is transient: if that is wrong, it costs a few calls, while a wrong "never" stops an
    /// object until a person acts.
    fn class(&self) -> Class {
        let code = self.code.unwrap_or_default();
        if EXPIRED.contains(&code) {
            return Class::Transient { after: Some(RENEWAL) };
        }
        if DENIED.contains(&code) || REJECTED.contains(&code) || self.may_not_launch() {
            return Class::Denied;
        }
        let is_vague = VAGUE.contains(&code);
        if CONFLICT.contains(&code) || is_vague && self.says(&[LOCKED]) {
            return Class::Conflict;
        }
        if NOT_FOUND.contains(&code) || code.ends_with(".NotFound") || is_vague && self.says(&[NO_GROUP]) {
            return Class::NotFound;
        }
        let passes = self.message.is_some_and(|message| message.contains(CLUSTER_UPGRADING));
        if !passes && (INVALID.contains(&code) || code.ends_with(".Malformed")) {
            return Class::Invalid;
        }
        Class::Transient { after: self.after }
    }

    /// Returns whether a vague code means that the caller may not do what the launch template requires.
    fn may_not_launch(&self) -> bool {
        VAGUE.contains(&self.code.unwrap_or_default()) && self.says(NOT_ALLOWED)
    }

    fn says(&self, words: &[&str]) -> bool {
        let said = self.message.unwrap_or_default().to_lowercase();
        words.iter().any(|words| said.contains(words))
    }

    /// Returns whether this call itself was refused, for a reason that is not known to pass.
    fn is_refusal(&self) -> bool {
        let code = self.code.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let passes = status == 408 || status == 429 || THROTTLED.contains(&code) || EXPIRED.contains(&code);
        (400..500).contains(&status)
            && !passes
            && matches!(self.class(), Class::Transient { .. })
            && !self.says(BUSY)
            && !self.says(&[&CLUSTER_UPGRADING.to_lowercase()])
    }

    fn words(&self, operation: &str) -> String {
        let said = self.message.unwrap_or_default();
        let said = said.split(ENCODED).next().unwrap_or(said);
        let said = steady::answer(said.trim());
        let text = match (self.code, self.status) {
            (Some(code), _) if said.is_empty() => code.to_owned(),
            (Some(code), _) => format!("{code}: {said}"),
            (None, Some(status)) => format!("HTTP {status}, without an AWS error code"),
            (None, None) => "an error without a code".to_owned(),
        };
        let code = self.code.unwrap_or_default();
        match code {
            _ if DENIED.contains(&code) && !self.says(&[USES_TEMPLATE]) => {
                format!("{text} (permission needed: {operation})")
            }
            _ if self.may_not_launch() || DENIED.contains(&code) => {
                format!("{text} (permissions needed: {LAUNCH})")
            }
            _ if UNSIGNED.contains(&code) => {
                format!("{text} (check the AWS secret access key, and the clock of the agent's machine)")
            }
            TOO_OLD => format!(
                "{text} (the clock of the agent's machine is wrong, or the AWS credentials have expired; they are \
                 read again)"
            ),
            _ if EXPIRED.contains(&code) => {
                format!("{text} (the AWS credentials have expired; they are read again)")
            }
            _ => text,
        }
    }
}

/// Returns the result of a failed response, as one of a few words for metrics.
pub(super) fn answer_word(response: &HttpResponse) -> &'static str {
    let status = response.status().as_u16();
    let code = code_in(response).unwrap_or_default();
    let code = code.as_str();
    let answer = Answer { code: Some(code), message: None, status: Some(status), after: None };
    match answer.class() {
        _ if status == 429 || THROTTLED.contains(&code) => "throttled",
        Class::Denied => "denied",
        Class::NotFound => "not_found",
        Class::Conflict => "conflict",
        Class::Invalid => "invalid",
        Class::Transient { .. } if EXPIRED.contains(&code) => "denied",
        Class::Transient { .. } if status >= 500 => "server",
        Class::Transient { .. } => "refused",
    }
}

/// Returns the error code of a response that has not been parsed yet: from a header, JSON or XML.
fn code_in(response: &HttpResponse) -> Option<String> {
    // A namespace may precede the code, and an address may follow it.
    let bare = |code: &str| {
        let code = code.split(':').next().unwrap_or(code);
        code.rsplit('#').next().unwrap_or(code).trim().to_owned()
    };
    if let Some(code) = response.headers().get("x-amzn-errortype") {
        return Some(bare(code));
    }
    let body = response.body().bytes()?;
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        return json["__type"].as_str().or(json["code"].as_str()).map(bare);
    }
    let (_, rest) = std::str::from_utf8(body).ok()?.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code.trim().to_owned())
}

/// Returns the delay that the server requests, from `Retry-After` in seconds.
fn patience(response: &HttpResponse) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MOST_PATIENCE))
}

/// Returns the class and the message if no valid response was received.
fn no_answer<E>(host: &str, error: &SdkError<E, HttpResponse>) -> (Class, String)
where
    E: Error + 'static,
{
    if let Some(credentials) = find::<CredentialsError>(error) {
        return no_credentials(credentials);
    }
    match error {
        SdkError::ConstructionFailure(_) => (Class::Invalid, root(error)),
        SdkError::TimeoutError(_) => (Class::TRANSIENT, format!("no response from {host} in time")),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (Class::TRANSIENT, format!("cannot reach {host}: timed out"))
        }
        SdkError::DispatchFailure(_) => {
            (Class::TRANSIENT, format!("cannot reach {host}: {}", not_reached(error)))
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let text = format!("HTTP {status} from {host} is not a response of AWS: {}", root(error));
            (Class::Transient { after: patience(response.raw()) }, text)
        }
        other => (Class::TRANSIENT, root(other)),
    }
}

/// Returns why no connection was established, and the remedy if it is known.
fn not_reached(error: &(dyn Error + 'static)) -> String {
    let words: Vec<String> = causes(error).map(ToString::to_string).collect();
    let root = steady::answer(words.last().map(String::as_str).unwrap_or_default());
    match network::advice(&words.join("\n")) {
        Some(advice) => format!("{advice} ({root})"),
        None => root,
    }
}

/// Returns the class and the message for missing credentials. If there are none at all, the backoff is long, as for a
/// denial, because a person must provide some. A provider that fails (an unavailable metadata service, a token that is
/// not renewed yet) is worth a retry.
fn no_credentials(error: &CredentialsError) -> (Class, String) {
    let class = match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            Class::Denied
        }
        _ => Class::TRANSIENT,
    };
    let message = match find::<Explained>(error) {
        Some(explained) => explained.to_string(),
        None => credentials::explained(error, None).1,
    };
    (class, message)
}

#[cfg(test)]
mod tests;
