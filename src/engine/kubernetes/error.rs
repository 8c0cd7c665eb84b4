//! Errors of the API server and their classes: the one table of this engine.

use std::time::Duration;

use kube::Error;
use kube::core::Status;
use kube::runtime::watcher;

use crate::api::proxy::without_user_info;
use crate::api::{Class, network};
use crate::engine::EngineError;

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub class: Class,
    pub message: String,
    /// HTTP status, if the server responded.
    pub code: Option<u16>,
}

impl Refusal {
    /// A request to which the server did not respond, or not in a readable way.
    pub fn without_response(message: impl Into<String>) -> Self {
        Self { class: Class::TRANSIENT, message: message.into(), code: None }
    }

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
            other => Self::without_response(chain(other)),
        }
    }
}

impl From<watcher::Error> for Refusal {
    fn from(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error.into(),
            watcher::Error::WatchError(status) => Error::Api(status).into(),
            error @ watcher::Error::NoResourceVersion => Self::without_response(error.to_string()),
        }
    }
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        Self { class: refusal.class, message: refusal.message }
    }
}

fn of_status(status: &Status) -> Refusal {
    // It concerns the agent's credentials, not one namespace, and is transient: an expired token is renewed.
    if status.code == 401 {
        let message = format!("the API server does not accept the credentials: {}", status.message);
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

/// The class of a 403. RBAC is only one of its causes, and the only one that a rule in the agent's role removes.
fn forbidden(message: &str) -> Class {
    // The quota becomes free when other objects are deleted.
    if message.contains("exceeded quota") {
        return Class::TRANSIENT;
    }
    // The namespace will be gone soon, and may be created again.
    if message.contains("because it is being terminated") {
        return Class::NotFound;
    }
    let by_admission =
        ["admission webhook", "ValidatingAdmissionPolicy", "violates PodSecurity", "failed quota"];
    if by_admission.iter().any(|phrase| message.contains(phrase)) {
        return Class::Invalid;
    }
    Class::Denied
}

/// How long a busy server asks clients to wait.
fn hint(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

/// The message of an error with those of its causes, because a client error alone says only that a request failed.
/// Contains no credentials of proxies, and advice about a proxy or a certificate.
pub(super) fn chain(error: &Error) -> String {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    let message = without_user_info(&message);
    network::advice(&message).map_or_else(|| message.clone(), |advice| format!("{message} ({advice})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_401_concerns_the_agents_credentials_and_is_transient() {
        let response = serde_json::json!({"status": "Failure", "code": 401, "message": "Unauthorized"});
        let refusal = of_status(&serde_json::from_value(response).expect("a status"));
        assert_eq!(refusal.class, Class::TRANSIENT);
        assert_eq!(refusal.message, "the API server does not accept the credentials: Unauthorized");
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
