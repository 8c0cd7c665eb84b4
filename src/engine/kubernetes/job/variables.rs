//! Environment variables of a container, part of the Job. Pure.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, SecretEnvSource, SecretKeySelector};

/// All keys of a Secret as variables.
pub fn environment_of(secret: &str) -> Vec<EnvFromSource> {
    let secret_ref = Some(SecretEnvSource { name: secret.to_owned(), optional: Some(false) });
    vec![EnvFromSource { secret_ref, ..EnvFromSource::default() }]
}

/// A variable from a key of a Secret. If the key does not exist, the variable is not set.
pub fn variable_of(name: &str, secret: &str, key: &str) -> EnvVar {
    let key = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: Some(true) };
    let value_from = Some(EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() });
    EnvVar { name: name.to_owned(), value_from, ..EnvVar::default() }
}

/// A variable with a literal value.
pub fn variable(name: &str, value: &str) -> EnvVar {
    // Kubernetes would expand `$(NAME)`.
    let value = value.replace("$(", "$$(");
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}
