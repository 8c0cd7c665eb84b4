//! SNS topics and SES mail in the emulated AWS: what is published, and how refusals are classified.

use aws_config::SdkConfig;
use opsy::notify::sinks::ses::Mail;
use opsy::notify::sinks::sns::Topic;
use opsy::notify::sinks::{Sink, Trouble};
use serde_json::{Value, json};

use super::{TRANSIENT, closed, hostile, message};
use crate::aws::config;
use crate::bed::Account;

async fn sdk(account: &Account) -> SdkConfig {
    config(account).load().await
}

/// Creates a topic, and returns it with its ARN.
async fn topic(sdk: &SdkConfig) -> (Topic, String) {
    let made = aws_sdk_sns::Client::new(sdk).create_topic().name("images").send().await.expect("a topic");
    let arn = made.topic_arn().expect("its ARN").to_owned();
    (Topic::new(sdk, &arn).expect("an ARN"), arn)
}

fn mail(sdk: &SdkConfig) -> Mail {
    Mail::new(sdk, "us-east-1", "opsy@example.com".to_owned(), vec!["ada@example.com".to_owned()])
}

async fn verify(sdk: &SdkConfig) {
    let client = aws_sdk_sesv2::Client::new(sdk);
    client.create_email_identity().email_identity("opsy@example.com").send().await.expect("verified");
}

fn sent(account: &Account) -> Vec<Value> {
    account.look("sent").as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_topic_and_a_mailbox_get_the_message() {
    let account = Account::new();
    let sdk = sdk(&account).await;
    verify(&sdk).await;
    let (topic, arn) = topic(&sdk).await;
    topic.post(&message("failed", "build 1 → failed"), None, true).await.expect("published");
    mail(&sdk).post(&message("failed", "build 1 → failed"), None, true).await.expect("sent");
    topic.post(&hostile(), None, true).await.expect("published");
    mail(&sdk).post(&hostile(), None, true).await.expect("sent");
    let sent = sent(&account);
    assert_eq!(sent.len(), 4);
    assert_eq!((&sent[0]["topic"], &sent[0]["subject"]), (&json!(arn), &json!("build 1 -> failed")));
    assert_eq!(
        (&sent[1]["to"], &sent[1]["subject"]),
        (&json!(["ada@example.com"]), &json!("build 1 → failed"))
    );
    assert_eq!(sent[0]["body"], sent[1]["body"]);
    assert!(
        sent[0]["body"]
            .as_str()
            .expect("a string")
            .ends_with("\n\nCommit: https://git.example.com/c/4f2d1c0\n")
    );
}

#[tokio::test]
async fn what_only_a_person_can_change_closes_topic_and_mailbox() {
    let account = Account::new();
    let sdk = sdk(&account).await;
    let post = async |sink: &dyn Sink| sink.post(&message("x", "x"), None, false).await.expect_err("refused");
    let arn = format!("arn:aws:sns:us-east-1:{}:nowhere", account.id);
    let nowhere = Topic::new(&sdk, &arn).expect("an ARN");
    assert_eq!(closed(&post(&nowhere).await), "SnsTopicNotFound");
    assert_eq!(closed(&post(&mail(&sdk)).await), "SesSenderUnverified");
    account.fault(json!({ "service": "sns", "kind": "deny", "count": 1 }));
    account.fault(json!({ "service": "sesv2", "kind": "deny", "count": 1 }));
    assert_eq!(post(&nowhere).await.to_string(), format!("AWS denies sns:Publish on {arn}: allow it in IAM"));
    assert_eq!(
        post(&mail(&sdk)).await.to_string(),
        "AWS denies ses:SendEmail on opsy@example.com: allow it in IAM"
    );
}

#[tokio::test]
async fn a_lost_answer_is_unclear_and_a_throttled_call_is_not() {
    let account = Account::new();
    let sdk = sdk(&account).await;
    verify(&sdk).await;
    let (topic, _) = topic(&sdk).await;
    let mail = mail(&sdk);
    for (service, sink) in [("sns", &topic as &dyn Sink), ("sesv2", &mail)] {
        for (kind, trouble) in [("throttle", TRANSIENT), ("lost", Trouble::Unclear)] {
            account.fault(json!({ "service": service, "kind": kind, "count": 1 }));
            let error = sink.post(&message("x", "x"), None, false).await.expect_err("a fault");
            assert_eq!(error.kind, trouble, "{service} {kind}: {error:?}");
        }
    }
    assert_eq!(
        sent(&account).len(),
        2,
        "the message with the lost response was sent once, the throttled one never"
    );
}
