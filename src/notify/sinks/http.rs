//! HTTP for the sinks: one client for all of them, addresses that can contain a secret, and the meaning of requests
//! without a useful response.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};

use super::{SinkError, Trouble};
use crate::api::network::{self, Network};
use crate::resolve;

/// Time limit of a connection. Chat services accept connections within a second from anywhere.
const CONNECT: Duration = Duration::from_secs(5);
/// Time limit of a whole request. A response that takes longer is most likely lost.
const WHOLE: Duration = Duration::from_secs(15);
/// Time after which an idle connection is closed. Servers close theirs after about a minute, and a request on a
/// connection that is being closed is lost without a clear result.
const IDLE: Duration = Duration::from_secs(20);
/// Maximum number of bytes that are read of a response. Responses have some hundred bytes, or contain the message.
const MOST_READ: usize = 256 * 1024;
/// Longest pause that a server can ask for. After more than that, a message is not useful any more.
const MOST_PATIENCE: Duration = Duration::from_secs(3600);
/// Maximum length of an address. No service uses longer ones.
const LONGEST_ADDRESS: usize = 2000;

/// The HTTP client of all sinks, without redirects and with time limits.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
}

impl Http {
    /// # Errors
    /// The certificate authorities cannot be used.
    pub fn new(network: &Network) -> Result<Self, reqwest::Error> {
        Self::with_limits(network, CONNECT, WHOLE)
    }

    pub(super) fn with_limits(
        network: &Network,
        connect: Duration,
        whole: Duration,
    ) -> Result<Self, reqwest::Error> {
        let client = resolve::client(network, connect, whole)?.pool_idle_timeout(IDLE).build()?;
        Ok(Self { client })
    }

    /// Sends JSON. `who` names the receiver in errors, for example `Slack` or `the webhook of Secret ops/hook`. Errors
    /// contain nothing of the address, the request or the response.
    pub(super) async fn send(
        &self,
        who: &str,
        method: Method,
        address: &Address,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, SinkError> {
        let request = self
            .client
            .request(method, address.0.clone())
            .headers(headers)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body);
        let mut response = request.send().await.map_err(|error| no_answer(who, &error))?;
        let (status, after) = (response.status(), response.headers().get(RETRY_AFTER).and_then(patience));
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| no_answer(who, &error))? {
            let room = MOST_READ - body.len();
            body.extend_from_slice(&part[..part.len().min(room)]);
            if body.len() == MOST_READ {
                break;
            }
        }
        Ok(Answer { status, after, body })
    }
}

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The pause in the header `Retry-After`.
    pub(super) after: Option<Duration>,
    body: Vec<u8>,
}

impl Answer {
    /// Returns the body as JSON, or `Null` if it is not JSON.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the body if it is an error code, as Slack's webhooks return it, else an empty string.
    pub(super) fn word(&self) -> &str {
        std::str::from_utf8(&self.body).map(str::trim).ok().filter(|text| is_word(text)).unwrap_or_default()
    }

    /// Returns the error of a server that is unavailable at the moment. This is the same for all services.
    pub(super) fn busy(&self, who: &str) -> Option<SinkError> {
        let status = self.status.as_u16();
        let transient = Trouble::Transient { after: self.after };
        match status {
            429 => {
                let after = self.after.or_else(|| seconds(self.json()["retry_after"].as_f64()?));
                Some(rate_limited(who, after))
            }
            // The gateway has passed the request on, so it may have taken effect.
            504 => Some(SinkError::new(
                Trouble::Unclear,
                "NoAnswer",
                format!("{who} did not respond (HTTP 504)"),
            )),
            408 | 425 | 500.. => Some(SinkError::new(
                transient,
                "ServerError",
                format!("{who} is unavailable (HTTP {status})"),
            )),
            _ => None,
        }
    }

    /// Returns the error of a response that is not a known response of the service.
    pub(super) fn unexpected(&self, who: &str) -> SinkError {
        let status = self.status.as_u16();
        let (kind, what) = match status {
            200..=299 => (Trouble::Unclear, "unexpected response"),
            300..=399 => (Trouble::Closed, "redirects are not followed: correct the URL"),
            400 | 413 | 415 | 422 => (Trouble::Refused, "it rejects this message"),
            401 | 403 | 404 | 405 | 407 | 410 => (Trouble::Closed, "it accepts no messages: check the URL"),
            _ => (Trouble::Transient { after: self.after }, "unexpected response"),
        };
        SinkError::new(kind, "UnexpectedAnswer", format!("{who}: {what} (HTTP {status})"))
    }
}

/// Returns the error for too many messages.
pub(super) fn rate_limited(who: &str, after: Option<Duration>) -> SinkError {
    SinkError::new(Trouble::Transient { after }, "RateLimited", format!("{who}: rate limit reached"))
}

/// Returns whether a text looks like an error code of a service. No secret looks like this.
pub(super) fn is_word(text: &str) -> bool {
    (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn patience(header: &HeaderValue) -> Option<Duration> {
    seconds(header.to_str().ok()?.trim().parse().ok()?)
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().map(|after| after.min(MOST_PATIENCE))
}

/// Returns the error for a request without a response. A request that was never sent can be repeated without risk; one
/// that was sent may have taken effect.
fn no_answer(who: &str, error: &reqwest::Error) -> SinkError {
    if error.is_builder() {
        let message = format!("{who}: the configured values cannot be used for a request");
        return SinkError::new(Trouble::Closed, "RequestInvalid", message);
    }
    let chain = chain(error);
    if chain.contains(resolve::REFUSED) {
        let message = format!("{who}: {}; correct the URL, or the DNS record of its host", resolve::REFUSED);
        return SinkError::new(Trouble::Closed, "AddressRefused", message);
    }
    if error.is_connect() {
        let message = format!("cannot reach {who}: {}", cause(error, &chain));
        return SinkError::new(Trouble::Transient { after: None }, "Unreachable", message);
    }
    let what = if error.is_timeout() {
        "did not respond in time"
    } else {
        "closed the connection without a response"
    };
    SinkError::new(Trouble::Unclear, "NoAnswer", format!("{who} {what}"))
}

/// Returns the messages of all errors that caused an error.
fn chain(error: &reqwest::Error) -> String {
    let mut messages = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        messages.push_str(&error.to_string());
        messages.push('\n');
        next = error.source();
    }
    messages
}

/// Returns why there was no connection. The messages of the libraries are not used, because they contain host names.
fn cause(error: &reqwest::Error, chain: &str) -> &'static str {
    let is = |part: &str| chain.contains(part);
    if let Some(advice) = network::advice(chain) {
        return advice;
    }
    if error.is_timeout() {
        "the connection timed out"
    } else if error.is_dns() {
        "its host name cannot be resolved"
    } else if is("refused") {
        "connection refused"
    } else if is("certificate") {
        "its certificate is not trusted"
    } else if is("TLS") || is("tls") || is("InvalidContentType") || is("corrupt message") {
        "the TLS handshake failed"
    } else {
        "the connection failed"
    }
}

/// The address of a receiver. The path of a webhook is a secret, so it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Parses an address. It must use https, or http on the same machine. The error does not contain the address.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > LONGEST_ADDRESS {
            return Err(format!("the URL is longer than {LONGEST_ADDRESS} characters"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("the URL must not contain spaces or control characters".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("not a valid URL: {error}"))?;
        let literal = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if literal.parse().is_ok_and(resolve::is_refused) {
            return Err(resolve::REFUSED.to_owned());
        }
        let local = is_local(&url);
        match url.scheme() {
            "https" => {}
            "http" if local => {}
            "http" => {
                return Err("the URL must start with https://, because http is not encrypted".to_owned());
            }
            _ => return Err("the URL must start with https://".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL must not contain a user name or a password".to_owned());
        }
        Ok(Self(url))
    }

    /// Returns the address with further path segments and the same query.
    pub(super) fn below(&self, parts: &[&str]) -> Self {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url.set_fragment(None);
        Self(url)
    }

    pub(super) fn with_query(&self, name: &str, value: &str) -> Self {
        let mut url = self.0.clone();
        url.query_pairs_mut().append_pair(name, value);
        Self(url)
    }
}

/// Returns whether the host is this machine, to which http needs no encryption.
fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/…", self.0.scheme(), self.0.host_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use reqwest::dns::{Name, Resolve, Resolving};

    /// Resolves every name to an address that is refused.
    struct LinkLocal;

    impl Resolve for LinkLocal {
        fn resolve(&self, _: Name) -> Resolving {
            Box::pin(async { Err(resolve::REFUSED.into()) })
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_refused_address_is_not_retried() {
        let client = reqwest::Client::builder().no_proxy().dns_resolver(Arc::new(LinkLocal)).build();
        let request = client.expect("a client").post("https://metadata.example.com/hook");
        let error = no_answer("the webhook of Secret ops/hook", &request.send().await.expect_err("refused"));
        assert_eq!((error.kind, error.reason), (Trouble::Closed, "AddressRefused"));
        assert!(error.message.contains("link-local"), "{}", error.message);
    }
}
