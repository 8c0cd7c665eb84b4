//! Discord: the exact requests, that nothing in them exceeds a limit, and what errors mean.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::messages::{endless, failing, good, hostile};
use super::server::{Server, http};
use super::{pretty, texts};
use crate::announce::Message;
use crate::notify::sinks::discord::{Hook, payload};
use crate::notify::sinks::{Sink, SinkError, Trouble};

#[test]
fn messages_as_discord_gets_them() {
    assert_snapshot!("discord_good", pretty(&payload(&good())));
    assert_snapshot!("discord_failing", pretty(&payload(&failing())));
    assert_snapshot!("discord_hostile", pretty(&payload(&hostile())));
}

#[test]
fn the_rules_hold_whatever_a_message_holds() {
    let bare = Message { title: String::new(), text: String::new(), facts: Vec::new(), ..good() };
    for message in [bare, good(), failing(), hostile(), endless()] {
        let payload = payload(&message);
        assert_eq!(payload["allowed_mentions"], json!({ "parse": [] }));
        let embed = &payload["embeds"][0];
        let size = |text: &Value| text.as_str().expect("a string").chars().count();
        assert!(embed.get("title").is_none_or(|title| (1..=256).contains(&size(title))));
        assert!(size(&embed["description"]) <= 4096);
        let fields = embed.get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
        assert!(fields.len() <= 25);
        for field in &fields {
            assert!((1..=256).contains(&size(&field["name"])) && (1..=1024).contains(&size(&field["value"])));
        }
        let texts = texts(embed);
        assert!(texts.iter().map(|text| text.chars().count()).sum::<usize>() <= 6000);
        assert!(texts.iter().all(|text| matches!(text.matches("```").count(), 0 | 2)), "{texts:?}");
        assert!(texts.iter().all(|text| !text.contains(['\0', '\u{1b}', '\u{202e}'])), "{texts:?}");
    }
}

fn hook(server: &Server) -> Hook {
    Hook::new(http(), server.at("/api/webhooks/1/s3cret?thread_id=5"), "Secret ops/discord".to_owned())
}

async fn error_of(head: &'static str, body: &'static str) -> SinkError {
    let server = Server::always(1, head, body).await;
    let error = hook(&server).post(&good(), None, false).await.expect_err("refused");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    error
}

#[tokio::test]
async fn a_message_is_posted_and_edited() {
    let server = Server::always(2, "200 OK", r#"{"id":"42"}"#).await;
    let sink = hook(&server);
    assert_eq!(sink.post(&good(), None, true).await.expect("posted").as_deref(), Some("42"));
    sink.edit(&failing(), "42").await.expect("edited");
    let heads: Vec<String> = server.seen().into_iter().map(|(head, _)| head).collect();
    assert!(heads[0].starts_with("post /api/webhooks/1/s3cret?thread_id=5&wait=true "), "{}", heads[0]);
    assert!(heads[1].starts_with("patch /api/webhooks/1/s3cret/messages/42?thread_id=5 "), "{}", heads[1]);
}

#[tokio::test]
async fn every_error_means_one_thing() {
    for (head, body, kind, reason) in [
        ("404 Not Found", r#"{"code":10015}"#, Trouble::Closed, "DiscordWebhookInvalid"),
        ("401 Unauthorized", r#"{"code":50027}"#, Trouble::Closed, "DiscordWebhookInvalid"),
        ("404 Not Found", r#"{"code":10003}"#, Trouble::Closed, "DiscordChannelNotFound"),
        ("403 Forbidden", r#"{"code":50013}"#, Trouble::Closed, "DiscordWebhookDenied"),
        ("400 Bad Request", r#"{"code":220001}"#, Trouble::Closed, "DiscordForum"),
        ("404 Not Found", r#"{"code":10008}"#, Trouble::MessageGone, "DiscordMessageGone"),
        (
            "400 Bad Request",
            r#"{"code":50035,"message":"s3cret"}"#,
            Trouble::Refused,
            "DiscordMessageRefused",
        ),
        ("502 Bad Gateway", "", Trouble::Transient { after: None }, "ServerError"),
        ("200 OK", "{}", Trouble::Unclear, "UnexpectedAnswer"),
    ] {
        let error = error_of(head, body).await;
        assert_eq!((error.kind, error.reason), (kind, reason), "{head} {body}");
    }
    let limited = r#"{"message":"You are being rate limited.","retry_after":0.5,"global":false}"#;
    let error = error_of("429 Too Many Requests", limited).await;
    assert_eq!(error.kind, Trouble::Transient { after: Some(Duration::from_millis(500)) });
}
