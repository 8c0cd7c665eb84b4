//! Messages as plain text, for mail and topics.

use insta::assert_snapshot;

use super::messages::{endless, failing, hostile};
use crate::notify::sinks::plain::{body, subject};

#[test]
fn messages_as_plain_text() {
    assert_snapshot!("plain_failing", body(&failing()));
    assert_snapshot!("plain_hostile", body(&hostile()));
}

#[test]
fn the_longest_message_stays_below_the_limits() {
    // The limit of SNS is 256 KiB.
    assert!(body(&endless()).len() < 200 * 1024, "{}", body(&endless()).len());
    assert_eq!(subject(&endless()).chars().count(), 150);
    assert!(!subject(&hostile()).contains(['\r', '\n', '\0']));
}
