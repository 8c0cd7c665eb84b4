//! Slack: the exact requests, that nothing in them pings people or exceeds a limit, and what errors mean.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::messages::{endless, failing, good, hostile};
use super::server::{Reply, Server, http};
use super::{pretty, texts};
use crate::notify::sinks::blocks::payload as payload_of;
use crate::notify::sinks::slack::Bot;
use crate::notify::sinks::{Sink, SinkError, Trouble};

#[test]
fn messages_as_slack_gets_them() {
    assert_snapshot!("slack_good", pretty(&payload_of(&good())));
    assert_snapshot!("slack_failing", pretty(&payload_of(&failing())));
    assert_snapshot!("slack_hostile", pretty(&payload_of(&hostile())));
}

#[test]
fn the_rules_hold_whatever_a_message_holds() {
    for message in [good(), failing(), hostile(), endless()] {
        let payload = payload_of(&message);
        let texts = texts(&payload);
        assert!(texts.iter().map(|text| text.chars().count()).sum::<usize>() < 10_000);
        for text in &texts {
            // Only the links that Opsy adds have brackets, and none of them is a mention.
            for bracket in text.split('<').skip(1) {
                assert!(
                    bracket.starts_with("http") && bracket.contains('|') && bracket.contains('>'),
                    "{text}"
                );
            }
            assert!(!text.contains(['\0', '\u{1b}', '\u{202e}']), "{text}");
            assert!(matches!(text.matches("```").count(), 0 | 2), "{text}");
        }
        let blocks = payload["blocks"].as_array().expect("blocks");
        assert!((1..=50).contains(&blocks.len()));
        blocks.iter().for_each(obeys_its_limits);
    }
}

fn obeys_its_limits(block: &Value) {
    let size = |text: &Value| text["text"].as_str().expect("a string").chars().count();
    let list = |key: &str| block[key].as_array().cloned().unwrap_or_default();
    let (fields, elements) = (list("fields"), list("elements"));
    assert!(fields.len() <= 10 && elements.len() <= 10);
    assert!(fields.iter().chain(&elements).all(|text| (1..=2000).contains(&size(text))), "{block}");
    if let Some(text) = block.get("text") {
        assert!((1..=3000).contains(&size(text)), "{block}");
    }
    for text in fields.iter().chain(&elements).chain(block.get("text")) {
        assert_eq!((&text["type"], &text["verbatim"]), (&json!("mrkdwn"), &json!(true)));
    }
}

#[test]
fn of_a_message_too_long_the_log_gives_way_first() {
    let payload = payload_of(&endless());
    let log = texts(&payload).into_iter().find(|text| text.starts_with("```")).expect("a log");
    assert!((1000..2900).contains(&log.chars().count()), "{}", log.chars().count());
    let short = payload_of(&crate::announce::Message { excerpt: endless().excerpt, ..good() });
    let log = texts(&short).into_iter().find(|text| text.starts_with("```")).expect("a log");
    assert!((2500..=3000).contains(&log.chars().count()), "{}", log.chars().count());
}

fn bot(server: &Server) -> Bot {
    let api = server.at("/api/");
    Bot::new(http(), api, "xoxb-s3cret\n", "C1".to_owned(), "Secret ops/slack".to_owned())
}

async fn error_of(head: &'static str, body: &'static str) -> SinkError {
    let server = Server::new(vec![Reply::Answer(head, body)]).await;
    let error = bot(&server).post(&good(), None, false).await.expect_err("refused");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    error
}

#[tokio::test]
async fn a_thread_is_posted_edited_and_replied_to() {
    let ok = r#"{"ok":true,"channel":"C1","ts":"1700000000.000100"}"#;
    let server = Server::new([ok, ok, ok, ok].map(|ok| Reply::Answer("200 OK", ok)).into()).await;
    let bot = bot(&server);
    let ts = bot.post(&good(), None, true).await.expect("posted").expect("an id");
    assert_eq!(ts, "1700000000.000100");
    bot.post(&good(), Some(&ts), false).await.expect("posted");
    bot.post(&failing(), Some(&ts), true).await.expect("posted");
    bot.edit(&good(), &ts).await.expect("edited");
    let seen = server.seen();
    let bodies: Vec<Value> = seen.iter().map(|(_, body)| serde_json::from_str(body).expect("JSON")).collect();
    let paths: Vec<_> = seen.iter().map(|(head, _)| head.split(' ').nth(1).expect("a path")).collect();
    assert_eq!(
        paths,
        ["/api/chat.postmessage", "/api/chat.postmessage", "/api/chat.postmessage", "/api/chat.update"]
    );
    assert!(seen.iter().all(|(head, _)| head.contains("authorization: bearer xoxb-s3cret\r\n")));
    let keys = ["channel", "ts", "thread_ts", "reply_broadcast"];
    let values = bodies.iter().map(|body| json!(keys.map(|key| &body[key]))).collect::<Vec<_>>();
    assert_eq!(
        json!(values),
        json!([
            ["C1", null, null, null],
            ["C1", null, ts, false],
            ["C1", null, ts, true],
            ["C1", ts, null, null],
        ])
    );
    assert!(bodies.iter().all(|body| body["blocks"].is_array() && body["text"].is_string()));
}

#[tokio::test]
async fn edits_go_to_the_channel_slack_made_of_a_name() {
    let posted = r#"{"ok":true,"channel":"D9","ts":"1.2"}"#;
    let server = Server::new([posted, posted].map(|body| Reply::Answer("200 OK", body)).into()).await;
    let id = bot(&server).post(&good(), None, false).await.expect("posted").expect("an id");
    bot(&server).edit(&good(), &id).await.expect("edited");
    let body: Value = serde_json::from_str(&server.seen()[1].1).expect("JSON");
    assert_eq!((&body["channel"], &body["ts"]), (&json!("D9"), &json!("1.2")));
}

#[tokio::test]
async fn every_error_means_one_thing() {
    let transient = Trouble::Transient { after: None };
    for (body, kind, reason) in [
        (r#"{"ok":false,"error":"token_revoked"}"#, Trouble::Closed, "SlackTokenInvalid"),
        (r#"{"ok":false,"error":"invalid_auth"}"#, Trouble::Closed, "SlackTokenInvalid"),
        (r#"{"ok":false,"error":"missing_scope"}"#, Trouble::Closed, "SlackScopeMissing"),
        (r#"{"ok":false,"error":"channel_not_found"}"#, Trouble::Closed, "SlackChannelNotFound"),
        (r#"{"ok":false,"error":"not_in_channel"}"#, Trouble::Closed, "SlackNotInChannel"),
        (r#"{"ok":false,"error":"is_archived"}"#, Trouble::Closed, "SlackChannelArchived"),
        (
            r#"{"ok":false,"error":"restricted_action_read_only_channel"}"#,
            Trouble::Closed,
            "SlackChannelRestricted",
        ),
        (r#"{"ok":false,"error":"message_not_found"}"#, Trouble::MessageGone, "SlackMessageGone"),
        (r#"{"ok":false,"error":"edit_window_closed"}"#, Trouble::Refused, "SlackMessageRefused"),
        (r#"{"ok":false,"error":"message_not_found"}"#, Trouble::MessageGone, "SlackMessageGone"),
        (
            r#"{"ok":false,"error":"restricted_action_thread_locked"}"#,
            Trouble::Refused,
            "SlackMessageRefused",
        ),
        (r#"{"ok":false,"error":"msg_blocks_too_long"}"#, Trouble::Refused, "SlackMessageRefused"),
        (r#"{"ok":false,"error":"invalid_blocks"}"#, Trouble::Refused, "SlackMessageRefused"),
        (r#"{"ok":false,"error":"ratelimited"}"#, transient, "RateLimited"),
        (r#"{"ok":false,"error":"internal_error"}"#, transient, "ServerError"),
        (r#"{"ok":false,"error":"something_new"}"#, transient, "ServerError"),
        (r#"{"ok":false,"error":"Token xoxb-s3cret"}"#, transient, "ServerError"),
        (r#"{"ok":false,"error":"fatal_error"}"#, Trouble::Unclear, "NoAnswer"),
        (r#"{"ok":true}"#, Trouble::Unclear, "UnexpectedAnswer"),
        ("<html>s3cret</html>", Trouble::Unclear, "UnexpectedAnswer"),
    ] {
        let error = error_of("200 OK", body).await;
        assert_eq!((error.kind, error.reason), (kind, reason), "{body}");
    }
}

#[tokio::test]
async fn what_a_person_must_do_is_said() {
    let words = |body| async move { error_of("200 OK", body).await.to_string() };
    assert_eq!(
        words(r#"{"ok":false,"error":"token_expired"}"#).await,
        "Slack rejects the bot's token (token_expired): put a new token into key token of Secret ops/slack"
    );
    assert_eq!(
        words(r#"{"ok":false,"error":"not_in_channel"}"#).await,
        "the bot is not a member of channel C1: invite it with /invite @<bot>"
    );
}

#[tokio::test]
async fn a_limit_is_obeyed_in_seconds() {
    let error =
        error_of("429 Too Many Requests\r\nRetry-After: 7", r#"{"ok":false,"error":"ratelimited"}"#).await;
    assert_eq!(error.kind, Trouble::Transient { after: Some(std::time::Duration::from_secs(7)) });
    let error = error_of("503 Service Unavailable", "").await;
    assert_eq!(error.kind, Trouble::Transient { after: None });
}

#[tokio::test]
async fn a_token_that_can_be_none_is_never_sent() {
    let server = Server::new(Vec::new()).await;
    let bot =
        Bot::new(http(), server.at("/api/"), "xoxb\n-s3cret", "C1".to_owned(), "Secret ops/slack".to_owned());
    let error = bot.post(&good(), None, false).await.expect_err("refused");
    assert_eq!((error.kind, error.reason), (Trouble::Closed, "SlackTokenInvalid"));
    assert!(server.seen().is_empty());
}
