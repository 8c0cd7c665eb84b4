//! Signed JSON messages to any address, for programs.
//!
//! The receiver computes HMAC-SHA256 of `<X-Opsy-Timestamp>.<body>` with the shared key, compares it to
//! `X-Opsy-Signature: sha256=<hex>`, and rejects old timestamps. `Idempotency-Key` is the same every time the same
//! message is sent.

use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::announce::{Message, Tone};
use crate::api::ids::hex_digits;

use super::http::{Address, Http};
use super::text::{excerpt, fit, plain};
use super::{Abilities, DeliveryMode, PACE, Sink, SinkError};

pub const ABILITIES: Abilities = Abilities { kind: "webhook", mode: DeliveryMode::Lines, pace: PACE };

/// Version of the format. It increases with every incompatible change.
const VERSION: u32 = 1;
const TEXT: usize = 4_000;
const FACTS: usize = 50;
const LINKS: usize = 20;
const LOG: usize = 8_000;

/// A receiver of JSON messages.
pub struct Receiver {
    http: Http,
    address: Address,
    key: Hmac<Sha256>,
    now: fn() -> Timestamp,
    /// The name of the receiver in errors: `the webhook of Secret ops/hook`.
    who: String,
}

impl Receiver {
    /// `place` is where address and key come from: `Secret ops/hook`.
    pub fn new(
        http: Http,
        address: Address,
        key: &str,
        now: fn() -> Timestamp,
        place: &str,
    ) -> Result<Self, String> {
        let key = key.trim();
        if key.is_empty() {
            return Err("the signing key is empty".to_owned());
        }
        let key = Hmac::new_from_slice(key.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Self { http, address, key, now, who: format!("the webhook of {place}") })
    }

    fn headers(&self, sent: Timestamp, key: &str, body: &str) -> HeaderMap {
        let timestamp = sent.as_second().to_string();
        let mut mac = self.key.clone();
        mac.update(format!("{timestamp}.{body}").as_bytes());
        let signature = format!("sha256={}", hex_digits(&mac.finalize().into_bytes()));
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
            Err(answer.busy(&self.who).unwrap_or_else(|| answer.unexpected(&self.who)))
        })
    }
}

/// Returns the body of the request. Texts other than the log are shortened but not cleaned, because JSON escapes
/// everything in them.
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

/// Splits the name of a thread into object and story. The name is `<kind>/<namespace>/<name>/<story>`, or
/// `Repository/<name>/<story>` for the repository, which has no namespace.
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

/// Returns a key that is the same every time the same message is sent. Message IDs are unique only within a thread;
/// without a thread, the title identifies the object.
pub(super) fn stable_key(message: &Message, thread: Option<&str>) -> String {
    let about = thread.unwrap_or(&message.title);
    let digest = Sha256::new().chain_update(about).chain_update([0]).chain_update(&message.id).finalize();
    hex_digits(&digest)[..32].to_owned()
}
