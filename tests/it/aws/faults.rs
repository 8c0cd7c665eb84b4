//! Failures of AWS calls: short ones are retried, lasting ones are classified and explained.

use std::time::{Duration, Instant};

use aws_config::timeout::TimeoutConfig;
use jiff::Timestamp;
use opsy::api::Class;
use opsy::aws::{Aws, Fresh};
use serde_json::json;

use super::{CLUSTER, config, edge, region};
use crate::bed::{Account, bed};

/// Only the SDK notices a short fault.
#[tokio::test]
async fn short_faults_are_ridden_out() {
    let (account, _) = Account::seeded();
    let aws = edge(&account).await;
    for kind in ["throttle", "raw", "reset", "lost"] {
        for operation in ["DescribeImages", "ListNodegroups"] {
            account.fault(json!({ "kind": kind, "operation": operation, "count": 1 }));
        }
        aws.own_images(region(), Fresh::Now).await.unwrap_or_else(|error| panic!("{kind}: {error}"));
        let groups = aws.nodegroup_names(region(), CLUSTER, Fresh::Now).await;
        assert_eq!(groups.unwrap_or_else(|error| panic!("{kind}: {error}")).len(), 4);
    }
    let unanswered = aws.calls()["ec2:DescribeImages unanswered"];
    assert_eq!(unanswered, 2, "reset and lost: {:?}", aws.calls());
}

/// Asserts on the class and message of the errors that a lasting fault causes.
async fn lasting(kind: &str, class: fn(Class) -> bool, words: [&str; 2]) {
    let (account, _) = Account::seeded();
    let aws = edge(&account).await;
    for operation in ["DescribeImages", "ListNodegroups"] {
        account.fault(json!({ "kind": kind, "operation": operation }));
    }
    let ec2 = aws.own_images(region(), Fresh::Now).await.expect_err(kind);
    let eks = aws.nodegroup_names(region(), CLUSTER, Fresh::Now).await.expect_err(kind);
    for (error, words) in [ec2, eks].into_iter().zip(words) {
        assert!(class(error.class()), "{kind}: {error} is {:?}", error.class());
        assert!(error.to_string().contains(words), "{kind}: {error}");
    }
    account.clear_faults();
    aws.own_images(region(), Fresh::Cached).await.expect("a failure is not cached");
}

fn is_transient(class: Class) -> bool {
    matches!(class, Class::Transient { .. })
}

#[tokio::test]
async fn lasting_throttling_is_transient() {
    lasting("throttle", is_transient, ["RequestLimitExceeded", "ThrottlingException"]).await;
}

#[tokio::test]
async fn a_lasting_gateway_page_is_transient() {
    lasting("raw", is_transient, ["HTTP 502", "HTTP 502"]).await;
}

#[tokio::test]
async fn lasting_resets_are_transient_and_name_the_host() {
    let host = bed().endpoint.strip_prefix("http://").expect("plain http");
    lasting("reset", is_transient, [host, host]).await;
}

#[tokio::test]
async fn a_denial_names_the_permission() {
    let permission = ["permission needed: ec2:DescribeImages", "permission needed: eks:ListNodegroups"];
    lasting("deny", |class| class == Class::Denied, permission).await;
}

#[tokio::test]
async fn expired_credentials_are_transient_and_say_so() {
    lasting("expired", is_transient, ["credentials have expired", "credentials have expired"]).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let (account, _) = Account::seeded();
    let limits = TimeoutConfig::builder()
        .operation_attempt_timeout(Duration::from_millis(300))
        .operation_timeout(Duration::from_secs(2))
        .build();
    let aws = Aws::with(config(&account).timeout_config(limits).load().await, Timestamp::now);
    account.fault(json!({ "kind": "slow", "operation": "DescribeImages", "seconds": 5 }));
    let start = Instant::now();
    let error = aws.own_images(region(), Fresh::Now).await.expect_err("slow");
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(error.class(), Class::TRANSIENT);
    assert!(error.to_string().contains("no response from 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_is_named() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let config = config(&Account::new()).endpoint_url(format!("http://{closed}")).load().await;
    let aws = Aws::with(config, Timestamp::now);
    let error = aws.own_images(region(), Fresh::Now).await.expect_err("nothing listens there");
    assert_eq!(error.class(), Class::TRANSIENT);
    let words = format!("ec2:DescribeImages: cannot reach {closed}: ");
    assert!(error.to_string().starts_with(&words), "{error}");
}
