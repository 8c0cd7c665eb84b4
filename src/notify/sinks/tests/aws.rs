//! Topics and mail: what is sent, that a call is not repeated after a lost response, and what errors of AWS mean.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use super::messages::{failing, good, hostile};
use super::server::{Reply, Server};
use crate::notify::sinks::ses::Mail;
use crate::notify::sinks::sns::Topic;
use crate::notify::sinks::{Sink, SinkError, Trouble};

const ARN: &str = "arn:aws:sns:eu-west-1:123456789012:images";
const TRANSIENT: Trouble = Trouble::Transient { after: None };

fn config(address: &str) -> SdkConfig {
    let credentials = Credentials::new("AKIATEST", "s3cret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(address)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

fn topic(server: &Server, arn: &str) -> Topic {
    Topic::new(&config(&server.address), arn).expect("an ARN")
}

fn mail(server: &Server) -> Mail {
    let to = vec!["a@example.com".to_owned(), "b@example.com".to_owned()];
    Mail::new(&config(&server.address), "eu-west-1", "opsy@example.com".to_owned(), to)
}

/// Returns the error of a sink after a reply, to which it must send exactly one request.
async fn error_of(reply: Reply, sink: impl FnOnce(&Server) -> Box<dyn Sink>) -> SinkError {
    let server = Server::new(vec![reply]).await;
    let error = sink(&server).post(&good(), None, false).await.expect_err("refused");
    assert_eq!(server.seen().len(), 1);
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    error
}

async fn sns_error(reply: Reply) -> SinkError {
    error_of(reply, |server| Box::new(topic(server, ARN))).await
}

async fn ses_error(reply: Reply) -> SinkError {
    error_of(reply, |server| Box::new(mail(server))).await
}

const PUBLISHED: &str =
    "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";

#[tokio::test]
async fn a_topic_gets_a_subject_of_ascii_and_a_text() {
    let server = Server::always(2, "200 OK", PUBLISHED).await;
    let sink = topic(&server, ARN);
    sink.post(&hostile(), None, true).await.expect("published");
    topic(&server, &format!("{ARN}.fifo")).post(&failing(), None, true).await.expect("published");
    let seen = server.seen();
    let subject = seen[0].1.split("&Subject=").nth(1).and_then(|rest| rest.split('&').next()).expect("one");
    assert!(subject.starts_with("%3C%21channel%3E%20") && !subject.contains("%0"), "{subject}");
    assert!(seen[0].0.contains("/eu-west-1/sns/"), "{}", seen[0].0);
    assert!(!seen[0].1.contains("MessageGroupId") && seen[1].1.contains("&MessageGroupId=opsy"));
}

#[tokio::test]
async fn mail_has_a_sender_all_readers_and_a_text() {
    let server = Server::always(1, "200 OK", r#"{"MessageId":"1"}"#).await;
    mail(&server).post(&good(), None, true).await.expect("sent");
    let (head, body) = server.seen().remove(0);
    let sent: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert!(head.starts_with("post /v2/email/outbound-emails "), "{head}");
    assert_eq!(sent["FromEmailAddress"], "opsy@example.com");
    assert_eq!(sent["Destination"]["ToAddresses"], serde_json::json!(["a@example.com", "b@example.com"]));
    let simple = &sent["Content"]["Simple"];
    assert_eq!(simple["Subject"]["Data"], "ops/node-image: build 7f3a9c succeeded");
    assert!(
        simple["Body"]["Text"]["Data"].as_str().expect("a string").contains("Image: ami-0123456789abcdef0\n")
    );
}

#[tokio::test]
async fn an_answer_that_was_lost_is_unclear_and_not_asked_for_again() {
    let error = sns_error(Reply::BreakOff).await;
    assert_eq!((error.kind, error.reason), (Trouble::Unclear, "NoAnswer"));
    assert_eq!(ses_error(Reply::BreakOff).await.kind, Trouble::Unclear);
    let unreachable = config("http://127.0.0.1:1");
    let topic = Topic::new(&unreachable, ARN).expect("an ARN");
    let error = topic.post(&good(), None, false).await.expect_err("no listener");
    assert_eq!((error.kind, error.to_string().as_str()), (TRANSIENT, "cannot reach SNS"));
}

#[tokio::test]
async fn every_error_of_sns_means_one_thing() {
    for (status, code, words, kind, reason) in [
        ("403", "AuthorizationError", "User s3cret", Trouble::Closed, "SnsAccessDenied"),
        ("404", "NotFound", "Topic does not exist", Trouble::Closed, "SnsTopicNotFound"),
        ("400", "InvalidParameter", "Invalid parameter: TopicArn", Trouble::Closed, "SnsTopicInvalid"),
        ("400", "InvalidParameter", "Invalid parameter: Subject", Trouble::Refused, "MessageRefused"),
        ("400", "KMSAccessDenied", "", Trouble::Closed, "SnsKeyDenied"),
        ("400", "KMSThrottling", "", TRANSIENT, "RateLimited"),
        ("400", "Throttling", "Rate exceeded", TRANSIENT, "RateLimited"),
        ("400", "RequestThrottledException", "", TRANSIENT, "RateLimited"),
        ("403", "InvalidClientTokenId", "s3cret", Trouble::Closed, "AwsCredentialsRejected"),
        ("500", "InternalError", "", TRANSIENT, "ServerError"),
    ] {
        let body = format!(
            "<ErrorResponse><Error><Code>{code}</Code><Message>{words}</Message></Error></ErrorResponse>"
        );
        let error = sns_error(Reply::Answer(status_line(status), body.leak())).await;
        assert_eq!((error.kind, error.reason), (kind, reason), "{code} {words}");
    }
    let body = "<ErrorResponse><Error><Code>AuthorizationError</Code></Error></ErrorResponse>";
    assert_eq!(
        sns_error(Reply::Answer("403 Forbidden", body)).await.to_string(),
        format!("AWS denies sns:Publish on {ARN}: allow it in IAM")
    );
}

#[tokio::test]
async fn every_error_of_ses_means_one_thing() {
    let unverified = "Email address is not verified. The following identities failed the check";
    for (status, code, words, kind, reason) in [
        ("403", "AccessDeniedException", "User s3cret", Trouble::Closed, "SesAccessDenied"),
        ("403", "InvalidSignatureException", "expired", Trouble::Closed, "AwsCredentialsRejected"),
        ("400", "MessageRejected", unverified, Trouble::Closed, "SesSenderUnverified"),
        ("400", "MessageRejected", "contains a virus", Trouble::Refused, "MessageRefused"),
        ("400", "MailFromDomainNotVerifiedException", "", Trouble::Closed, "SesSenderUnverified"),
        ("400", "BadRequestException", "Illegal address", Trouble::Closed, "SesAddressInvalid"),
        ("400", "SendingPausedException", "", Trouble::Closed, "SesSendingPaused"),
        ("429", "TooManyRequestsException", "", TRANSIENT, "RateLimited"),
        ("400", "LimitExceededException", "", TRANSIENT, "SesQuotaUsed"),
        ("503", "ServiceUnavailable", "", TRANSIENT, "ServerError"),
    ] {
        let head = format!("{}\r\nx-amzn-errortype: {code}", status_line(status));
        let body = format!(r#"{{"message":"{words}"}}"#);
        let error = ses_error(Reply::Answer(head.leak(), body.leak())).await;
        assert_eq!((error.kind, error.reason), (kind, reason), "{code} {words}");
    }
}

fn status_line(status: &str) -> &'static str {
    match status {
        "400" => "400 Bad Request",
        "403" => "403 Forbidden",
        "404" => "404 Not Found",
        "429" => "429 Too Many Requests",
        "503" => "503 Service Unavailable",
        _ => "500 Internal Server Error",
    }
}

#[test]
fn a_topic_is_named_by_an_arn() {
    for bad in [
        "",
        "images",
        "arn:aws:sns:eu-west-1:123456789012",
        "arn:aws:sns::123456789012:images",
        "arn:aws:sqs:eu-west-1:123456789012:images",
        "arn:aws:sns:eu-west-1:123456789012:images:5f0c",
        "arn:aws:sns:eu west:123456789012:images",
    ] {
        let error = Topic::new(&config("http://127.0.0.1:1"), bad).map(drop).expect_err(bad);
        assert!(error.ends_with("is not the ARN of an SNS topic"), "{error}");
    }
}
