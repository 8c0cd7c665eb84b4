//! What people do with pull requests: they merge, close and delete, also while the agent pushes.

use opsy::api::git_host::GitHost;
use serde_json::json;

use super::world::{BRANCH, KINDS, PULL_REQUEST, UNLOCK, World};
use crate::forge::Bed;

#[tokio::test]
async fn what_a_person_merges_is_not_proposed_again() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        // By a fast-forward.
        world.put("one", Some("built"));
        world.publish().await;
        world.remote().reset("main", &world.remote().tip(BRANCH).expect("the branch"));
        world.close_by_hand(1, true);
        world.git.fetch().await.expect("a tip");
        world.publish().await;
        assert_eq!(world.pulls().len(), 1, "{}: {:?}", world.name(), world.pulls());
        assert_eq!(world.remote().tip(BRANCH), None, "{}", world.name());
        // By a squash: the commit of the branch is not in the target.
        world.put("one", Some("rebuilt"));
        world.publish().await;
        world.close_by_hand(2, true);
        world.commit(&[("status/one.yaml", Some("rebuilt"))]).await;
        world.put("two", Some("built"));
        world.publish().await;
        let due = [("closed", "one is built"), ("closed", "one is rebuilt"), ("open", "two is built")];
        let due = due.map(|(state, what)| json!([state, format!("opsy: {what}"), "main"]));
        assert_eq!(world.pulls(), due, "{}", world.name());
        let log = world.remote().log(BRANCH);
        assert_eq!(
            log,
            ["opsy: two is built", "by hand", "opsy: one is built", "by hand"],
            "{}",
            world.name()
        );
    }
}

#[tokio::test]
async fn what_a_person_closes_is_not_proposed_again() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::with_pull_request(&bed, kind).await;
        world.close_by_hand(1, false);
        world.commit(&[("README.md", Some("news"))]).await;
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["closed", "opsy: one is built", "main"])], "{}", world.name());
        world.put("one", Some("rebuilt"));
        world.publish().await;
        let due = [("closed", "built"), ("open", "rebuilt")];
        let due = due.map(|(state, what)| json!([state, format!("opsy: one is {what}"), "main"]));
        assert_eq!(world.pulls(), due, "{}", world.name());
    }
}

#[tokio::test]
async fn what_a_person_closes_is_not_pushed_again_after_its_branch_was_deleted() {
    let bed = Bed::start();
    for kind in KINDS {
        let mut world = World::with_pull_request(&bed, kind).await;
        world.close_by_hand(1, false);
        world.remote().delete(BRANCH);
        for is_new in [false, false, true] {
            world.commit(&[("README.md", Some("news"))]).await;
            if is_new {
                world.restart();
            }
            world.publish().await;
            assert_eq!(world.remote().tip(BRANCH), None, "{}", world.name());
        }
        assert_eq!(world.states(), ["closed"], "{}", world.name());
        // A person changes their mind. The others need the branch for it.
        if kind == GitHost::GitLab {
            world.pull.control("change-pull", json!({ "number": 1, "state": "open" }));
            world.commit(&[("README.md", Some("more"))]).await;
            world.publish().await;
            assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"), "it is kept up to date");
            world.close_by_hand(1, false);
        }
        world.put("one", Some("rebuilt"));
        world.publish().await;
        assert_eq!(world.states(), ["closed", "open"], "{}", world.name());
        assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("rebuilt"), "{}", world.name());
    }
}

#[tokio::test]
async fn a_pull_request_without_its_branch_is_closed_when_nothing_differs() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::with_pull_request(&bed, kind).await;
        world.remote().delete(BRANCH);
        world.commit(&[("status/one.yaml", Some("built"))]).await;
        world.publish().await;
        assert_eq!(world.states(), ["closed"], "{}", world.name());
        // From now on, commits to the target cost no request to the forge.
        bed.requests();
        world.commit(&[("README.md", Some("news"))]).await;
        world.publish().await;
        assert_eq!(bed.requests(), [], "{}", world.name());
    }
}

/// The list from before the push shows the pull request open.
#[tokio::test]
async fn another_pull_request_is_opened_if_a_person_merges_or_closes_it_during_the_push() {
    let bed = Bed::start();
    for (kind, is_merged) in [(GitHost::GitHub, true), (GitHost::GitLab, true), (GitHost::Gitea, false)] {
        let world = World::with_pull_request(&bed, kind).await;
        let change = json!({ "repository": world.pull.repository, "number": 1, "state": "closed", "merged": is_merged });
        let url = format!("{}/_bed/change-pull", bed.process.text("url"));
        let curl = format!("curl --silent --fail --noproxy '*' --output /dev/null --data '{change}' {url}");
        world.remote().hook("pre-receive", &format!("{UNLOCK}\n{curl} || exit 1"));
        world.put("one", Some("rebuilt"));
        world.publish().await;
        let due = [("closed", "built"), ("open", "rebuilt")];
        let due = due.map(|(state, what)| json!([state, format!("opsy: one is {what}"), "main"]));
        assert_eq!(world.pulls(), due, "{}", world.name());
    }
}
