//! The signed webhook, verified as a receiver verifies it.

use jiff::Timestamp;
use opsy::notify::sinks::webhook::Receiver;
use opsy::notify::sinks::{Sink, Trouble};
use serde_json::{Value, json};

use super::{address, closed, hostile, http, message};
use crate::chat::Chat;
use crate::webhook::hmac;

fn receiver(chat: &Chat) -> Receiver {
    Receiver::new(http(), address(chat, "/hook/ops"), "shared key", Timestamp::now, "Secret ops/hook")
        .expect("a key")
}

/// A header of a request. The case of its name does not matter.
fn header(request: &Value, name: &str) -> String {
    let headers = request["headers"].as_object().expect("headers");
    let (_, value) = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).expect("the header");
    value.as_str().expect("a string").to_owned()
}

#[tokio::test]
async fn a_receiver_can_check_who_sent_a_message_and_whether_it_knows_it() {
    let chat = Chat::start();
    let sink = receiver(&chat);
    let thread = Some("PackerBuilder/ops/node/build/1");
    for _ in 0..2 {
        sink.post(&message("failed/1", "build 1 failed"), thread, true).await.expect("posted");
    }
    sink.post(&hostile(), thread, true).await.expect("posted");
    let received = chat.look("received?name=ops");
    let received = received.as_array().expect("a list");
    for request in received {
        let text = request["text"].as_str().expect("a body");
        let signed = format!("{}.{text}", header(request, "x-opsy-timestamp"));
        let signature = format!("sha256={}", hmac("shared key", &signed));
        assert_eq!(header(request, "x-opsy-signature"), signature);
    }
    let keys: Vec<String> = received.iter().map(|request| header(request, "idempotency-key")).collect();
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "{keys:?}");
    let body: Value = serde_json::from_str(received[0]["text"].as_str().expect("a body")).expect("JSON");
    assert_eq!(body["object"], json!({ "kind": "PackerBuilder", "namespace": "ops", "name": "node" }));
    assert_eq!((&body["thread"], &body["event"]), (&json!("build/1"), &json!("failed/1")));
}

#[tokio::test]
async fn a_receiver_that_lets_nothing_in_is_closed_and_one_in_trouble_is_not() {
    let chat = Chat::start();
    let post = async || receiver(&chat).post(&message("x", "x"), None, false).await.expect_err("refused");
    chat.control("receivers", json!({ "name": "ops", "status": 410, "body": "gone" }));
    assert_eq!(closed(&post().await), "UnexpectedAnswer");
    chat.control("receivers", json!({ "name": "ops", "status": 503, "body": "later" }));
    assert_eq!(post().await.kind, Trouble::Transient { after: None });
    chat.control("down", json!({}));
    assert_eq!(post().await.kind, Trouble::Unclear);
}
