//! One comment per pull request and target: found again, updated, and left alone if it says the same.

use opsy::forge::comment::Why;
use opsy::forge::{Done, Marker, Post, post};
use serde_json::json;

use super::{Bed, USER};

#[tokio::test]
async fn a_second_commit_updates_the_comment_of_the_first() {
    let bed = Bed::start();
    for mut pull in bed.pulls() {
        let first = pull.head.clone();
        let created = pull.post(&first, "### Opsy plan: 1 build").await;
        assert!(matches!(created.step, Done::Created(_)), "{}: {created}", pull.name());
        let second = pull.push();
        let updated = pull.post(&second, "### Opsy plan: 2 builds").await;
        assert!(matches!(updated.step, Done::Updated(_)), "{}: {updated}", pull.name());
        let comments = pull.own_comments();
        assert_eq!(comments.len(), 1, "{}: {comments:?}", pull.name());
        assert_eq!(Marker::of(&comments[0]).map(|marker| marker.head), Some(second), "{}", pull.name());
        assert!(comments[0].ends_with("### Opsy plan: 2 builds\n"), "{comments:?}");
    }
}

#[tokio::test]
async fn a_comment_that_differs_in_nothing_is_not_written() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        pull.post(&pull.head, "a plan").await;
        bed.requests();
        let left = pull.post(&pull.head, "a plan\n\n").await;
        assert_eq!(left.step, Done::Left(Why::Same), "{}", pull.name());
        assert_eq!(bed.writes(), [], "{}", pull.name());
    }
}

#[tokio::test]
async fn a_marker_that_somebody_else_pasted_does_not_count() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let pasted = format!("{}\nnothing changes", pull.plan(&pull.head, "").marker.line());
        pull.on_it("comments", json!({ "user": "eve", "body": pasted }));
        let created = pull.post(&pull.head, "a plan").await;
        assert!(matches!(created.step, Done::Created(_)), "{}: {created}", pull.name());
        pull.on_it("comments", json!({ "user": "eve", "body": pasted }));
        let updated = pull.post(&pull.head, "another plan").await;
        assert!(matches!(updated.step, Done::Updated(_)), "{}: {updated}", pull.name());
        let users: Vec<String> = pull.comments().into_iter().map(|(user, _)| user).collect();
        assert_eq!(users, ["eve", USER, "eve"], "{}", pull.name());
        assert!(
            pull.comments().iter().all(|(user, body)| user != "eve" || *body == pasted),
            "{}",
            pull.name()
        );
    }
}

#[tokio::test]
async fn the_comment_is_found_among_three_hundred() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        pull.on_it("comments", json!({ "body": "before", "count": 150 }));
        pull.post(&pull.head, "a plan").await;
        pull.on_it("comments", json!({ "body": "after", "count": 150 }));
        let updated = pull.post(&pull.head, "another plan").await;
        assert!(matches!(updated.step, Done::Updated(_)), "{}: {updated}", pull.name());
        assert_eq!(pull.comments().len(), 301, "{}", pull.name());
        assert!(pull.own_comments()[0].contains("another plan"), "{}", pull.name());
    }
}

#[tokio::test]
async fn every_target_has_a_comment_of_its_own() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        for target in ["prod", "dev", "prod"] {
            let plan = pull.plan(&pull.head, &format!("a plan of {target}"));
            let plan = Post { marker: Marker { target: target.to_owned(), ..plan.marker }, ..plan };
            post(&pull.client(), &plan).await.expect("posted");
        }
        assert_eq!(pull.own_comments().len(), 2, "{}", pull.name());
    }
}

#[tokio::test]
async fn duplicates_of_an_interrupted_run_are_named_and_the_last_is_updated() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let old = format!("{}\nold", pull.plan(&pull.head, "").marker.line());
        let ids = pull.on_it("comments", json!({ "user": USER, "body": old, "count": 2 }));
        let updated = pull.post(&pull.head, "a plan").await;
        assert_eq!(Some(updated.duplicates[0]), ids["ids"][0].as_u64(), "{}", pull.name());
        assert!(updated.to_string().contains("can be deleted"), "{updated}");
        let is_new: Vec<bool> = pull.own_comments().iter().map(|body| body.contains("a plan")).collect();
        assert_eq!(is_new, [false, true], "{}", pull.name());
    }
}

#[tokio::test]
async fn a_closed_pull_request_is_left_alone() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        pull.on_it("change-pull", json!({ "state": "closed" }));
        let left = pull.post(&pull.head, "a plan").await;
        assert_eq!((left.step, pull.own_comments().len()), (Done::Left(Why::Closed), 0), "{}", pull.name());
    }
}

#[tokio::test]
async fn the_token_of_a_workflow_finds_its_own_comment() {
    let bed = Bed::start();
    for pull in bed.pulls().into_iter().filter(|pull| pull.name() != "GitLab") {
        bed.control("tokens", json!({ "token": "ghs_1", "kind": "actions" }));
        for text in ["one", "two"] {
            let client = pull.client_of("ghs_1", None);
            let posted = post(&client, &pull.plan(&pull.head, text)).await.expect("posted");
            assert_eq!(posted.unexpected_author, None, "{}", pull.name());
        }
        let comments = pull.comments();
        assert_eq!(comments.len(), 1, "{}: {comments:?}", pull.name());
        assert!(comments[0].0.contains("actions") && comments[0].1.contains("two"), "{comments:?}");
    }
}

#[tokio::test]
async fn a_user_that_is_not_the_expected_one_is_reported() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let client = pull.client_of(super::TOKEN, Some("another-bot"));
        let posted = post(&client, &pull.plan(&pull.head, "a plan")).await.expect("posted");
        assert_eq!(posted.unexpected_author.as_deref(), Some(USER), "{}", pull.name());
        assert!(posted.to_string().contains("set OPSY_FORGE_AUTHOR"), "{posted}");
        post(&client, &pull.plan(&pull.head, "another plan")).await.expect("posted");
        let comments = pull.own_comments();
        assert!(comments.len() == 1 && comments[0].contains("another plan"), "{}: {comments:?}", pull.name());
    }
}

#[tokio::test]
async fn a_line_of_a_plan_is_never_a_command_of_gitlab() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        for text in ["/close", "first\n  /merge\n/merge\nlast", "```\n/approve\n```"] {
            pull.post(&pull.head, text).await;
            let again = pull.post(&pull.head, text).await;
            assert_eq!(again.step, Done::Left(Why::Same), "{}: {text}", pull.name());
        }
        let shown = pull.shown(pull.number);
        assert_eq!((&shown["state"], &shown["merged"]), (&json!("open"), &json!(false)), "{}", pull.name());
    }
}

#[tokio::test]
async fn a_fork_is_reported() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let fork = bed.pull(pull.kind, &json!({ "branch": "patch", "fork": "eve/images" }));
        assert!(!pull.client().pull_request(pull.number).await.expect("read").from_fork, "{}", pull.name());
        assert!(fork.client().pull_request(fork.number).await.expect("read").from_fork, "{}", pull.name());
        let posted = fork.post(&fork.head, "a plan").await;
        assert!(posted.pull_request.from_fork && posted.to_string().contains("from a fork"), "{posted}");
    }
}
