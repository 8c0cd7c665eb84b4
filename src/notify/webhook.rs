//! JSON to any address, signed, for machines.
//!
//! The receiver computes HMAC-SHA256 of `<X-Opsy-Timestamp>.<body>` with the shared key, compares it to
//! `X-Opsy-Signature: sha256=<hex>`, and refuses old timestamps. `Idempotency-Key` is the same whenever
//! the same message is sent again.

use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::announce::{Message, Tone};

use super::http::{Address, Http};
use super::sink::{Sink, SinkError};
use super::text::{excerpt, fit, plain};

/// Grows when a receiver must read messages otherwise.
const VERSION: u32 = 1;
const TEXT: usize = 4_000;
const FACTS: usize = 50;
const LINKS: usize = 20;
const LOG: usize = 8_000;

/// An address that takes messages as JSON.
pub struct Receiver {
    http: Http,
    address: Address,
    key: Hmac<Sha256>,
    now: fn() -> Timestamp,
    /// For words: `the webhook of Secret ops/hook`.
    who: String,
}

impl Receiver {
    /// `place` says where address and key came from: `Secret ops/hook`.
    pub fn new(
        http: Http,
        address: Address,
        key: &str,
        now: fn() -> Timestamp,
        place: &str,
    ) -> Result<Self, String> {
        let key = key.trim();
        if key.is_empty() {
            return Err("the key of the signature is empty".to_owned());
        }
        let key = Hmac::new_from_slice(key.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Self { http, address, key, now, who: format!("the webhook of {place}") })
    }

    fn headers(&self, sent: Timestamp, key: &str, body: &str) -> HeaderMap {
        let timestamp = sent.as_second().to_string();
        let mut mac = self.key.clone();
        mac.update(format!("{timestamp}.{body}").as_bytes());
        let signature = format!("sha256={}", hex(&mac.finalize().into_bytes()));
        let headers = [("x-opsy-timestamp", timestamp), ("x-opsy-signature", signature)];
        let headers = headers.into_iter().chain([("idempotency-key", key.to_owned())]);
        headers
            .map(|(name, value)| {
                let value = HeaderValue::from_str(&value).expect("digits and letters make a header");
                (HeaderName::from_static(name), value)
            })
            .collect()
    }
}

impl Sink for Receiver {
    fn post<'a>(
        &'a self,
        message: &'a Message,
        thread: Option<&'a str>,
        _: bool,
    ) -> BoxFuture<'a, Result<Option<String>, SinkError>> {
        Box::pin(async move {
            let sent = (self.now)();
            let body = payload(message, thread, sent).to_string();
            let headers = self.headers(sent, &stable_key(message, thread), &body);
            let answer =
                self.http.send(&self.who, Method::POST, &self.address, headers, body.into_bytes()).await?;
            if answer.status.is_success() {
                return Ok(None);
            }
            Err(answer.busy(&self.who).unwrap_or_else(|| answer.odd(&self.who)))
        })
    }
}

/// What is sent. Texts are as they were made, but for their length: JSON breaks on nothing in them.
pub(super) fn payload(message: &Message, thread: Option<&str>, sent: Timestamp) -> Value {
    let text = |text: &str| fit(text, TEXT, plain);
    let facts = message.facts.iter().take(FACTS);
    let links = message.links.iter().take(LINKS);
    let log = excerpt(&message.excerpt, LOG, plain).unwrap_or_default();
    let (object, thread) = thread.map(about).unwrap_or_default();
    json!({
        "version": VERSION,
        "event": message.id,
        "object": object,
        "thread": thread,
        "reason": message.reason,
        "tone": word(message.tone),
        "title": text(&message.title),
        "text": text(&message.text),
        "facts": facts.map(|(name, value)| json!({ "name": name, "value": text(value) })).collect::<Vec<_>>(),
        "excerpt": log.lines().collect::<Vec<_>>(),
        "next": message.next.as_deref().map(text),
        "links": links.map(|link| json!({ "label": text(&link.label), "url": text(&link.url) })).collect::<Vec<_>>(),
        "sentAt": sent.round(jiff::Unit::Second).unwrap_or(sent),
    })
}

/// The object and the story in the name of a thread: `<kind>/<namespace>/<name>/<story>`, and of the
/// repository, which has no namespace, `Repository/<name>/<story>`.
fn about(thread: &str) -> (Option<Value>, Option<&str>) {
    if let Some((name, story)) = thread.strip_prefix("Repository/").and_then(|rest| rest.split_once('/')) {
        return (Some(json!({ "kind": "Repository", "name": name })), Some(story));
    }
    let mut parts = thread.splitn(4, '/');
    match [parts.next(), parts.next(), parts.next(), parts.next()] {
        [Some(kind), Some(namespace), Some(name), Some(story)] => {
            (Some(json!({ "kind": kind, "namespace": namespace, "name": name })), Some(story))
        }
        _ => (None, Some(thread)),
    }
}

fn word(tone: Tone) -> &'static str {
    match tone {
        Tone::Working => "working",
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Person => "person",
    }
}

/// The same for the same message, however often it is sent. Ids are unique within a thread; where none
/// is named the title tells objects apart.
pub(super) fn stable_key(message: &Message, thread: Option<&str>) -> String {
    let about = thread.unwrap_or(&message.title);
    let digest = Sha256::new().chain_update(about).chain_update([0]).chain_update(&message.id).finalize();
    hex(&digest)[..32].to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
