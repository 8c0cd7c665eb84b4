//! The HTTP endpoint: limits, the order of the checks, and the response, log line and metric of each delivery.
//!
//! The cheapest checks come first: a request without a signature is refused before its body is read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::header::{CONTENT_LENGTH, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::budget::Budget;
use super::forge::{self, Delivery, Event, Forge};
use super::inbox::Inbox;
use super::proof::Unproven;
use super::secret::Secret;
use crate::api::lock::lock;
use crate::telemetry::health::Health;
use crate::telemetry::listen::{self, Limits};

/// The path of deliveries.
pub const PATH: &str = "/hook";
/// GitHub limits payloads to 25 MiB, but a push lists at most 2,048 commits. Usual payloads have some kilobytes.
const LARGEST_BODY: usize = 1024 * 1024;
/// A delivery takes milliseconds. The bodies of all connections together take at most 32 MiB.
const LIMITS: Limits = Limits {
    connections: 32,
    headers: Duration::from_secs(5),
    connection: Duration::from_secs(15),
    pause: Duration::from_secs(1),
};

/// Receives deliveries.
pub struct Receiver {
    secret: Secret,
    inbox: Inbox,
    health: Arc<Health>,
    refusals: Mutex<Budget>,
}

/// The outcome of a delivery: the label of the metric, and the status and text of the response.
struct Outcome {
    result: &'static str,
    status: StatusCode,
    text: String,
    retry_after: Option<Duration>,
}

impl Outcome {
    fn of(result: &'static str, status: StatusCode, text: impl Into<String>) -> Self {
        Self { result, status, text: text.into(), retry_after: None }
    }

    fn too_large() -> Self {
        let text = format!("the body must have at most {LARGEST_BODY} bytes");
        Self::of("too_large", StatusCode::PAYLOAD_TOO_LARGE, text)
    }
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text + "\n").into_response();
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
        }
        response
    }
}

impl Receiver {
    /// Creates a receiver, after a check of the secret.
    ///
    /// # Errors
    /// The secret cannot be used.
    pub async fn new(secret: Secret, inbox: Inbox, health: Arc<Health>) -> anyhow::Result<Arc<Self>> {
        secret.read().await.context("the secret of the webhook is not valid")?;
        let refusals = Mutex::new(Budget::full(Instant::now()));
        Ok(Arc::new(Self { secret, inbox, health, refusals }))
    }

    /// Serves until the returned handle is dropped.
    ///
    /// # Errors
    /// The address cannot be used.
    pub async fn serve(self: Arc<Self>, address: SocketAddr) -> anyhow::Result<AbortOnDropHandle<()>> {
        let context = || format!("cannot listen on {address} (--webhook-listen)");
        let listener = listen::bind(address).await.with_context(context)?;
        let webhook = listener.local_addr().with_context(context)?;
        tracing::info!(%webhook, "receiving push webhooks at {PATH}");
        Ok(AbortOnDropHandle::new(tokio::spawn(listen::serve(listener, self.routes(), LIMITS))))
    }

    fn routes(self: Arc<Self>) -> Router {
        let routes = Router::new().route(PATH, post(deliver)).with_state(self);
        routes.layer(DefaultBodyLimit::max(LARGEST_BODY))
    }

    async fn receive(&self, delivery: Option<&Delivery>, request: Request) -> Outcome {
        if is_too_large(request.headers()) {
            return Outcome::too_large();
        }
        let Some(delivery) = delivery else {
            return self.refuse("no signature: the webhook must have a secret");
        };
        let proof = match &delivery.proof {
            Ok(proof) => proof,
            Err(unproven) => return self.refuse(words(*unproven, delivery)),
        };
        let headers = request.headers().clone();
        let body = match Bytes::from_request(request, &()).await {
            Ok(body) => body,
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => return Outcome::too_large(),
            Err(error) => return Outcome::of("invalid", error.status(), "the body cannot be read"),
        };
        let secrets = match self.secret.read().await {
            Ok(secrets) => secrets,
            Err(error) => {
                tracing::error!(%error, "the secret of the webhook cannot be used: deliveries are refused");
                let text = "the receiver cannot read its secret; its log has the reason";
                return Outcome::of("failed", StatusCode::SERVICE_UNAVAILABLE, text);
            }
        };
        if !proof.is_valid(&secrets, &body) {
            return self.refuse("the signature or token does not match the secret");
        }
        self.accept(delivery, &headers, &body)
    }

    /// Acts on a delivery whose sender knows the secret.
    fn accept(&self, delivery: &Delivery, headers: &HeaderMap, body: &[u8]) -> Outcome {
        match delivery.event {
            Event::Ping => {
                Outcome::of("ping", StatusCode::OK, "pong: the secret is correct; a push triggers a fetch")
            }
            Event::Other => {
                let text = format!("ignored: only pushes trigger a fetch, not {}", delivery.event_name);
                Outcome::of("ignored", StatusCode::ACCEPTED, text)
            }
            Event::Push => match delivery.forge.pushed(headers, body) {
                Err(forge::Unreadable(why)) => {
                    let text = format!("the payload cannot be read; use content type JSON: {why}");
                    Outcome::of("invalid", StatusCode::BAD_REQUEST, text)
                }
                Ok(pushes) if pushes.is_empty() => {
                    Outcome::of("ignored", StatusCode::ACCEPTED, "ignored: no branch was pushed")
                }
                Ok(pushes) => {
                    self.inbox.put(pushes);
                    let text = "accepted: the agent fetches at once if it follows the repository and branch";
                    Outcome::of("accepted", StatusCode::ACCEPTED, text)
                }
            },
        }
    }

    /// Refuses a delivery without proof of the secret. After too many of them, the response asks the sender to wait.
    fn refuse(&self, text: &str) -> Outcome {
        let mut refusals = lock(&self.refusals);
        match refusals.take(Instant::now()) {
            Ok(()) => Outcome::of("unauthorized", StatusCode::UNAUTHORIZED, text),
            Err(wait) => {
                let text = "too many deliveries without a valid signature";
                let outcome = Outcome::of("limited", StatusCode::TOO_MANY_REQUESTS, text);
                Outcome { retry_after: Some(wait), ..outcome }
            }
        }
    }
}

async fn deliver(State(receiver): State<Arc<Receiver>>, request: Request) -> Outcome {
    let delivery = forge::recognize(request.headers());
    let outcome = receiver.receive(delivery.as_ref(), request).await;
    let forge = delivery.as_ref().map_or("unknown", |delivery| delivery.forge.name());
    receiver.health.metrics.delivered(forge, outcome.result);
    log(forge, delivery.as_ref(), &outcome);
    outcome
}

/// Logs one line per delivery, at debug level for those of a flood, which the metric counts.
fn log(forge: &str, delivery: Option<&Delivery>, outcome: &Outcome) {
    let (event, id) = delivery.map_or(("", ""), |delivery| (&delivery.event_name, &delivery.id));
    let (result, text) = (outcome.result, outcome.text.as_str());
    match result {
        "accepted" | "ping" | "ignored" => {
            tracing::info!(forge, event, delivery = id, result, "webhook delivery");
        }
        "limited" => tracing::debug!(forge, event, delivery = id, result, "webhook delivery refused"),
        _ => tracing::warn!(forge, event, delivery = id, result, reason = text, "webhook delivery refused"),
    }
}

/// Returns true if the request announces a body over the limit.
fn is_too_large(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > LARGEST_BODY as u64)
}

/// The text for the sender that says what to change.
fn words(unproven: Unproven, delivery: &Delivery) -> &'static str {
    let is_test = delivery.forge == Forge::Bitbucket && delivery.event == Event::Ping;
    match unproven {
        Unproven::Missing if is_test => {
            "no signature: Bitbucket Data Center does not sign its connection test; a push is signed if the webhook has a \
             secret"
        }
        Unproven::Missing => "no signature: the webhook must have a secret",
        Unproven::Sha1 => "SHA-1 signatures are not accepted: the sender must sign with SHA-256",
        Unproven::Malformed => "the signature is not a SHA-256 HMAC in hexadecimal digits",
    }
}

#[cfg(test)]
mod tests;
