//! HTTP for the sinks: one client for all of them, addresses that may hold a secret, and what became of
//! a request that got no useful answer.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Method, Proxy, StatusCode, Url, redirect};

use super::resolve::{self, Resolver};
use super::sink::{SinkError, Trouble};
use crate::api::network::{self, Authorities, Network};

/// Every chat service answers a connection in milliseconds, from anywhere in a second.
const CONNECT: Duration = Duration::from_secs(5);
/// A whole request; anything longer is a lost answer.
const WHOLE: Duration = Duration::from_secs(15);
/// Servers close idle connections after a minute or so; a request into a closing one is lost without
/// a word whether it arrived.
const IDLE: Duration = Duration::from_secs(20);
/// Answers are some hundred bytes, or the message back; nothing past this is read.
const MOST_READ: usize = 256 * 1024;
/// A server may ask for patience, but not until nobody remembers what the message was about.
const MOST_PATIENCE: Duration = Duration::from_secs(3600);
/// No service gives out longer addresses.
const LONGEST_ADDRESS: usize = 2000;

/// The one client: no redirects, and limits for everything that may wait.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
}

impl Http {
    /// # Errors
    /// The machine has no certificate authorities.
    pub fn new(network: &Network) -> Result<Self, reqwest::Error> {
        Self::with_limits(network, CONNECT, WHOLE)
    }

    pub(super) fn with_limits(
        network: &Network,
        connect: Duration,
        whole: Duration,
    ) -> Result<Self, reqwest::Error> {
        let proxies = network.proxies.clone();
        let ders = network.authorities.iter().flat_map(Authorities::ders);
        let authorities: Vec<_> = ders.map(|der| Certificate::from_der(der)).collect::<Result<_, _>>()?;
        let client = reqwest::Client::builder()
            .user_agent(concat!("opsy/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect)
            .timeout(whole)
            .pool_idle_timeout(IDLE)
            .redirect(redirect::Policy::none())
            .referer(false)
            .proxy(Proxy::custom(move |url| {
                proxies.of(url.as_str()).map(|proxy| proxy.secret_url().to_owned())
            }))
            .tls_certs_merge(authorities)
            .dns_resolver(Arc::new(Resolver))
            .build()?;
        Ok(Self { client })
    }

    /// Sends JSON. `who`, as `Slack` or `the webhook of Secret ops/hook`, is for the words of errors;
    /// they hold nothing of the address, of what was sent, or of what came back.
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

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// What `Retry-After` says.
    pub(super) after: Option<Duration>,
    body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `Null` where it is none.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as one short word, as Slack's webhooks answer. Empty where it is none.
    pub(super) fn word(&self) -> &str {
        std::str::from_utf8(&self.body).map(str::trim).ok().filter(|text| is_word(text)).unwrap_or_default()
    }

    /// The error of a server that cannot help at the moment, whoever it is.
    pub(super) fn busy(&self, who: &str) -> Option<SinkError> {
        let status = self.status.as_u16();
        let transient = Trouble::Transient { after: self.after };
        match status {
            429 => {
                let after = self.after.or_else(|| seconds(self.json()["retry_after"].as_f64()?));
                Some(rate_limited(who, after))
            }
            // The request got through the gateway; nobody knows how far.
            504 => {
                Some(SinkError::new(Trouble::Unclear, "NoAnswer", format!("{who} did not answer (HTTP 504)")))
            }
            408 | 425 | 500.. => {
                Some(SinkError::new(transient, "ServerError", format!("{who} is in trouble (HTTP {status})")))
            }
            _ => None,
        }
    }

    /// The error of an answer nothing else could be made of.
    pub(super) fn odd(&self, who: &str) -> SinkError {
        let status = self.status.as_u16();
        let (kind, what) = match status {
            200..=299 => (Trouble::Unclear, "what it answers is none of its answers"),
            300..=399 => (Trouble::Closed, "it sends elsewhere, which is not followed: correct the address"),
            400 | 413 | 415 | 422 => (Trouble::Refused, "it refuses this message"),
            401 | 403 | 404 | 405 | 407 | 410 => (Trouble::Closed, "it lets nothing in: check the address"),
            _ => (Trouble::Transient { after: self.after }, "no known answer"),
        };
        SinkError::new(kind, "UnexpectedAnswer", format!("{who}: {what} (HTTP {status})"))
    }
}

/// Too many messages.
pub(super) fn rate_limited(who: &str, after: Option<Duration>) -> SinkError {
    SinkError::new(Trouble::Transient { after }, "RateLimited", format!("{who} asks for a pause"))
}

/// A short word of the kind services name errors by; nothing secret has this form.
pub(super) fn is_word(text: &str) -> bool {
    (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn patience(header: &HeaderValue) -> Option<Duration> {
    seconds(header.to_str().ok()?.trim().parse().ok()?)
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number).ok().map(|after| after.min(MOST_PATIENCE))
}

/// A request that never left may be sent again; one that did may have done its work.
fn no_answer(who: &str, error: &reqwest::Error) -> SinkError {
    if error.is_builder() {
        let words = format!("{who}: no request can be made with what is configured");
        return SinkError::new(Trouble::Closed, "RequestInvalid", words);
    }
    let chain = chain(error);
    if chain.contains(resolve::REFUSED) {
        let words = format!("{who}: {}; correct the address, or the name it has", resolve::REFUSED);
        return SinkError::new(Trouble::Closed, "AddressRefused", words);
    }
    if error.is_connect() {
        let words = format!("cannot reach {who}: {}", cause(error, &chain));
        return SinkError::new(Trouble::Transient { after: None }, "Unreachable", words);
    }
    let what = if error.is_timeout() { "did not answer in time" } else { "broke off before it answered" };
    SinkError::new(Trouble::Unclear, "NoAnswer", format!("{who} {what}"))
}

/// The errors behind an error.
fn chain(error: &reqwest::Error) -> String {
    let mut words = String::new();
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = next {
        words.push_str(&error.to_string());
        words.push('\n');
        next = error.source();
    }
    words
}

/// Why there was no connection, in our own words: those of the libraries name hosts.
fn cause(error: &reqwest::Error, words: &str) -> &'static str {
    let is = |part: &str| words.contains(part);
    if let Some(advice) = network::advice(words) {
        return advice;
    }
    if error.is_timeout() {
        "no connection in time"
    } else if error.is_dns() {
        "its name is not found"
    } else if is("refused") {
        "connection refused"
    } else if is("certificate") {
        "its certificate is not trusted"
    } else if is("TLS") || is("tls") || is("InvalidContentType") || is("corrupt message") {
        "no TLS connection"
    } else {
        "no connection"
    }
}

/// Where messages are sent. The path of a webhook is its secret, so it is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Reads an address: https, or plain http on this very machine. What is wrong with it is told
    /// without it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > LONGEST_ADDRESS {
            return Err(format!("the address is longer than {LONGEST_ADDRESS} characters"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("the address holds spaces or control characters".to_owned());
        }
        let url = Url::parse(text).map_err(|error| format!("not an address: {error}"))?;
        let literal = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if literal.parse().is_ok_and(resolve::is_refused) {
            return Err(resolve::REFUSED.to_owned());
        }
        let local = is_local(&url);
        match url.scheme() {
            "https" => {}
            "http" if local => {}
            "http" => return Err("the address must begin with https://".to_owned()),
            _ => return Err("the address must be one of https".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the address must hold no user and no password".to_owned());
        }
        Ok(Self(url))
    }

    /// The address below this one; the query stays.
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

/// On this machine, where nobody listens in.
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
    use super::*;
    use reqwest::dns::{Name, Resolve, Resolving};

    /// Every name leads to an address that is refused.
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
