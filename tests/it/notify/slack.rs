//! Slack, under its rules: threads of a bot and messages of an incoming webhook.

use std::time::Duration;

use opsy::notify::sinks::incoming::Incoming;
use opsy::notify::sinks::slack::Bot;
use opsy::notify::sinks::{Sink, Trouble};
use serde_json::json;

use super::{TRANSIENT, address, closed, hostile, http, message, texts};
use crate::chat::{CHANNEL, Chat, TOKEN};

fn bot_in(chat: &Chat, token: &str, channel: &str) -> Bot {
    Bot::new(http(), address(chat, "/api/"), token, channel.to_owned(), "Secret ops/slack".to_owned())
}

fn bot(chat: &Chat) -> Bot {
    bot_in(chat, TOKEN, CHANNEL)
}

/// A server without rate limits, which have a separate test.
fn unhurried() -> Chat {
    let chat = Chat::start();
    chat.control("settings", json!({ "slack_post_burst": 1000, "hook_burst": 1000 }));
    chat
}

#[tokio::test]
async fn a_story_is_one_thread() {
    let chat = unhurried();
    let bot = bot(&chat);
    let id =
        bot.post(&message("started", "build 1 runs"), None, false).await.expect("posted").expect("an id");
    bot.post(&message("detail", "a detail"), Some(&id), false).await.expect("posted");
    bot.post(&message("failed", "build 1 failed"), Some(&id), true).await.expect("posted");
    bot.edit(&message("started", "build 1 has failed"), &id).await.expect("edited");
    let messages = chat.messages(CHANNEL);
    assert_eq!(texts(&messages, "text"), ["❌ build 1 has failed: Packer ended with 1."]);
    assert_eq!((&messages[0]["id"], &messages[0]["edits"]), (&json!(id), &json!(1)));
    let replies = messages[0]["replies"].as_array().expect("replies");
    assert_eq!(json!([replies[0]["broadcast"], replies[1]["broadcast"]]), json!([false, true]));
    assert!(chat.look("journal").as_array().expect("a list").iter().all(|call| call["warning"].is_null()));
}

#[tokio::test]
async fn a_hostile_message_arrives_and_pings_nobody() {
    let chat = unhurried();
    let bot = bot(&chat);
    let id = bot.post(&hostile(), None, false).await.expect("posted").expect("an id");
    bot.edit(&hostile(), &id).await.expect("edited");
    bot.post(&hostile(), Some(&id), true).await.expect("posted");
    let line = Incoming::new(http(), address(&chat, "/services/T0/B0/demo"), "Secret ops/slack".to_owned());
    line.post(&hostile(), None, true).await.expect("posted");
    let [head] = chat.messages(CHANNEL).try_into().expect("one message");
    let [line] = chat.messages("C0DEMO0002").try_into().expect("one message");
    for message in [&head, &head["replies"][0], &line] {
        assert_eq!(message["pings"], json!([]), "{message}");
    }
}

#[tokio::test]
async fn a_channel_given_by_name_can_be_edited_and_replied_to() {
    let chat = unhurried();
    let bot = bot_in(&chat, TOKEN, "#machine-images");
    let id = bot.post(&message("started", "one"), None, false).await.expect("posted").expect("an id");
    bot.edit(&message("started", "two"), &id).await.expect("edited");
    bot.post(&message("done", "three"), Some(&id), false).await.expect("posted");
    let [head] = chat.messages(CHANNEL).try_into().expect("one message");
    assert_eq!((&head["edits"], &head["replies"][0]["broadcast"]), (&json!(1), &json!(false)));
}

#[tokio::test]
async fn what_only_a_person_can_change_closes_the_channel() {
    let chat = unhurried();
    let post = async |bot: Bot| bot.post(&message("x", "x"), None, false).await.expect_err("refused");
    assert_eq!(closed(&post(bot_in(&chat, "xoxb-other", CHANNEL)).await), "SlackTokenInvalid");
    assert_eq!(closed(&post(bot_in(&chat, TOKEN, "C0NOWHERE")).await), "SlackChannelNotFound");
    chat.control("channels", json!({ "id": CHANNEL, "member": false }));
    assert_eq!(closed(&post(bot(&chat)).await), "SlackNotInChannel");
    chat.control("channels", json!({ "id": CHANNEL, "member": true, "archived": true }));
    assert_eq!(closed(&post(bot(&chat)).await), "SlackChannelArchived");
    chat.control("tokens", json!({ "token": TOKEN, "scopes": [] }));
    assert_eq!(closed(&post(bot(&chat)).await), "SlackScopeMissing");
    chat.control("tokens", json!({ "token": TOKEN, "state": "token_revoked" }));
    let error = post(bot(&chat)).await;
    assert_eq!(
        error.to_string(),
        "Slack rejects the bot's token (token_revoked): put a new token into key token of Secret ops/slack"
    );
    assert!(chat.messages(CHANNEL).is_empty());
}

#[tokio::test]
async fn a_thread_that_is_gone_is_told_from_a_message_refused() {
    let chat = unhurried();
    let bot = bot(&chat);
    let id = bot.post(&message("started", "one"), None, false).await.expect("posted").expect("an id");
    chat.control("tokens", json!({ "token": "xoxb-another", "bot": "B0OTHER" }));
    let other = bot_in(&chat, "xoxb-another", CHANNEL);
    let foreign = other.edit(&message("started", "two"), &id).await.expect_err("another's");
    let edit = bot.edit(&message("started", "two"), "1.000001").await.expect_err("gone");
    let reply = bot.post(&message("done", "three"), Some("1.000001"), true).await.expect_err("gone");
    assert_eq!(
        (foreign.kind, foreign.reason),
        (Trouble::Refused, "SlackMessageRefused"),
        "the message exists"
    );
    for error in [edit, reply] {
        assert_eq!((error.kind, error.reason), (Trouble::MessageGone, "SlackMessageGone"));
    }
}

#[tokio::test]
async fn limits_are_answered_with_the_pause_slack_asks_for() {
    let chat = Chat::start();
    chat.control("clock", json!({ "freeze": true }));
    let bot = bot(&chat);
    for number in 0..3 {
        bot.post(&message("x", &number.to_string()), None, false).await.expect("posted");
    }
    let error = bot.post(&message("x", "3"), None, false).await.expect_err("limited");
    let Trouble::Transient { after: Some(after) } = error.kind else { panic!("{error:?}") };
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&after), "{after:?}");
    chat.control("clock", json!({ "advance": after.as_secs() }));
    bot.post(&message("x", "3"), None, false).await.expect("posted");
    assert_eq!(chat.messages(CHANNEL).len(), 4);
}

#[tokio::test]
async fn a_lost_answer_is_unclear_and_a_refused_one_is_not() {
    let chat = unhurried();
    let bot = bot(&chat);
    let fault = |kind: &str| {
        chat.control("faults", json!({ "kind": kind, "place": "chat", "count": 1, "error": "fatal_error" }))
    };
    for (kind, trouble) in [
        ("lost", Trouble::Unclear),
        ("reset", Trouble::Unclear),
        ("error", Trouble::Unclear),
        ("status", TRANSIENT),
    ] {
        fault(kind);
        let error = bot.post(&message("x", kind), None, false).await.expect_err("a fault");
        assert_eq!(error.kind, trouble, "{kind}");
    }
    assert_eq!(texts(&chat.messages(CHANNEL), "text"), ["❌ lost: Packer ended with 1."]);
    assert_eq!(chat.calls().len(), 4, "nothing is sent twice");
}

#[tokio::test]
async fn an_incoming_webhook_takes_lines_or_says_why_not() {
    let chat = unhurried();
    let hook = |path| Incoming::new(http(), address(&chat, path), "Secret ops/slack".to_owned());
    let line = hook("/services/T0/B0/demo");
    assert_eq!(line.post(&message("done", "one"), None, true).await.expect("posted"), None);
    assert_eq!(texts(&chat.messages("C0DEMO0002"), "text"), ["❌ one: Packer ended with 1."]);
    let post = async |hook: &Incoming| hook.post(&message("x", "x"), None, false).await.expect_err("refused");
    assert_eq!(closed(&post(&hook("/services/T0/B0/other")).await), "SlackWebhookInvalid");
    chat.control("channels", json!({ "id": "C0DEMO0002", "archived": true }));
    assert_eq!(closed(&post(&line).await), "SlackChannelArchived");
    chat.control("hooks", json!({ "path": "/services/T0/B0/demo", "state": "action_prohibited" }));
    assert_eq!(closed(&post(&line).await), "SlackChannelRestricted");
}
