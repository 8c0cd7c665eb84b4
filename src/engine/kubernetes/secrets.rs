//! Reads single Secrets by name, for notifiers and template repositories. Nothing lists or watches Secrets, so the
//! chart's Role does not have to allow it.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use k8s_openapi::ByteString;
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::GetParams;
use serde::Deserialize;

use super::Cluster;
use super::error::Refusal;
use super::send::send;
use crate::api::Class;
use crate::engine::{EngineError, SecretReader};

/// The part of the response that is read. Neither it nor an error of its decoding is ever printed.
#[derive(Deserialize)]
struct SecretData {
    #[serde(default)]
    data: Option<BTreeMap<String, ByteString>>,
}

/// Keys and values of a Secret.
pub async fn get(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<BTreeMap<String, String>, EngineError> {
    EngineError::unless_secret_name(namespace, name)?;
    let path = format!("/api/{}/namespaces/{namespace}/{}", Secret::VERSION, Secret::URL_PATH_SEGMENT);
    let request = kube::core::Request::new(path).get(name, &GetParams::default());
    let response = send(client, request).await.map_err(|refusal| explain(namespace, name, &refusal))?;
    strings(&response).ok_or_else(|| {
        EngineError::transient(format!("the response about Secret {namespace}/{name} cannot be decoded"))
    })
}

impl SecretReader for Cluster {
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        // The agent's role may cover more namespaces than it watches. Their Secrets are not the agent's.
        if !self.scope.covers(namespace) {
            let message =
                format!("Secret {namespace}/{name} is in a namespace that this agent does not watch");
            return ready(Err(EngineError { class: Class::Denied, message })).boxed();
        }
        get(&self.client, namespace, name).boxed()
    }
}

/// The values that are strings. A binary value, such as a key store, is no credential that the agent can send.
fn strings(response: &str) -> Option<BTreeMap<String, String>> {
    let secret: SecretData = serde_json::from_str(response).ok()?;
    let values = secret.data.unwrap_or_default().into_iter();
    Some(values.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect())
}

/// The error for people: why the Secret cannot be read, and what to do.
fn explain(namespace: &str, name: &str, refusal: &Refusal) -> EngineError {
    let message = match refusal.code {
        Some(404) => format!(
            "Secret {namespace}/{name} not found: create it: kubectl create secret generic {name} --namespace \
             {namespace} --from-file=<key>=<file>"
        ),
        Some(403) => format!(
            "Secret {namespace}/{name} cannot be read: allow the agent's role to `get` this Secret (in the chart \
             notifications.secrets, or builds.secrets for one of spec.gitSync.secret)"
        ),
        _ => format!("Secret {namespace}/{name} cannot be read: {refusal}"),
    };
    EngineError { class: refusal.class, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_decoded_and_other_values_are_left_out() {
        let response = r#"{"kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque",
            "data": {"token": "eG94Yi0x", "empty": "", "store": "//79"}}"#;
        let expected = [("empty", ""), ("token", "xoxb-1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(strings(response), Some(expected.into()));
        assert_eq!(strings("{}"), Some(BTreeMap::new()));
        for invalid in ["", r#"{"data": {"token": "not base64!"}}"#, r#"{"data": [1]}"#] {
            assert_eq!(strings(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn a_refusal_states_the_remedy() {
        for (code, class, words) in [
            (Some(404), Class::NotFound, "kubectl create secret generic slack --namespace ops"),
            (Some(403), Class::Denied, "`get` this Secret"),
            (Some(401), Class::TRANSIENT, "cannot be read: the server's words"),
            (None, Class::TRANSIENT, "cannot be read: the server's words"),
        ] {
            let refusal = Refusal { class, message: "the server's words".to_owned(), code };
            let error = explain("ops", "slack", &refusal);
            assert_eq!(error.class, class);
            assert!(error.message.contains(words) && error.message.contains("ops/slack"), "{error}");
        }
    }
}
