//! What the API server refused, and what kind of refusal it is: one table for the whole engine.

use std::time::Duration;

use kube::Error;
use kube::core::Status;

use crate::api::proxy::without_user_info;
use crate::api::{Class, network};
use crate::engine::{HomeError, RunsError};

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub class: Class,
    pub message: String,
    /// HTTP status, where the server answered.
    pub code: Option<u16>,
}

impl Refusal {
    pub fn is_conflict(&self) -> bool {
        self.code == Some(409)
    }

    pub fn is_not_found(&self) -> bool {
        self.code == Some(404)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(status) => of_status(status),
            other => Self { class: Class::TRANSIENT, message: chain(other), code: None },
        }
    }
}

fn of_status(status: &Status) -> Refusal {
    // Of the agent's credentials, not of a namespace: a token that has expired is renewed.
    if status.code == 401 {
        let message = format!("the API server does not accept the agent's credentials: {}", status.message);
        return Refusal { class: Class::TRANSIENT, message, code: Some(status.code) };
    }
    let untyped = status.message.contains("failed to create typed patch object");
    let class = match status.code {
        // An unknown or mistyped field under server-side apply is a 500 without a reason.
        500 if untyped => Class::Invalid,
        400 | 413 | 422 => Class::Invalid,
        403 => forbidden(&status.message),
        404 => Class::NotFound,
        409 => Class::Conflict,
        _ => Class::Transient { after: hint(status) },
    };
    Refusal { class, message: status.message.clone(), code: Some(status.code) }
}

/// RBAC is one of several that answer 403, and the only one that a rule for the agent helps against.
fn forbidden(message: &str) -> Class {
    // Other objects release the quota.
    if message.contains("exceeded quota") {
        return Class::TRANSIENT;
    }
    // The namespace is gone soon, and somebody may create it again.
    if message.contains("because it is being terminated") {
        return Class::NotFound;
    }
    let by_admission =
        ["admission webhook", "ValidatingAdmissionPolicy", "violates PodSecurity", "failed quota"];
    if by_admission.iter().any(|who| message.contains(who)) {
        return Class::Invalid;
    }
    Class::Denied
}

/// How long a busy server asks to be left alone.
fn hint(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

/// The error with its causes: a client error's own message says only that a request failed. Without credentials of
/// proxies, and with what to do about a proxy or a certificate.
pub(super) fn chain(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    let words = without_user_info(&words);
    network::advice(&words).map_or_else(|| words.clone(), |advice| format!("{words} ({advice})"))
}

impl From<Refusal> for HomeError {
    fn from(refusal: Refusal) -> Self {
        Self { class: refusal.class, message: refusal.message }
    }
}

impl From<Refusal> for RunsError {
    fn from(refusal: Refusal) -> Self {
        Self { class: refusal.class, message: refusal.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_401_is_of_the_agents_credentials_and_passes() {
        let answer = serde_json::json!({"status": "Failure", "code": 401, "message": "Unauthorized"});
        let refusal = of_status(&serde_json::from_value(answer).expect("a status"));
        assert_eq!(refusal.class, Class::TRANSIENT);
        assert_eq!(refusal.message, "the API server does not accept the agent's credentials: Unauthorized");
    }

    #[test]
    fn a_403_is_not_always_a_missing_rule() {
        for (message, class) in [
            (
                "jobs.batch is forbidden: User \"system:serviceaccount:a:opsy\" cannot create resource \"jobs\" \
                 in API group \"batch\" in the namespace \"a\"",
                Class::Denied,
            ),
            (
                "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
                Class::TRANSIENT,
            ),
            (
                "pods \"x\" is forbidden: failed quota: q: must specify limits.cpu for: install",
                Class::Invalid,
            ),
            (
                "jobs.batch \"x\" is forbidden: unable to create new content in namespace a because it is being terminated",
                Class::NotFound,
            ),
            ("admission webhook \"policy.example.com\" denied the request: no team label", Class::Invalid),
            (
                "jobs.batch \"x\" is forbidden: ValidatingAdmissionPolicy 'teams' with binding 'all' denied request: no team",
                Class::Invalid,
            ),
            (
                "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": host namespaces",
                Class::Invalid,
            ),
        ] {
            assert_eq!(forbidden(message), class, "{message}");
        }
    }
}
