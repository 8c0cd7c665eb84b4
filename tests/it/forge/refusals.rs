//! Tokens that are expired or lack a right: the message names the right and how to give it, and never the token.

use opsy::api::Class;
use opsy::forge::{ForgeError, post};
use serde_json::{Value, json};

use super::{Bed, Pull, TOKEN};

async fn refused(pull: &Pull<'_>, token: Value) -> ForgeError {
    let mut token = token;
    token["token"] = json!(TOKEN);
    pull.control("tokens", token);
    let error = post(&pull.client(), &pull.plan(&pull.head, "a plan")).await.expect_err("refused");
    assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
    assert_eq!(pull.own_comments().len(), 0, "{}", pull.name());
    error
}

#[track_caller]
fn says(pull: &Pull<'_>, error: &ForgeError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{} must say {part:?}: {text}", pull.name());
    }
}

#[tokio::test]
async fn an_expired_token() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let error = refused(&pull, json!({ "state": "expired" })).await;
        says(&pull, &error, &["FORGE_TOKEN", "HTTP 401", "expired", "create a new one"]);
        assert_eq!(error.class(), Class::Denied, "{}", pull.name());
        bed.control("tokens", json!({ "token": TOKEN, "state": "ok" }));
    }
}

#[tokio::test]
async fn a_right_that_is_missing() {
    let bed = Bed::start();
    let table: [(&[&str], &[&str]); 3] = [
        (
            &["issues:write", "pull_requests:write"],
            &["not allowed to write comments", "pull-requests: write"],
        ),
        (&["reporter"], &["not allowed to write comments", "scope api", "role Reporter"]),
        (&["write:issue"], &["not allowed to write comments", "give it the scope write:issue"]),
    ];
    for (pull, (lacks, parts)) in bed.pulls().iter().zip(table) {
        let error = refused(pull, json!({ "lacks": lacks })).await;
        says(pull, &error, parts);
        assert_eq!(error.class(), Class::Denied, "{}", pull.name());
    }
}

#[tokio::test]
async fn a_scope_of_gitlab_and_the_name_of_a_user_of_gitea() {
    let bed = Bed::start();
    let pulls = bed.pulls();
    let error = refused(&pulls[1], json!({ "lacks": ["api"] })).await;
    says(&pulls[1], &error, &["insufficient_scope", "use a token with the scope api"]);
    let error = refused(&pulls[2], json!({ "lacks": ["read:user"] })).await;
    says(&pulls[2], &error, &["give it the scope read:user", "OPSY_FORGE_AUTHOR"]);
    let client = pulls[2].client_of(TOKEN, Some(super::USER));
    post(&client, &pulls[2].plan(&pulls[2].head, "a plan")).await.expect("posted with the name that is set");
}

#[tokio::test]
async fn the_token_of_a_fork_only_reads() {
    let bed = Bed::start();
    let pull =
        bed.pull(opsy::api::git_host::GitHost::GitHub, &json!({ "branch": "patch", "fork": "eve/images" }));
    let lacks = ["issues:write", "pull_requests:write", "statuses:write"];
    let error = refused(&pull, json!({ "kind": "actions", "lacks": lacks })).await;
    says(&pull, &error, &["the pull request is from a fork", "workflow_run"]);
}

#[tokio::test]
async fn a_repository_that_the_token_does_not_see() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let error = refused(&pull, json!({ "repositories": [] })).await;
        says(&pull, &error, &[&pull.repository, "does not exist", "FORGE_TOKEN cannot see it"]);
        assert_eq!(error.class(), Class::NotFound, "{}", pull.name());
    }
}

#[tokio::test]
async fn a_server_that_is_no_forge() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let html = json!({ "kind": "status", "status": 200, "body": "<html>hello</html>", "count": 1 });
        pull.control("faults", html);
        let error = pull.client().pull_request(pull.number).await.expect_err("no forge");
        says(&pull, &error, &["not as documented", "check the address"]);
    }
}

#[tokio::test]
async fn a_server_that_is_away() {
    let bed = Bed::start();
    let (client, plan) = {
        let pull = bed.pulls().remove(0);
        (pull.client(), pull.plan(&pull.head, "a plan"))
    };
    drop(bed);
    let error = post(&client, &plan).await.expect_err("no server");
    assert!(matches!(error, ForgeError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
}
