//! The signed webhook: the exact request, its signature, and that the same message has the same key.

use hmac::{Hmac, KeyInit, Mac};
use insta::assert_snapshot;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

use super::messages::{endless, failing, good};
use super::pretty;
use super::server::{Server, http};
use crate::notify::sinks::webhook::{Receiver, payload, stable_key};
use crate::notify::sinks::{Sink, Trouble};

const THREAD: &str = "PackerBuilder/ops/node-image/build/7f3a9c";

fn now() -> Timestamp {
    Timestamp::from_millisecond(1_750_000_000_123).expect("a time")
}

fn receiver(server: &Server) -> Receiver {
    Receiver::new(http(), server.at("/hook/s3cret"), "key\n", now, "Secret ops/hook").expect("a key")
}

#[test]
fn messages_as_machines_get_them() {
    assert_snapshot!("webhook_failing", pretty(&payload(&failing(), Some(THREAD), now())));
    let bare = payload(&good(), None, now());
    assert_eq!((&bare["object"], &bare["thread"]), (&Value::Null, &Value::Null));
    let odd = payload(&good(), Some("build/1"), now());
    assert_eq!((&odd["object"], &odd["thread"]), (&Value::Null, &json!("build/1")));
    let repository = payload(&good(), Some("Repository/images/trouble/ManifestBroken/177"), now());
    assert_eq!(repository["object"], json!({ "kind": "Repository", "name": "images" }));
    assert_eq!(repository["thread"], "trouble/ManifestBroken/177");
    let long = payload(&endless(), Some(THREAD), now()).to_string();
    assert!(long.chars().count() < 600_000, "{}", long.chars().count());
}

#[tokio::test]
async fn a_message_is_signed_with_its_time() {
    let server = Server::always(2, "204 No Content", "").await;
    let sink = receiver(&server);
    assert_eq!(sink.post(&good(), Some(THREAD), false).await.expect("posted"), None);
    sink.post(&good(), Some(THREAD), false).await.expect("posted");
    let seen = server.seen();
    let (head, body) = &seen[0];
    let mut mac = Hmac::<Sha256>::new_from_slice(b"key").expect("a key");
    mac.update(format!("1750000000.{body}").as_bytes());
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(head.contains(&format!("x-opsy-signature: sha256={digest}\r\n")), "{head}");
    assert!(head.contains("x-opsy-timestamp: 1750000000\r\n"), "{head}");
    let key = format!("idempotency-key: {}\r\n", stable_key(&good(), Some(THREAD)));
    assert!(seen.iter().all(|(head, _)| head.contains(&key)), "{head}");
}

#[test]
fn keys_tell_messages_threads_and_objects_apart() {
    let one = stable_key(&good(), Some(THREAD));
    assert_eq!(one.len(), 32);
    assert_eq!(
        one,
        stable_key(&crate::announce::Message { text: "another text".to_owned(), ..good() }, Some(THREAD))
    );
    assert_ne!(one, stable_key(&failing(), Some(THREAD)));
    assert_ne!(one, stable_key(&good(), Some("PackerBuilder/ops/node-image/build/7f3a9d")));
    assert_ne!(stable_key(&good(), None), stable_key(&failing(), None));
}

#[tokio::test]
async fn a_receiver_that_refuses_is_named_by_its_secret() {
    for (head, kind, words) in [
        (
            "401 Unauthorized",
            Trouble::Closed,
            "the webhook of Secret ops/hook: it accepts no messages: check the URL (HTTP 401)",
        ),
        (
            "500 Oops",
            Trouble::Transient { after: None },
            "the webhook of Secret ops/hook is unavailable (HTTP 500)",
        ),
        (
            "422 Unprocessable",
            Trouble::Refused,
            "the webhook of Secret ops/hook: it rejects this message (HTTP 422)",
        ),
    ] {
        let server = Server::always(1, head, "s3cret").await;
        let error = receiver(&server).post(&good(), None, false).await.expect_err("refused");
        assert_eq!((error.kind, error.to_string().as_str()), (kind, words));
    }
}

#[test]
fn nothing_is_sent_unsigned() {
    let address = crate::notify::sinks::http::Address::parse("https://example.com/").expect("an address");
    let error = Receiver::new(http(), address, " \n", now, "Secret ops/hook").map(drop).expect_err("no key");
    assert_eq!(error, "the signing key is empty");
}
