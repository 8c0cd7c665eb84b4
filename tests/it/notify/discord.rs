//! Discord, under its rules: message IDs, edits, limits of embeds, rate limits.

use std::time::Duration;

use opsy::notify::sinks::discord::Hook;
use opsy::notify::sinks::{Sink, Trouble};
use serde_json::json;

use super::{address, closed, hostile, http, message};
use crate::chat::Chat;

fn hook(chat: &Chat, path: &str) -> Hook {
    Hook::new(http(), address(chat, path), "Secret ops/discord".to_owned())
}

const DEMO: &str = "/api/webhooks/1000/demo-token";

#[tokio::test]
async fn a_message_is_posted_and_edited_in_place() {
    let chat = Chat::start();
    let sink = hook(&chat, DEMO);
    let id =
        sink.post(&message("started", "build 1 runs"), None, false).await.expect("posted").expect("an id");
    sink.edit(&message("started", "build 1 failed"), &id).await.expect("edited");
    sink.post(&hostile(), None, true).await.expect("posted");
    let messages = chat.messages("1000");
    assert_eq!(
        (&messages[0]["edits"], &messages[0]["embeds"][0]["title"]),
        (&json!(1), &json!("build 1 failed"))
    );
    assert_eq!((messages.len(), &messages[1]["pings"]), (2, &json!([])));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let chat = Chat::start();
    let post = async |path: &str| {
        hook(&chat, path).post(&message("x", "x"), None, false).await.expect_err("refused")
    };
    assert_eq!(closed(&post("/api/webhooks/1001/demo-token").await), "DiscordWebhookInvalid");
    let error = post("/api/webhooks/1000/other").await;
    assert_eq!(
        (closed(&error), error.to_string().as_str()),
        (
            "DiscordWebhookInvalid",
            "Discord does not know the webhook any more: put a new URL into key url of Secret ops/discord"
        )
    );
    let error = hook(&chat, DEMO).edit(&message("x", "x"), "1").await.expect_err("gone");
    assert_eq!(error.kind, Trouble::MessageGone);
}

#[tokio::test]
async fn limits_are_answered_with_the_pause_discord_asks_for() {
    let chat = Chat::start();
    chat.control("clock", json!({ "freeze": true }));
    let sink = hook(&chat, DEMO);
    for _ in 0..5 {
        sink.post(&message("x", "x"), None, false).await.expect("posted");
    }
    let error = sink.post(&message("x", "x"), None, false).await.expect_err("limited");
    let Trouble::Transient { after: Some(after) } = error.kind else { panic!("{error:?}") };
    assert!(after > Duration::ZERO && after <= Duration::from_secs(2), "{after:?}");
}
