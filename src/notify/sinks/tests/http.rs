//! How requests without a useful response are classified, and which addresses are accepted.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::server::{Reply, Server, http};
use crate::api::network::Network;
use crate::notify::sinks::http::{Address, Answer, Http};
use crate::notify::sinks::{SinkError, Trouble};

const TRANSIENT: Trouble = Trouble::Transient { after: None };

async fn send(http: &Http, address: &Address) -> Result<Answer, SinkError> {
    http.send("the place", Method::POST, address, HeaderMap::new(), b"{}".to_vec()).await
}

async fn error_of(reply: Reply) -> SinkError {
    let server = Server::new(vec![reply]).await;
    let (connect, whole) = (Duration::from_secs(5), Duration::from_millis(300));
    let http = Http::with_limits(&Network::default(), connect, whole).expect("a client");
    let error = match send(&http, &server.at("/s3cret/path")).await {
        Err(error) => error,
        Ok(answer) => answer.busy("the place").unwrap_or_else(|| answer.unexpected("the place")),
    };
    assert_eq!(server.seen().len(), 1);
    let words = format!("{error} {error:?}");
    assert!(!words.contains("s3cret") && !words.contains("said"), "{words}");
    error
}

#[tokio::test]
async fn a_request_that_never_left_may_be_sent_again() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = unused.local_addr().expect("an address");
    drop(unused);
    let refused = Address::parse(&format!("http://{address}/s3cret")).expect("an address");
    let error = send(&http(), &refused).await.expect_err("no listener");
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (TRANSIENT, "cannot reach the place: connection refused")
    );
    let unknown = Address::parse("https://unknown.invalid/s3cret").expect("an address");
    let error = send(&http(), &unknown).await.expect_err("no such name");
    // The message is not checked: it depends on how long the machine waits for a name server.
    assert_eq!((error.kind, error.reason), (TRANSIENT, "Unreachable"));
    let server = Server::new(vec![Reply::Unasked]).await;
    let tls = Address::parse(&server.address.replace("http:", "https:")).expect("an address");
    let error = send(&http(), &tls).await.expect_err("no TLS");
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (TRANSIENT, "cannot reach the place: the TLS handshake failed")
    );
}

#[tokio::test]
async fn a_request_that_left_and_was_not_answered_is_unclear() {
    let error = error_of(Reply::BreakOff).await;
    assert_eq!((error.kind, error.reason), (Trouble::Unclear, "NoAnswer"));
    let error = error_of(Reply::Silence).await;
    assert_eq!(
        (error.kind, error.to_string().as_str()),
        (Trouble::Unclear, "the place did not respond in time")
    );
    assert_eq!(error_of(Reply::Answer("504 Gateway Timeout", "")).await.kind, Trouble::Unclear);
}

#[tokio::test]
async fn a_server_in_trouble_is_tried_again_when_it_says_so() {
    let after = |millis| Trouble::Transient { after: Some(Duration::from_millis(millis)) };
    for (head, body, kind) in [
        ("429 Too Many Requests\r\nRetry-After: 30", "said", after(30_000)),
        ("429 Too Many Requests", r#"{"message":"said","retry_after":0.25}"#, after(250)),
        ("429 Too Many Requests\r\nRetry-After: 999999", "", after(3_600_000)),
        ("429 Too Many Requests\r\nRetry-After: -1", r#"{"retry_after":"said"}"#, TRANSIENT),
        ("500 Internal Server Error", "said", TRANSIENT),
        ("503 Service Unavailable\r\nRetry-After: 2", "said", after(2000)),
    ] {
        assert_eq!(error_of(Reply::Answer(head, body)).await.kind, kind, "{head}");
    }
}

#[tokio::test]
async fn other_answers_are_judged_by_their_status() {
    for (head, kind) in [
        ("200 OK", Trouble::Unclear),
        ("302 Found\r\nLocation: https://example.com/", Trouble::Closed),
        ("400 Bad Request", Trouble::Refused),
        ("404 Not Found", Trouble::Closed),
        ("418 I'm a teapot", TRANSIENT),
    ] {
        assert_eq!(error_of(Reply::Answer(head, "said")).await.kind, kind, "{head}");
    }
}

#[tokio::test]
async fn requests_are_json_and_say_who_sends_them() {
    let server = Server::new(vec![Reply::Answer("200 OK", r#"{"a":1}"#)]).await;
    let answer = send(&http(), &server.at("/a?b=c").below(&["d e", "f/g", ".."])).await.expect("an answer");
    assert_eq!(answer.json(), serde_json::json!({ "a": 1 }));
    assert_eq!(answer.word(), "");
    let (head, body) = server.seen().remove(0);
    assert!(head.starts_with("post /a/d%20e/f%2fg?b=c http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/json; charset=utf-8"), "{head}");
    assert!(head.contains(concat!("user-agent: opsy/", env!("CARGO_PKG_VERSION"))), "{head}");
    assert_eq!(body, "{}");
}

#[test]
fn addresses_are_https_or_local_and_shown_nowhere() {
    let address = Address::parse(" https://hooks.example.com/services/T0/s3cret\n").expect("an address");
    assert_eq!(format!("{address:?}"), "https://hooks.example.com/…");
    for good in ["http://localhost:1/x", "http://127.0.0.1/", "http://[::1]:8/", "https://[::2]/"] {
        assert!(Address::parse(good).is_ok(), "{good}");
    }
    let long = format!("https://example.com/{}", "s3cret".repeat(1000));
    for bad in [
        "",
        "s3cret",
        "http://example.com/s3cret",
        "http://localhost.example.com/s3cret",
        "ftp://example.com/s3cret",
        "https://user:s3cret@example.com/",
        "https://s3cret@example.com/",
        "https://169.254.169.254/s3cret",
        "https://[::ffff:169.254.169.254]/s3cret",
        "https://[fd00:ec2::254]/s3cret",
        "https://example.com/s3cret\nnext",
        &long,
    ] {
        let error = Address::parse(bad).expect_err(bad);
        assert!(!error.contains("s3cret") && error.len() < 100, "{error}");
    }
}
