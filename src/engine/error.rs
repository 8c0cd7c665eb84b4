//! The error of both engine contracts, `Home` and `Runs`: a class, which decides about retries, and a message for
//! people. Each engine converts its own errors into it.

use crate::api::Class;
use crate::api::checks::{is_label, is_object_name};

/// Why an engine could not do something.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    pub class: Class,
    pub message: String,
}

impl EngineError {
    pub fn transient(message: impl Into<String>) -> Self {
        Self { class: Class::TRANSIENT, message: message.into() }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self { class: Class::Invalid, message: message.into() }
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self { class: Class::Conflict, message: message.into() }
    }

    /// Checks the name of a Secret. A notifier is resolved before the spec of its object is validated, so a name may
    /// still lead out of the directory or URL that it becomes a part of.
    pub(super) fn unless_secret_name(namespace: &str, name: &str) -> Result<(), Self> {
        if is_label(namespace) && is_object_name(name) {
            return Ok(());
        }
        Err(Self::invalid(format!("{namespace:?}/{name:?} is not a valid name of a Secret")))
    }
}
