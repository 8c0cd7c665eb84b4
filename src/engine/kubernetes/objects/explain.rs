//! What a refusal of the API server means for an object, and its text for people. Pure.

use crate::api::reasons;
use crate::api::{Class, INSTALL_DEFINITIONS, ObjectKey};
use crate::engine::EngineError;
use crate::engine::kubernetes::error::Refusal;

/// Added to a denial of RBAC.
const GRANT: &str = "add this rule to the agent's role";

/// Whether the kind itself is unknown to the API server.
pub fn is_without_definition(refusal: &Refusal) -> bool {
    // The message about a missing object or namespace contains its name, that about an unknown path does not.
    refusal.is_not_found() && refusal.message.contains("page not found")
}

/// Whether the stored object does not match its definition.
pub fn is_unfit(refusal: &Refusal) -> bool {
    let phrases = ["to smd typed: .", "failed to create typed live object"];
    refusal.code == Some(500) && phrases.iter().any(|phrase| refusal.message.contains(phrase))
}

/// The message for a kind that the API server does not know.
pub fn without_definition() -> String {
    format!("the custom resource definitions are not installed: run `{INSTALL_DEFINITIONS}`")
}

/// Why a status was refused.
pub fn explain_status(refusal: Refusal) -> EngineError {
    let message = refusal.message;
    let message = match refusal.class {
        Class::Denied => format!("{message}: {GRANT}"),
        _ => message,
    };
    EngineError { class: refusal.class, message }
}

/// Why a document was refused: reason and message of the condition.
pub fn explain(object: &ObjectKey, refusal: &Refusal) -> (&'static str, String) {
    let message = &refusal.message;
    match refusal.class {
        _ if is_without_definition(refusal) => ("DefinitionMissing", without_definition()),
        Class::Denied => ("Denied", format!("{message}: {GRANT}")),
        Class::Invalid if message.contains("field not declared in schema") => (
            "Invalid",
            format!(
                "{message}: the custom resource definitions are older than this agent: run `{INSTALL_DEFINITIONS}`"
            ),
        ),
        Class::Invalid => ("Invalid", message.clone()),
        Class::NotFound => (
            "NamespaceMissing",
            format!("{message}: create it: kubectl create namespace {}", object.key.namespace),
        ),
        Class::Conflict => (reasons::CONFLICT, message.clone()),
        Class::Transient { .. } if refusal.code.is_none() => {
            (reasons::APPLY_FAILED, format!("the API server cannot be reached: {message}"))
        }
        Class::Transient { .. } => (reasons::APPLY_FAILED, message.clone()),
    }
}
