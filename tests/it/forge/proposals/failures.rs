//! Failures of the server and of the forge, and branches with commits of others.

use opsy::api::git_host::GitHost;
use opsy::api::reasons;
use serde_json::json;

use super::world::{BRANCH, KINDS, PULL_REQUEST, UNLOCK, World};
use crate::forge::{Bed, TOKEN};

#[tokio::test]
async fn a_push_that_is_retried_costs_no_request_to_the_forge() {
    let bed = Bed::start();
    let world = World::new(&bed, GitHost::Gitea, PULL_REQUEST).await;
    world.remote().hook("pre-receive", "exit 1");
    world.put("one", Some("built"));
    world.failure().await;
    assert_ne!(bed.requests(), [], "the first one asks whether the change was declined");
    world.failure().await;
    assert_eq!(bed.requests(), []);
}

#[tokio::test]
async fn an_open_pull_request_is_pushed_to_while_the_forge_fails() {
    let bed = Bed::start();
    let world = World::with_pull_request(&bed, GitHost::Gitea).await;
    bed.control("tokens", json!({ "token": TOKEN, "state": "revoked" }));
    world.put("one", Some("rebuilt"));
    for _ in 0..2 {
        assert_eq!(world.failure().await.0, reasons::PULL_REQUEST_FAILED);
        assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("rebuilt"));
    }
    bed.control("tokens", json!({ "token": TOKEN, "state": "ok" }));
    world.publish().await;
    assert_eq!(world.pulls(), [json!(["open", "opsy: one is rebuilt", "main"])]);
}

#[tokio::test]
async fn a_branch_with_commits_of_others_is_left_alone_and_named() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::with_pull_request(&bed, kind).await;
        let theirs = world.remote().commit(BRANCH, &[("status/one.yaml", Some("mine"))]);
        world.put("one", Some("rebuilt"));
        world.commit(&[("README.md", Some("news"))]).await;
        let pulls = world.pulls();
        let (reason, message) = world.failure().await;
        assert_eq!(reason, reasons::BRANCH_NOT_OWN, "{message}");
        assert!(
            message.contains(BRANCH) && message.contains(&theirs) && message.contains("Ann"),
            "{message}"
        );
        assert_eq!(world.remote().tip(BRANCH), Some(theirs), "{}", world.name());
        assert_eq!(world.pulls(), pulls, "{}", world.name());
        // A commit of this agent that a person amended is one of that person, too.
        let own = world.remote().repo();
        let tip = own.revparse_single(BRANCH).expect("the branch").peel_to_commit().expect("a commit");
        let author = git2::Signature::now("Opsy", "opsy@users.noreply.local").expect("a signature");
        let base = tip.parent(0).and_then(|own| own.parent(0)).expect("the target");
        let message = "opsy: one is built\n\nOpsy-Owner: team-a\n";
        let amended =
            own.commit(None, &author, &tip.committer(), message, &tip.tree().expect("a tree"), &[&base]);
        world.remote().reset(BRANCH, &amended.expect("a commit").to_string());
        assert_eq!(world.failure().await.0, reasons::BRANCH_NOT_OWN, "{}", world.name());
        world.remote().delete(BRANCH);
        world.publish().await;
        assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("rebuilt"), "{}", world.name());
    }
}

#[tokio::test]
async fn a_commit_that_is_pushed_meanwhile_is_not_replaced() {
    let bed = Bed::start();
    let world = World::with_pull_request(&bed, GitHost::Gitea).await;
    // The hook runs after the fetch and before the branch is moved: it moves the branch first.
    world.commit(&[("README.md", Some("news"))]).await;
    let theirs = world.remote().commit("other", &[("x", Some("y"))]);
    world.remote().hook("pre-receive", &format!("{UNLOCK}\ngit update-ref refs/heads/{BRANCH} {theirs}"));
    let (reason, message) = world.failure().await;
    assert_eq!(reason, reasons::BRANCH_NOT_OWN, "{message}");
    assert_eq!(world.remote().tip(BRANCH), Some(theirs));
}

#[tokio::test]
async fn an_error_of_the_forge_is_reported_and_survived() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        bed.control("tokens", json!({ "token": TOKEN, "state": "revoked" }));
        let (reason, message) = world.failure().await;
        assert_eq!(reason, reasons::PULL_REQUEST_FAILED, "{}: {message}", world.name());
        assert!(message.contains("HTTP 401") && message.contains(world.name()), "{message}");
        assert_eq!(world.proposed("status/one.yaml"), None, "{}: it may have been declined", world.name());
        bed.control("tokens", json!({ "token": TOKEN, "state": "ok" }));
        bed.control("faults", json!({ "kind": "status", "status": 500, "method": "POST", "count": 1 }));
        assert_eq!(world.failure().await.0, reasons::PULL_REQUEST_FAILED, "{}", world.name());
        let tip = world.remote().tip(BRANCH);
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["open", "opsy: one is built", "main"])], "{}", world.name());
        assert_eq!(world.remote().tip(BRANCH), tip, "{}: what was pushed stays", world.name());
        // The deletion fails halfway: the pull request is not left behind.
        world.commit(&[("status/one.yaml", Some("built"))]).await;
        bed.control("faults", json!({ "kind": "status", "status": 500, "method": "GET", "count": 3 }));
        assert_eq!(world.failure().await.0, reasons::PULL_REQUEST_FAILED, "{}", world.name());
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["closed", "opsy: one is built", "main"])], "{}", world.name());
        assert_eq!(world.remote().tip(BRANCH), None, "{}", world.name());
    }
}

#[tokio::test]
async fn a_target_that_does_not_exist_and_a_refused_push_are_named() {
    let bed = Bed::start();
    let settings = r#"{"publish": {"mode": "PullRequest", "branch": "release"}}"#;
    let world = World::new(&bed, GitHost::GitHub, settings).await;
    world.put("one", Some("built"));
    let (reason, message) = world.failure().await;
    assert_eq!(reason, reasons::PUSH_FAILED, "{message}");
    assert!(message.contains("branch release does not exist"), "{message}");
    world.remote().commit("release", &[("b", Some("1"))]);
    world.remote().hook("pre-receive", "echo 'no branches of robots' >&2; exit 1");
    let (reason, message) = world.failure().await;
    assert_eq!(reason, reasons::PUSH_REFUSED, "{message}");
    assert!(message.contains("no branches of robots"), "{message}");
    world.remote().unhook("pre-receive");
    world.publish().await;
    assert_eq!(world.pulls(), [json!(["open", "opsy: one is built", "release"])]);
    assert_eq!(world.remote().file("opsy/team-a/release", "status/one.yaml").as_deref(), Some("built"));
}
