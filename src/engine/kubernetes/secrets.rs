//! Secrets that notifications name: one is read at a time, by its name. Nothing lists or watches them, so
//! the chart's Role need not allow it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::GetParams;
use serde::Deserialize;

use super::error::Refusal;
use super::requests::Requests;
use crate::api::Class;
use crate::engine::HomeError;

/// What is read of the answer. Neither it nor an error about it is ever printed.
#[derive(Deserialize)]
struct Held {
    #[serde(default)]
    data: Option<BTreeMap<String, ByteString>>,
}

/// Keys and values of a Secret.
pub async fn get(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<BTreeMap<String, String>, HomeError> {
    HomeError::unless_named(namespace, name)?;
    let path = format!("/api/{}/namespaces/{namespace}/{}", Secret::VERSION, Secret::URL_PATH_SEGMENT);
    let request = kube::core::Request::new(path).get(name, &GetParams::default());
    let answer = Requests::new(client).text(request).await;
    let text = answer.map_err(|refusal| told(namespace, name, &refusal))?;
    texts(&text).ok_or_else(|| HomeError {
        class: Class::TRANSIENT,
        message: format!("the answer about Secret {namespace}/{name} cannot be read"),
    })
}

/// The values that are texts. A Secret may hold a key store, too: that is nothing to send with.
fn texts(answer: &str) -> Option<BTreeMap<String, String>> {
    let held: Held = serde_json::from_str(answer).ok()?;
    let values = held.data.unwrap_or_default().into_iter();
    Some(values.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect())
}

/// Why there are no values, and what to do.
fn told(namespace: &str, name: &str, refusal: &Refusal) -> HomeError {
    let message = match refusal.code {
        Some(404) => format!(
            "there is no Secret {namespace}/{name}: make it: kubectl create secret generic {name} --namespace \
             {namespace} --from-file=<key>=<file>"
        ),
        Some(403) => format!(
            "Secret {namespace}/{name} may not be read: let the agent's role `get` this Secret (the chart's \
             notifications.secrets, or builds.secrets for one of spec.gitSync.secret)"
        ),
        _ => format!("Secret {namespace}/{name} cannot be read: {refusal}"),
    };
    HomeError { class: refusal.class, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_and_all_else_is_left_out() {
        let answer = r#"{"kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque",
            "data": {"token": "eG94Yi0x", "empty": "", "store": "//79"}}"#;
        let expected = [("empty", ""), ("token", "xoxb-1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(texts(answer), Some(expected.into()));
        assert_eq!(texts("{}"), Some(BTreeMap::new()));
        for odd in ["", r#"{"data": {"token": "not base64!"}}"#, r#"{"data": [1]}"#] {
            assert_eq!(texts(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (code, class, words) in [
            (Some(404), Class::NotFound, "kubectl create secret generic slack --namespace ops"),
            (Some(403), Class::Denied, "`get` this Secret"),
            (Some(401), Class::TRANSIENT, "cannot be read: the server's words"),
            (None, Class::TRANSIENT, "cannot be read: the server's words"),
        ] {
            let refusal = Refusal { class, message: "the server's words".to_owned(), code };
            let error = told("ops", "slack", &refusal);
            assert_eq!(error.class, class);
            assert!(error.message.contains(words) && error.message.contains("ops/slack"), "{error}");
        }
    }
}
