//! Pull requests that are not wanted any more, because the settings changed.

use opsy::api::Owner;
use opsy::api::git_host::GitHost;
use serde_json::json;

use super::world::{BRANCH, KINDS, PULL_REQUEST, World};
use crate::forge::{Bed, TOKEN};

const RELEASE: &str = r#"{"publish": {"mode": "PullRequest", "branch": "release"}}"#;

#[tokio::test]
async fn a_pull_request_that_is_not_wanted_any_more_is_closed_and_its_branch_deleted() {
    let bed = Bed::start();
    let other = Owner::parse("team-b").expect("an owner");
    for kind in KINDS {
        for is_restarted in [false, true] {
            for (settings, open) in [
                (r#"{"publish": {"mode": "Commit"}}"#, None),
                (r#"{"publish": {"mode": "PullRequest", "enabled": false}}"#, None),
                (RELEASE, Some("opsy/team-a/release")),
                (PULL_REQUEST, Some("opsy/team-b/main")),
            ] {
                // The owner before the restart is not known. All forges close in the same way.
                let is_unknown = is_restarted && settings == PULL_REQUEST;
                if is_unknown || kind != GitHost::Gitea && (is_restarted || settings != RELEASE) {
                    continue;
                }
                let mut world = World::new(&bed, kind, PULL_REQUEST).await;
                world.remote().commit("release", &[("b", Some("1"))]);
                world.put("one", Some("built"));
                world.publish().await;
                assert!(world.remote().tip(BRANCH).is_some(), "{}", world.name());
                world.set(settings);
                if settings == PULL_REQUEST {
                    *world.files.owner.lock().expect("not poisoned") = Some(other.clone());
                }
                if is_restarted {
                    world.restart();
                }
                world.flush().await;
                let context = format!("{} {settings} {is_restarted}", world.name());
                let states = world.states();
                assert_eq!(states, ["closed", "open"][..1 + usize::from(open.is_some())], "{context}");
                assert_eq!(world.remote().tip(BRANCH), None, "{context}");
                assert!(open.is_none_or(|open| world.remote().tip(open).is_some()), "{context}");
                if open.is_none() {
                    bed.requests();
                    world.server.journal();
                    world.flush().await;
                    assert_eq!((bed.requests(), world.server.journal()), Default::default(), "{context}");
                }
                // The same change can be due again.
                open.into_iter().for_each(|_| world.close_by_hand(2, true));
                if world.remote().file("main", "status/one.yaml").is_some() {
                    world.commit(&[("status/one.yaml", None)]).await;
                }
                *world.files.owner.lock().expect("not poisoned") = None;
                world.set(PULL_REQUEST);
                world.publish().await;
                assert_eq!(world.states().last().map(String::as_str), Some("open"), "{context}");
                assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"), "{context}");
            }
        }
    }
}

#[tokio::test]
async fn branches_of_others_stay_when_the_mode_changes() {
    let bed = Bed::start();
    let mut world = World::with_pull_request(&bed, GitHost::Gitea).await;
    let repo = world.remote().repo();
    let base = repo.revparse_single("main").expect("the target").peel_to_commit().expect("a commit");
    let opsy = git2::Signature::now("Opsy", "opsy@users.noreply.local").expect("a signature");
    // An agent with the same owner reads another branch, and a person has another name.
    for (name, source) in [("dev", "dev"), ("by-hand", "main")] {
        let author = if source == "dev" { opsy.clone() } else { base.author().to_owned() };
        let message = format!("x\n\nOpsy-Source: {source}\nOpsy-Owner: team-a\n");
        let reference = format!("refs/heads/opsy/team-a/{name}");
        let tree = base.tree().expect("a tree");
        repo.commit(Some(&reference), &author, &opsy, &message, &tree, &[&base]).expect("a commit");
    }
    let theirs = world.remote().commit(BRANCH, &[("status/one.yaml", Some("mine"))]);
    world.set(r#"{"publish": {"mode": "Commit"}}"#);
    world.restart();
    world.publish().await;
    assert_eq!(world.remote().tip(BRANCH), Some(theirs));
    assert_eq!(world.states(), ["open"]);
    assert!(world.remote().tip("opsy/team-a/dev").is_some());
    assert!(world.remote().tip("opsy/team-a/by-hand").is_some());
}

#[tokio::test]
async fn a_copy_of_the_branch_and_its_pull_request_stay_when_the_mode_changes() {
    let bed = Bed::start();
    for kind in KINDS {
        let mut world = World::with_pull_request(&bed, kind).await;
        let tip = world.remote().tip(BRANCH).expect("the branch");
        let copies = ["opsy/team-a/backup", "opsy/team-a/mine"];
        copies.iter().for_each(|copy| world.remote().reset(copy, &tip));
        let body = world.pull.shown(1)["body"].clone();
        let pull = json!({ "repository": world.pull.repository, "branch": copies[1], "body": body });
        bed.control("pull", pull);
        world.set(r#"{"publish": {"mode": "Commit"}}"#);
        world.restart();
        world.publish().await;
        assert_eq!(world.states(), ["closed", "open"], "{}", world.name());
        assert_eq!(world.remote().tip(BRANCH), None, "{}", world.name());
        for copy in copies {
            assert_eq!(world.remote().tip(copy).as_ref(), Some(&tip), "{}: {copy}", world.name());
        }
    }
}

/// The names of the branch that is read and of the one that is published to can be any.
#[tokio::test]
async fn a_branch_that_is_read_or_published_to_is_never_deleted() {
    let bed = Bed::start();
    let mut world = World::with_pull_request(&bed, GitHost::Gitea).await;
    world.set(r#"{"publish": {"branch": "opsy/team-a/main"}}"#);
    world.restart();
    world.publish().await;
    assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"));
}

#[tokio::test]
async fn a_lasting_error_of_the_forge_is_not_retried_for_what_is_not_wanted_any_more() {
    let bed = Bed::start();
    let mut world = World::with_pull_request(&bed, GitHost::Gitea).await;
    bed.control("tokens", json!({ "token": TOKEN, "state": "revoked" }));
    world.set(r#"{"publish": {"mode": "Commit"}}"#);
    world.publish().await;
    bed.requests();
    world.publish().await;
    assert_eq!(bed.requests(), []);
    assert_eq!(world.states(), ["open"]);
    // Comments are not needed to close it.
    bed.control("tokens", json!({ "token": TOKEN, "state": "ok" }));
    bed.control("faults", json!({ "kind": "status", "status": 403, "method": "POST", "count": 1 }));
    world.restart();
    world.publish().await;
    assert_eq!((world.states(), world.remote().tip(BRANCH)), (vec!["closed".to_owned()], None));
}
