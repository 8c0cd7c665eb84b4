//! Slack's incoming webhook: its error codes, which are plain text with an HTTP status.

use serde_json::{Value, json};

use super::messages::{failing, good};
use super::server::{Server, http};
use crate::notify::sinks::blocks::payload;
use crate::notify::sinks::incoming::Incoming;
use crate::notify::sinks::{Sink, SinkError, Trouble};

fn incoming(server: &Server) -> Incoming {
    Incoming::new(http(), server.at("/services/T0/B0/s3cret"), "Secret ops/slack".to_owned())
}

async fn error_of(head: &'static str, body: &'static str) -> SinkError {
    let server = Server::always(1, head, body).await;
    let error = incoming(&server).post(&good(), None, false).await.expect_err("refused");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    error
}

#[tokio::test]
async fn a_line_has_the_same_blocks_and_no_thread() {
    let server = Server::always(1, "200 OK", "ok").await;
    let sink = incoming(&server);
    let id = sink.post(&failing(), Some("PackerBuilder/ops/node/build/1"), true).await.expect("posted");
    assert_eq!(id, None);
    let (head, body) = server.seen().remove(0);
    assert!(head.starts_with("post /services/t0/b0/s3cret http/1.1\r\n"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), json!(payload(&failing())));
}

#[tokio::test]
async fn every_error_means_one_thing() {
    let transient = Trouble::Transient { after: None };
    for (head, body, kind, reason) in [
        ("400 Bad Request", "invalid_payload", Trouble::Refused, "SlackMessageRefused"),
        ("400 Bad Request", "user_not_found", Trouble::Closed, "SlackWebhookInvalid"),
        ("403 Forbidden", "action_prohibited", Trouble::Closed, "SlackChannelRestricted"),
        ("403 Forbidden", "invalid_token", Trouble::Closed, "SlackWebhookInvalid"),
        ("404 Not Found", "channel_not_found", Trouble::Closed, "SlackChannelNotFound"),
        ("404 Not Found", "no_service", Trouble::Closed, "SlackWebhookInvalid"),
        ("404 Not Found", "<html>s3cret</html>", Trouble::Closed, "UnexpectedAnswer"),
        ("410 Gone", "channel_is_archived", Trouble::Closed, "SlackChannelArchived"),
        ("500 Internal Server Error", "rollup_error", transient, "ServerError"),
    ] {
        let error = error_of(head, body).await;
        assert_eq!((error.kind, error.reason), (kind, reason), "{head} {body}");
    }
    let error = error_of("429 Too Many Requests\r\nRetry-After: 1", "rate_limited").await;
    assert_eq!(error.kind, Trouble::Transient { after: Some(std::time::Duration::from_secs(1)) });
}

#[tokio::test]
async fn what_a_person_must_do_is_said() {
    assert_eq!(
        error_of("404 Not Found", "no_service").await.to_string(),
        "Slack does not know the webhook any more (no_service): put a new URL into key url of Secret \
         ops/slack"
    );
}
