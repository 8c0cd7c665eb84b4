//! Files of other tools that setters edit, in both modes.

use opsy::api::git_host::GitHost;
use opsy::api::reasons;

use super::world::{BRANCH, World};
use crate::forge::Bed;

const TFVARS: &str =
    "# nodes\r\nname   = \"x\"\r\nami_id =  \"ami-1\"   # {\"$opsy\": \"node:us-east-1:x86_64\"}\r\n";
const JSON: &str = "{\"eks\":\t{ \"ami\" : \"ami-1\", \"n\": 1.0 }}";
const SETTERS: &str = r#"{"setters": {"paths": ["infra/**", "packer/**"],
    "json": [{"path": "infra/x.tfvars.json", "pointer": "/eks/ami", "value": "node:us-east-1:x86_64"}]},
    "publish": {"mode": "MODE"}}"#;

#[tokio::test]
async fn setters_reach_the_branch_in_both_modes() {
    let bed = Bed::start();
    for (mode, branch) in [("Commit", "main"), ("PullRequest", BRANCH)] {
        let world = World::new(&bed, GitHost::GitHub, &SETTERS.replace("MODE", mode)).await;
        let files = [("infra/prod.tfvars", TFVARS), ("infra/x.tfvars.json", JSON), ("other.tfvars", TFVARS)];
        world.remote().commit("main", &files.map(|(path, text)| (path, Some(text))));
        let script = world.remote().repo().blob(TFVARS.as_bytes()).expect("a blob");
        world.remote().put("main", "infra/run.hcl", script, 0o100_755);
        world.load().await;
        world.set_ami("ami-2");
        world.publish().await;
        let file = |path: &str| world.remote().file(branch, path).unwrap_or_default();
        assert_eq!(file("infra/prod.tfvars"), TFVARS.replace("ami-1", "ami-2"), "{mode}");
        assert_eq!(file("infra/x.tfvars.json"), JSON.replace("ami-1", "ami-2"), "{mode}");
        assert_eq!(file("other.tfvars"), TFVARS, "{mode}: it may not be edited");
        let repo = world.remote().repo();
        let tree = repo.revparse_single(branch).expect("a tip").peel_to_tree().expect("a tree");
        let run = tree.get_path("infra/run.hcl".as_ref()).expect("a file");
        assert_eq!(run.filemode(), 0o100_755, "{mode}: it stays executable");
        // Nothing follows from the agent's own commit.
        world.load().await;
        let (tip, pulls) = (world.remote().tip(branch), world.pulls());
        world.publish().await;
        assert_eq!((world.remote().tip(branch), world.pulls()), (tip, pulls), "{mode}");
        // A new image is one more commit.
        world.set_ami("ami-3");
        world.put("one", Some("built"));
        world.publish().await;
        assert_eq!(file("infra/prod.tfvars"), TFVARS.replace("ami-1", "ami-3"), "{mode}");
        assert_eq!(world.remote().log(branch)[0], "opsy: one is built", "{mode}");
    }
}

#[tokio::test]
async fn a_setter_with_an_error_changes_nothing_and_is_named() {
    let bed = Bed::start();
    let world = World::new(&bed, GitHost::GitHub, &SETTERS.replace("MODE", "Commit")).await;
    let wrong = TFVARS.replace("node:", "gone:") + &TFVARS.replace("nodes", "more");
    let template = "ami = \"ami-1\" # {\"$opsy\": \"node:us-east-1:x86_64\"}\n";
    world.remote().commit(
        "main",
        &[
            ("infra/good.tfvars", Some(TFVARS)),
            ("infra/wrong.tfvars", Some(&wrong)),
            ("packer/node.pkrvars.hcl", Some(template)),
        ],
    );
    world.load().await;
    world.set_ami("ami-2");
    world.put("one", Some("built"));
    let (reason, message) = world.failure().await;
    assert_eq!(reason, reasons::SETTER_INVALID, "{message}");
    for due in [
        "infra/x.tfvars.json:1: is not a file",
        "infra/wrong.tfvars:3: PackerBuilder default/gone is not declared in the repository",
        "packer/node.pkrvars.hcl:1: is an input of PackerBuilder/default/node",
    ] {
        assert!(message.contains(due), "{due}: {message}");
    }
    let file = |path: &str| world.remote().file("main", path);
    assert_eq!(file("infra/wrong.tfvars"), Some(wrong), "the other value in it neither");
    assert_eq!(file("packer/node.pkrvars.hcl").as_deref(), Some(template));
    assert_eq!(file("infra/good.tfvars"), Some(TFVARS.replace("ami-1", "ami-2")));
    assert_eq!(file("status/one.yaml").as_deref(), Some("built"), "status is published all the same");
    // What is published next does not wait for the correction, which ends the condition.
    world.put("one", Some("rebuilt"));
    world.publisher.wake();
    let state = world.publisher.state();
    assert!(!state.borrow().is_up_to_date());
    world.flush().await;
    assert_eq!(file("status/one.yaml").as_deref(), Some("rebuilt"));
    let good = [
        ("infra/wrong.tfvars", None),
        ("packer/node.pkrvars.hcl", None),
        ("infra/x.tfvars.json", Some(JSON)),
    ];
    world.remote().commit("main", &good);
    world.load().await;
    world.publish().await;
}

#[tokio::test]
async fn work_in_progress_takes_nothing_out_of_the_pull_request() {
    let bed = Bed::start();
    let settings = r#"{"publish": {"mode": "PullRequest"}, "setters": {"paths": ["infra/**"]}}"#;
    let world = World::new(&bed, GitHost::GitLab, settings).await;
    world.remote().commit("main", &[("infra/prod.tfvars", Some(TFVARS))]);
    world.load().await;
    world.set_ami("ami-2");
    world.put("one", Some("built"));
    world.put("two", Some("built"));
    world.publish().await;
    world.put("two", None);
    world.set_ami("");
    world.commit(&[("README.md", Some("news"))]).await;
    world.publish().await;
    assert_eq!(world.remote().log(BRANCH).len(), 4, "it is rebuilt");
    assert_eq!(world.proposed("infra/prod.tfvars"), Some(TFVARS.replace("ami-1", "ami-2")));
    assert_eq!(world.proposed("status/two.yaml").as_deref(), Some("built"));
    // The same file, changed in the target: that is where it starts from.
    world.commit(&[("status/two.yaml", Some("by hand"))]).await;
    world.publish().await;
    assert_eq!(world.proposed("status/two.yaml").as_deref(), Some("by hand"));
    assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"));
}
