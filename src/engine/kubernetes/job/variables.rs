//! Variables of a container. Pure; part of the Job.

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, SecretEnvSource, SecretKeySelector};

/// All keys of a Secret.
pub fn environment_of(secret: &str) -> Vec<EnvFromSource> {
    let secret_ref = Some(SecretEnvSource { name: secret.to_owned(), optional: Some(false) });
    vec![EnvFromSource { secret_ref, ..EnvFromSource::default() }]
}

/// A key of a Secret; one that is not there leaves the variable as it is.
pub fn variable_of(name: &str, secret: &str, key: &str) -> EnvVar {
    let key = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: Some(true) };
    let value_from = Some(EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() });
    EnvVar { name: name.to_owned(), value_from, ..EnvVar::default() }
}

pub fn variable(name: &str, value: &str) -> EnvVar {
    // `$(NAME)` is Kubernetes' own syntax; what is written here is meant literally.
    let value = value.replace("$(", "$$(");
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}
