//! Rate limits, sizes, and what is never followed.

use std::time::Duration;

use opsy::api::git_host::GitHost;
use opsy::forge::comment::{MOST_BYTES, Why};
use opsy::forge::{Done, ForgeError, Marker, Post, post};
use serde_json::json;

use super::Bed;

#[tokio::test]
async fn a_text_over_the_limit_is_refused_before_anything_is_sent() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let plan = pull.plan(&pull.head, &"é".repeat(MOST_BYTES / 2));
        let refused = post(&pull.client(), &plan).await.expect_err("too long");
        assert!(matches!(refused, ForgeError::TooLong { .. }), "{}: {refused}", pull.name());
        assert_eq!(bed.requests(), [], "{}", pull.name());
        let marker = pull.plan(&pull.head, "").marker.line().len() + 2;
        let largest = pull.post(&pull.head, &"x".repeat(MOST_BYTES - marker)).await;
        assert!(matches!(largest.step, Done::Created(_)), "{}: {largest}", pull.name());
        bed.requests();
    }
}

#[tokio::test]
async fn a_limit_of_the_server_is_reported() {
    let bed = Bed::start();
    bed.control("settings", json!({ "gitea_body_bytes": 500 }));
    let pull = bed.pulls().pop().expect("Gitea");
    let refused =
        post(&pull.client(), &pull.plan(&pull.head, &"x".repeat(1000))).await.expect_err("too large");
    assert!(refused.to_string().contains("HTTP 413"), "{refused}");
    assert_eq!(pull.own_comments().len(), 0);
}

#[tokio::test]
async fn a_short_rate_limit_is_waited_for() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        for method in ["GET", "POST"] {
            let limited = json!({ "kind": "status", "method": method, "status": 429, "count": 1,
                "headers": { "Retry-After": 1 }, "body": "Retry later" });
            pull.control("faults", limited);
        }
        let posted = pull.post(&pull.head, "a plan").await;
        assert!(matches!(posted.step, Done::Created(_)), "{}: {posted}", pull.name());
        let limited = bed.requests().iter().filter(|(_, status)| *status == 429).count();
        assert_eq!((limited, pull.own_comments().len()), (2, 1), "{}", pull.name());
    }
}

/// A run that waits for a rate limit writes nothing about a commit that is not the head any more.
#[tokio::test]
async fn everything_is_read_again_after_the_wait_for_a_rate_limit() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let head = "a".repeat(40);
        pull.on_it(
            "faults",
            json!({ "kind": "push", "method": "GET", "place": "(pulls|merge_requests)/1$",
            "count": 1, "sha": head }),
        );
        pull.control(
            "faults",
            json!({ "kind": "status", "method": "POST", "status": 429, "count": 1,
            "headers": { "Retry-After": 1 }, "body": "Retry later" }),
        );
        let posted = pull.post(&pull.head, "an old plan").await;
        assert_eq!(posted.step, Done::Left(Why::Outdated { head }), "{}", pull.name());
        assert_eq!(pull.own_comments().len(), 0, "{}", pull.name());
        assert_eq!(bed.writes().len(), 1, "{}", pull.name());
    }
}

#[tokio::test]
async fn a_limit_without_an_end_is_not_asked_for_ever() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let endless = json!({ "kind": "status", "status": 429, "count": 6, "headers": { "Retry-After": 0 } });
        pull.control("faults", endless);
        let refused = pull.client().pull_request(pull.number).await.expect_err("limited");
        assert!(matches!(refused, ForgeError::Limited { .. }), "{}: {refused}", pull.name());
        assert_eq!(bed.requests().len(), 6, "{}", pull.name());
    }
}

#[tokio::test]
async fn a_long_rate_limit_is_an_error_that_says_when_to_try_again() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let limited = json!({ "kind": "status", "method": "POST", "status": 429, "count": 1,
            "headers": { "Retry-After": 900 }, "body": "Retry later" });
        pull.control("faults", limited);
        let refused = post(&pull.client(), &pull.plan(&pull.head, "a plan")).await.expect_err("limited");
        assert!(matches!(refused, ForgeError::Limited { after, .. } if after.as_secs() == 900), "{refused}");
        assert!(refused.to_string().contains("try again in 15 minutes"), "{refused}");
        let endless = json!({ "kind": "status", "method": "GET", "status": 429, "count": 1,
            "headers": { "Retry-After": u64::MAX.to_string() }, "body": "Retry later" });
        pull.control("faults", endless);
        let refused = pull.client().pull_request(pull.number).await.expect_err("limited");
        let after = |error: &ForgeError| {
            if let ForgeError::Limited { after, .. } = error { *after } else { Duration::ZERO }
        };
        assert_eq!(after(&refused), Duration::from_secs(24 * 3600), "{}: {refused}", pull.name());
    }
}

#[tokio::test]
async fn both_rate_limits_of_github_are_no_missing_rights() {
    let bed = Bed::start();
    let pull = bed.pulls().remove(0);
    bed.control("clock", json!({ "freeze": true }));
    bed.control("settings", json!({ "github_requests": 2 }));
    let refused = post(&pull.client(), &pull.plan(&pull.head, "a plan")).await.expect_err("limited");
    let ForgeError::Limited { after, .. } = refused else { panic!("{refused}") };
    assert!(after > Duration::from_secs(3000), "until the reset: {after:?}");
    bed.control("settings", json!({ "github_requests": 0 }));
    let secondary = json!({ "kind": "status", "method": "POST", "status": 403, "count": 1, "body": {
        "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again." },
        "headers": { "Retry-After": 300 } });
    bed.control("faults", secondary);
    let refused = post(&pull.client(), &pull.plan(&pull.head, "a plan")).await.expect_err("limited");
    assert!(matches!(refused, ForgeError::Limited { after, .. } if after.as_secs() == 300), "{refused}");
}

#[tokio::test]
async fn a_link_to_another_server_is_not_followed() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        pull.on_it("comments", json!({ "body": "x", "count": 3 }));
        let elsewhere = json!({ "kind": "status", "place": "(comments|notes)$", "status": 200, "count": 1, "body": [],
            "headers": { "Link": "<http://elsewhere.invalid/list?page=1&per_page=2>; rel=\"next\"" } });
        pull.control("faults", elsewhere);
        let comments = pull.client().comments(pull.number).await.expect("read");
        assert_eq!(comments.len(), 3, "{}: the other pages are those of the same server", pull.name());
    }
}

#[tokio::test]
async fn pages_of_gitlab_are_found_without_links() {
    let bed = Bed::start();
    let pull = bed.pulls().remove(1);
    pull.on_it("comments", json!({ "body": "x", "count": 150 }));
    let first = json!({ "kind": "status", "place": "notes$", "status": 200, "count": 1, "body": [],
        "headers": { "x-next-page": "2" } });
    pull.control("faults", first);
    let comments = pull.client().comments(pull.number).await.expect("read");
    assert_eq!(comments.len(), 50, "the second page with a hundred comments each");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let moved = json!({ "kind": "status", "method": "GET", "status": 301, "count": 1,
            "headers": { "Location": "http://elsewhere.invalid/" } });
        pull.control("faults", moved);
        let refused = pull.client().pull_request(pull.number).await.expect_err("moved");
        assert!(matches!(refused, ForgeError::Moved { .. }), "{}: {refused}", pull.name());
        assert_eq!(bed.requests().len(), 1, "{}", pull.name());
    }
}

#[tokio::test]
async fn reads_are_repeated_and_writes_are_not() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        pull.control(
            "faults",
            json!({ "kind": "status", "method": "GET", "status": 502, "count": 1, "body": "<html>" }),
        );
        pull.control(
            "faults",
            json!({ "kind": "status", "method": "POST", "status": 502, "count": 1, "body": "<html>" }),
        );
        let refused = post(&pull.client(), &pull.plan(&pull.head, "a plan")).await.expect_err("unavailable");
        assert!(matches!(refused, ForgeError::Busy { status: 502, .. }), "{}: {refused}", pull.name());
        assert_eq!(bed.writes().len(), 1, "{}", pull.name());
    }
}

#[tokio::test]
async fn gitlab_limits_notes_per_minute() {
    let bed = Bed::start();
    let pull = bed.pulls().remove(1);
    assert_eq!(pull.kind, GitHost::GitLab);
    bed.control("settings", json!({ "gitlab_notes": 1 }));
    pull.post(&pull.head, "a plan").await;
    bed.control("clock", json!({ "advance": 57 }));
    let other = Marker { target: "dev".to_owned(), ..pull.plan(&pull.head, "").marker };
    let plan = Post { marker: other, ..pull.plan(&pull.head, "a plan") };
    post(&pull.client(), &plan).await.expect("posted after the limit");
    assert!(bed.requests().iter().any(|(_, status)| *status == 429));
    assert_eq!(pull.own_comments().len(), 2);
}
