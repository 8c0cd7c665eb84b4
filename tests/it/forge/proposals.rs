//! Publishing by pull request: a real Git server, and the emulated forges, which show its branches. Tests assert on what
//! Git and the forge hold afterwards.

mod failures;
mod former;
mod people;
mod setters;
mod world;

use opsy::api::git_host::GitHost;
use opsy::api::reasons;
use opsy::git::Options;
use opsy::git::address::Address;
use serde_json::json;

use super::Bed;
use crate::git::bed::Bed as GitServer;
use world::{BRANCH, KINDS, PULL_REQUEST, World};

#[tokio::test]
async fn one_pull_request_is_opened_updated_rebuilt_and_closed() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::with_pull_request(&bed, kind).await;
        assert_eq!(world.pulls(), [json!(["open", "opsy: one is built", "main"])], "{}", world.name());
        assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"));
        assert_eq!(world.remote().log("main"), ["by hand"], "the target is left to people");
        let text = world.pull.shown(1)["body"].as_str().expect("a text").to_owned();
        assert!(text.contains("- `one`: `one is built`\n"), "{}: {text}", world.name());
        assert!(
            world
                .remote()
                .message(BRANCH)
                .ends_with("Opsy-Resource: one\nOpsy-Source: main\nOpsy-Owner: team-a\n")
        );

        bed.requests();
        world.server.journal();
        world.put("two", Some("new"));
        world.publish().await;
        let title = "opsy: update status of 2 objects";
        assert_eq!(world.pulls(), [json!(["open", title, "main"])], "{}", world.name());
        assert_eq!(world.remote().log(BRANCH), ["opsy: two is new", "opsy: one is built", "by hand"]);

        world.commit(&[("README.md", Some("news"))]).await;
        world.publish().await;
        assert_eq!(world.remote().log(BRANCH), [title, "by hand", "by hand"], "{}", world.name());
        assert_eq!(world.proposed("README.md").as_deref(), Some("news"));
        assert_eq!(world.pulls(), [json!(["open", title, "main"])], "{}", world.name());

        world.commit(&[("status/one.yaml", Some("built")), ("status/two.yaml", Some("new"))]).await;
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["closed", title, "main"])], "{}", world.name());
        assert_eq!(world.remote().tip(BRANCH), None, "{}: its branch is deleted", world.name());
        let comments = world.pull.shown(1)["comments"].to_string();
        assert!(comments.contains("Nothing differs from the target branch"), "{comments}");
        bed.requests();
        world.publish().await;
        assert_eq!(bed.requests(), [], "{}: nothing is left to ask", world.name());
    }
}

#[tokio::test]
async fn a_repository_on_this_machine_has_the_same_branch() {
    let bed = Bed::start();
    let origin = GitServer::start();
    origin.remote().commit("main", &[("a.yaml", Some("1"))]);
    let path = origin.remote().path().to_owned();
    let local = |options: &mut Options| {
        options.address = Address::parse(&path.display().to_string()).expect("an address");
    };
    let world = World::with(&bed, GitHost::Gitea, PULL_REQUEST, local).await;
    bed.control("repository", json!({ "repository": world.pull.repository, "git": path }));
    world.put("one", Some("built"));
    world.publish().await;
    origin.remote().commit("main", &[("README.md", Some("news"))]);
    world.git.fetch().await.expect("a tip");
    world.publish().await;
    assert_eq!(origin.remote().log(BRANCH), ["opsy: one is built", "by hand", "by hand"]);
    let theirs = origin.remote().commit(BRANCH, &[("x", Some("y"))]);
    world.put("one", Some("rebuilt"));
    assert_eq!(world.failure().await.0, reasons::BRANCH_NOT_OWN);
    assert_eq!(origin.remote().tip(BRANCH), Some(theirs));
    origin.remote().delete(BRANCH);
    world.publish().await;
    origin.remote().commit("main", &[("status/one.yaml", Some("rebuilt"))]);
    world.git.fetch().await.expect("a tip");
    world.publish().await;
    assert_eq!(origin.remote().tip(BRANCH), None);
}
