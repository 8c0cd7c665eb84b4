//! The endpoint, request by request: the order of the checks, the pushes that are passed on, and the responses.

use axum::body::Body;
use axum::http::{HeaderName, Method};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tower::ServiceExt as _;

use super::*;
use crate::api::Pushed;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const BODY: &str = r#"{"ref": "refs/heads/main", "repository": {"clone_url": "https://h/r.git"}}"#;

struct World {
    receiver: Arc<Receiver>,
    inbox: Inbox,
    health: Arc<Health>,
}

/// Status, `Retry-After` and text of a response.
type Answer = (u16, Option<String>, String);

impl World {
    async fn new(secret: Secret) -> Self {
        let (inbox, health) = (Inbox::default(), Health::new());
        let receiver = Receiver::new(secret, inbox.clone(), health.clone()).await.expect("a receiver");
        Self { receiver, inbox, health }
    }

    async fn fixed() -> Self {
        Self::new(Secret::Value(SECRET.to_owned())).await
    }

    async fn send(&self, request: Request) -> Answer {
        let response = self.receiver.clone().routes().oneshot(request).await.expect("a response");
        let retry = response.headers().get(RETRY_AFTER).map(|wait| wait.to_str().expect("text").to_owned());
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.expect("a body");
        (status, retry, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn github(&self, event: &str, secret: &str, body: &[u8]) -> Answer {
        let of = [("x-github-event", event.to_owned()), ("x-hub-signature-256", sign(secret, body))];
        self.send(post(&of, body)).await
    }

    fn count(&self, labels: &str) -> bool {
        let text = self.health.metrics.text().expect("text");
        text.lines().any(|line| line.starts_with(&format!("opsy_webhook_deliveries_total{{{labels}}} ")))
    }
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key").chain_update(body).finalize();
    let hex: String = mac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn post(headers: &[(&'static str, String)], body: &[u8]) -> Request {
    let mut request = Request::new(Body::from(body.to_vec()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = PATH.parse().expect("a path");
    for (name, value) in headers {
        request.headers_mut().insert(HeaderName::from_static(name), value.parse().expect("a value"));
    }
    request
}

#[tokio::test]
async fn a_push_is_handed_on_and_a_ping_is_answered() {
    let world = World::fixed().await;
    assert_eq!(world.github("push", SECRET, BODY.as_bytes()).await.0, 202);
    let expected = Pushed { addresses: vec!["https://h/r.git".to_owned()], branch: Some("main".to_owned()) };
    assert_eq!(world.inbox.next().await, [expected]);
    let (status, _, text) = world.github("ping", SECRET, b"{}").await;
    assert!(status == 200 && text.starts_with("pong"), "{text}");
    let (status, _, text) = world.github("issues", SECRET, b"{}").await;
    assert!(status == 202 && text.contains("ignored") && text.contains("issues"), "{text}");
    let (status, _, text) = world.github("push", SECRET, b"{\"ref\": \"refs/tags/v1\"}").await;
    assert!(status == 202 && text.contains("no branch"), "{text}");
    assert_eq!(world.github("push", SECRET, b"\xff").await.0, 400);
    for labels in ["accepted", "ping", "ignored", "invalid"] {
        assert!(world.count(&format!("forge=\"github\",result=\"{labels}\"")), "{labels}");
    }
}

#[tokio::test]
async fn wrong_requests_are_refused_by_their_status() {
    let world = World::fixed().await;
    let mut elsewhere = post(&[], b"");
    *elsewhere.uri_mut() = "/".parse().expect("a path");
    assert_eq!(world.send(elsewhere).await.0, 404);
    for method in [Method::GET, Method::PUT, Method::HEAD] {
        let mut request = post(&[], b"");
        *request.method_mut() = method;
        assert_eq!(world.send(request).await.0, 405);
    }
    let (status, _, text) = world.send(post(&[], BODY.as_bytes())).await;
    assert!(status == 401 && text.contains("no signature"), "{text}");
    let (status, _, text) = world.github("push", "another secret of some length", BODY.as_bytes()).await;
    assert!(status == 401 && !text.contains(SECRET) && !text.contains("another"), "{text}");
    let sha1 = [("x-github-event", "push".to_owned()), ("x-hub-signature", "sha1=00".to_owned())];
    let (status, _, text) = world.send(post(&sha1, BODY.as_bytes())).await;
    assert!(status == 401 && text.contains("SHA-256"), "{text}");
    assert!(world.count("forge=\"unknown\",result=\"unauthorized\""));
}

#[tokio::test]
async fn a_large_body_is_refused_whether_or_not_its_length_is_announced() {
    let world = World::fixed().await;
    let large = vec![b' '; LARGEST_BODY + 1];
    assert_eq!(world.github("push", SECRET, &large).await.0, 413);
    let mut announced = post(&[], b"");
    announced.headers_mut().insert(CONTENT_LENGTH, (LARGEST_BODY + 1).into());
    assert_eq!(world.send(announced).await.0, 413);
    let fits = [BODY.as_bytes(), &vec![b' '; LARGEST_BODY - BODY.len()]].concat();
    assert_eq!(world.github("push", SECRET, &fits).await.0, 202);
}

#[tokio::test]
async fn a_flood_of_wrong_signatures_is_limited_and_keeps_nobody_else_out() {
    let world = World::fixed().await;
    let mut statuses = Vec::new();
    for _ in 0..50 {
        let (status, retry, _) = world.github("push", "another secret of some length", b"{}").await;
        assert_eq!(retry.is_some(), status == 429);
        statuses.push(status);
    }
    assert_eq!((statuses[0], statuses[49]), (401, 429));
    assert_eq!(world.github("push", SECRET, BODY.as_bytes()).await.0, 202);
}

#[tokio::test]
async fn the_secret_is_rotated_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("secret");
    let new = "fedcba9876543210fedcba9876543210";
    std::fs::write(&file, SECRET).expect("written");
    let world = World::new(Secret::File(file.clone())).await;
    let mut statuses = Vec::new();
    for content in [SECRET.to_owned(), format!("{SECRET}\n{new}\n"), new.to_owned(), String::new()] {
        std::fs::write(&file, content).expect("written");
        for secret in [SECRET, new] {
            statuses.push(world.github("push", secret, BODY.as_bytes()).await.0);
        }
    }
    assert_eq!(statuses, [202, 401, 202, 202, 401, 202, 503, 503]);
    std::fs::write(&file, "short").expect("written");
    assert!(Receiver::new(Secret::File(file), Inbox::default(), Health::new()).await.is_err());
}
