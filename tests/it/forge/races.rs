//! Runs that overlap, pushes at the wrong moment, and responses that are lost.

use opsy::forge::comment::Why;
use opsy::forge::{Done, Marker, post};
use serde_json::json;

use super::Bed;

#[tokio::test]
async fn two_runs_at_the_same_time_leave_one_comment() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let clients = [pull.client(), pull.client()];
        let plans = [pull.plan(&pull.head, "one"), pull.plan(&pull.head, "two")];
        let (one, two) = tokio::join!(post(&clients[0], &plans[0]), post(&clients[1], &plans[1]));
        one.expect("posted");
        two.expect("posted");
        let comments = pull.own_comments();
        assert_eq!(comments.len(), 1, "{}: {comments:?}", pull.name());
    }
}

/// Both runs list no comment. The second one creates its comment while the first one does.
#[tokio::test]
async fn of_two_comments_that_are_created_at_the_same_time_the_later_is_deleted() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let rival = format!("{}\nrival", pull.plan(&pull.head, "").marker.line());
        // The rival's comment arrives after the list was read and before the own one.
        let fault = json!({ "kind": "comment", "method": "GET", "place": "(comments|notes)$", "count": 1,
            "user": super::USER, "body": rival });
        pull.on_it("faults", fault);
        let posted = pull.post(&pull.head, "a plan").await;
        assert!(matches!(posted.step, Done::Updated(_)), "{}: {posted}", pull.name());
        let comments = pull.own_comments();
        assert_eq!(comments.len(), 1, "{}: {comments:?}", pull.name());
        assert!(comments[0].contains("a plan"), "{comments:?}");
        assert!(bed.writes().iter().any(|(method, _)| method == "DELETE"), "{}", pull.name());
    }
}

#[tokio::test]
async fn an_older_commit_that_finishes_later_writes_nothing() {
    let bed = Bed::start();
    for mut pull in bed.pulls() {
        let old = pull.head.clone();
        let new = pull.push();
        let outdated = pull.post(&old, "an old plan").await;
        assert_eq!(outdated.step, Done::Left(Why::Outdated { head: new.clone() }), "{}", pull.name());
        pull.post(&new, "a new plan").await;
        bed.requests();
        let newer = pull.post(&old, "an old plan").await;
        assert_eq!(newer.step, Done::Left(Why::Newer { head: new.clone() }), "{}", pull.name());
        assert_eq!(bed.writes(), [], "{}", pull.name());
        assert!(pull.own_comments()[0].contains("a new plan"), "{}", pull.name());
    }
}

#[tokio::test]
async fn a_push_during_the_write_makes_the_comment_say_that_it_is_outdated() {
    let bed = Bed::start();
    for mut pull in bed.pulls() {
        let old = pull.head.clone();
        pull.on_it("faults", json!({ "kind": "push", "method": "POST", "count": 1, "sha": "a".repeat(40) }));
        let posted = pull.post(&old, "a plan").await;
        assert_eq!(posted.superseded_by, Some("a".repeat(40)), "{}", pull.name());
        let comments = pull.own_comments();
        assert!(comments.len() == 1 && comments[0].contains("This plan is outdated"), "{comments:?}");
        assert_eq!(Marker::of(&comments[0]).map(|marker| marker.head), Some(old), "{}", pull.name());
        let new = pull.push();
        pull.post(&new, "a new plan").await;
        let comments = pull.own_comments();
        assert!(comments.len() == 1 && !comments[0].contains("outdated"), "{comments:?}");
    }
}

#[tokio::test]
async fn a_lost_response_leads_to_no_second_comment() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        pull.control("faults", json!({ "kind": "lost", "method": "POST", "count": 1 }));
        let posted = pull.post(&pull.head, "a plan").await;
        assert_eq!(posted.step, Done::Left(Why::Same), "{}: it was found", pull.name());
        assert_eq!(pull.own_comments().len(), 1, "{}", pull.name());
    }
}

#[tokio::test]
async fn a_comment_that_a_person_deletes_meanwhile_is_created_again() {
    let bed = Bed::start();
    for mut pull in bed.pulls() {
        pull.post(&pull.head, "a plan").await;
        let head = pull.push();
        let fault = json!({ "kind": "status", "place": "(comments|notes)/", "status": 404, "count": 1,
            "body": { "message": "Not Found" } });
        pull.control("faults", fault);
        let posted = pull.post(&head, "a new plan").await;
        assert!(matches!(posted.step, Done::Updated(_)), "{}: {posted}", pull.name());
        assert!(pull.own_comments()[0].contains("a new plan"), "{}", pull.name());
    }
}
