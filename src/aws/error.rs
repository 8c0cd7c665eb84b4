//! The one table from AWS's answers, and from answers that never came, to classes. Nobody else
//! looks at an error code; what callers must tell apart has a predicate here.

mod codes;

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::credentials::{self, Explained};
use crate::api::{Class, network, steady};
use codes::{
    BUSY, CLUSTER_UPGRADING, CONFLICT, EXPIRED, FULL, INVALID, LAUNCH, NOT_ALLOWED, NOT_FOUND, THROTTLED,
    TOO_OLD, UNSIGNED, VAGUE,
};
pub(super) use codes::{DENIED, REJECTED};

/// Credentials are renewed by somebody else, without telling us: look again soon, but not at once.
const RENEWAL: Duration = Duration::from_secs(60);

/// A server may ask for patience, but never for so much that an object looks forgotten.
const MOST_PATIENCE: Duration = Duration::from_secs(600);

/// EC2 appends kilobytes of encoded policy to a denial; nothing in there helps a reader.
const ENCODED: &str = "Encoded authorization failure message";

/// What to do where credentials are missing.
pub(super) const GIVE_SOME: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod (EKS Pod \
                         Identity, IRSA) or the machine (instance profile) a role";

/// A call that did not work.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation}: {message}")]
pub struct AwsError {
    class: Class,
    /// `ec2:DescribeImages`: service and operation, which is also the IAM action.
    operation: String,
    /// AWS's code and words.
    message: String,
    /// AWS's error code alone, if it answered.
    code: Option<String>,
    /// AWS refused this call, and does not say whether it ever will accept it.
    refusal: bool,
}

impl AwsError {
    /// A failure found before anything was sent.
    pub fn new(class: Class, operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, operation: operation.into(), message: message.into(), code: None, refusal: false }
    }

    pub fn class(&self) -> Class {
        self.class
    }

    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Service and operation, which is also the IAM action.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The launch template is there, but not this version of it, as EC2 or EKS says it.
    pub fn is_missing_version(&self) -> bool {
        let missing = ["not found", "does not exist", "could not find", "doesn't exist"];
        let said = self.message.to_lowercase();
        let vague = self.code().is_some_and(|code| VAGUE.contains(&code));
        self.code() == Some("InvalidLaunchTemplateId.VersionNotFound")
            || vague && said.contains("version") && missing.iter().any(|words| said.contains(words))
    }

    /// AWS answered with a refusal that is neither known to pass nor known to stay: it is final once it
    /// stays the same for long enough.
    pub fn may_be_final(&self) -> bool {
        self.refusal
    }

    /// The launch template has no room for another version.
    pub fn is_full(&self) -> bool {
        self.code() == Some(FULL)
    }

    /// EC2 knows no such id, whether it never was, is gone, or cannot be one.
    pub(super) fn is_unknown_id(&self) -> bool {
        self.class == Class::NotFound || self.code().is_some_and(|code| code.ends_with(".Malformed"))
    }

    /// The error of a call: `operation` as `ec2:DescribeImages`, `host` the one it was sent to.
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

/// What AWS answered, as far as it matters.
struct Answer<'a> {
    code: Option<&'a str>,
    message: Option<&'a str>,
    status: Option<u16>,
    after: Option<Duration>,
}

impl Answer<'_> {
    /// The table. A code it does not know is transient: it costs a few calls to be wrong about
    /// that, while a wrong "never" stops an object until a person comes.
    fn class(&self) -> Class {
        let code = self.code.unwrap_or_default();
        if EXPIRED.contains(&code) {
            return Class::Transient { after: Some(RENEWAL) };
        }
        if DENIED.contains(&code) || REJECTED.contains(&code) || self.may_not_launch() {
            return Class::Denied;
        }
        if CONFLICT.contains(&code) {
            return Class::Conflict;
        }
        if NOT_FOUND.contains(&code) || code.ends_with(".NotFound") {
            return Class::NotFound;
        }
        let passes = self.message.is_some_and(|message| message.contains(CLUSTER_UPGRADING));
        if !passes && (INVALID.contains(&code) || code.ends_with(".Malformed")) {
            return Class::Invalid;
        }
        Class::Transient { after: self.after }
    }

    /// Says a vague code that the caller may not do what the launch template asks for?
    fn may_not_launch(&self) -> bool {
        VAGUE.contains(&self.code.unwrap_or_default()) && self.says(NOT_ALLOWED)
    }

    fn says(&self, words: &[&str]) -> bool {
        let said = self.message.unwrap_or_default().to_lowercase();
        words.iter().any(|words| said.contains(words))
    }

    /// A refusal of this very call, not known to pass.
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
            _ if DENIED.contains(&code) => format!("{text} (permission needed: {operation})"),
            _ if self.may_not_launch() => format!("{text} (permissions needed: {LAUNCH})"),
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

/// What a failed answer comes down to, in one of a few words for metrics.
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

/// The error code of an answer that nobody has read yet: in a header, in JSON, or in XML.
fn code_in(response: &HttpResponse) -> Option<String> {
    // A namespace may stand before it, an address after it.
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

/// How long the server asks to be left alone, from `Retry-After` in seconds.
fn patience(response: &HttpResponse) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MOST_PATIENCE))
}

/// Nothing that can be read as an answer came back.
fn no_answer<E>(host: &str, error: &SdkError<E, HttpResponse>) -> (Class, String)
where
    E: Error + 'static,
{
    if let Some(credentials) = find::<CredentialsError>(error) {
        return no_credentials(credentials);
    }
    match error {
        SdkError::ConstructionFailure(_) => (Class::Invalid, root(error)),
        SdkError::TimeoutError(_) => (Class::TRANSIENT, format!("no answer from {host} in time")),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (Class::TRANSIENT, format!("cannot reach {host} in time"))
        }
        SdkError::DispatchFailure(_) => {
            (Class::TRANSIENT, format!("cannot reach {host}: {}", not_reached(error)))
        }
        SdkError::ResponseError(response) => {
            let status = response.raw().status().as_u16();
            let text = format!("HTTP {status} from {host} is no AWS answer: {}", root(error));
            (Class::Transient { after: patience(response.raw()) }, text)
        }
        other => (Class::TRANSIENT, root(other)),
    }
}

/// Why no connection came about, and what to do where that is known.
fn not_reached(error: &(dyn Error + 'static)) -> String {
    let words: Vec<String> = causes(error).map(ToString::to_string).collect();
    let root = steady::answer(words.last().map(String::as_str).unwrap_or_default());
    match network::advice(&words.join("\n")) {
        Some(advice) => format!("{advice} ({root})"),
        None => root,
    }
}

/// No credentials at all waits long, like a denial: a person must give some. A provider that
/// fails (a metadata service that is away, a token not renewed yet) is worth another try.
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

/// The first error of a type in the chain of causes.
pub(super) fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The innermost cause, which says what really happened.
pub(super) fn root(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

#[cfg(test)]
mod tests;
