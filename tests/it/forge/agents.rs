//! The agent with setters, from a build to a file of Terraform: by a pull request that a person merges, and by a commit.

use serde_json::{Value, json};

use super::{Bed, TOKEN};
use crate::world::{World, fixture, fixtures};

const REPOSITORY: &str = "platform/images";
const BRANCH: &str = "opsy/test/main";
const TFVARS: &str = "# nodes\nami_id = \"ami-1\" # {\"$opsy\": \"node:us-east-1:x86_64\"}\n";

/// A repository whose builder a file of Terraform refers to.
fn world(mode: &str, credentials: Option<&str>) -> World {
    let world = World::served(credentials);
    world.push_folder(&fixtures().join("repo"), "policy: first");
    let settings = format!("{}  mode: {mode}\nsetters:\n  paths: [\"infra/**\"]\n", fixture("opsy.yaml"));
    world.push(&[("opsy.yaml", Some(&settings)), ("infra/prod.tfvars", Some(TFVARS))], "terraform: first");
    world
}

#[test]
fn an_image_reaches_terraform_by_a_pull_request_and_its_merge_starts_nothing() {
    let bed = Bed::start();
    // The token of the repository is also that of the forge.
    let world = world("PullRequest", Some(&format!("x-access-token:{TOKEN}")));
    bed.control("repository", json!({ "repository": REPOSITORY, "git": world.remote() }));
    let api = bed.process.text("gitea");
    let variables = [
        ("OPSY_FORGE", "gitea"),
        ("OPSY_FORGE_API", api.as_str()),
        ("OPSY_FORGE_REPOSITORY", REPOSITORY),
        ("OPSY_GIT_TOKEN", TOKEN),
    ];
    let once = || {
        let once = world.once_with(&variables);
        assert_eq!(once.status.code(), Some(0), "{once:?}");
        assert!(!once.stderr.contains(TOKEN) && !once.stdout.contains(TOKEN), "{once:?}");
    };
    let remote = world.server.as_ref().expect("a server").remote();
    let pulls = || -> Vec<Value> {
        let state = bed.look(&format!("state?repository={REPOSITORY}"));
        let pulls = state["pulls"].as_array().expect("a list").iter();
        pulls.map(|pull| json!([pull["state"], pull["title"], pull["branch"]])).collect()
    };
    once();
    let image = world.active_image().expect("an image");
    let edited = TFVARS.replace("ami-1", &image);
    assert_eq!(world.log(), ["terraform: first", "policy: first"], "the branch is left to people");
    assert_eq!(remote.file(BRANCH, "infra/prod.tfvars"), Some(edited.clone()));
    assert!(remote.file(BRANCH, "status/amis.json").is_some_and(|amis| amis.contains(&image)));
    let due = [json!(["open", "opsy: update status of 2 objects", BRANCH])];
    assert_eq!(pulls(), due);

    // The files in the branch are older than the state of the agent, which is what counts.
    let tip = remote.tip(BRANCH);
    world.account.clear_journal();
    once();
    assert_eq!((remote.tip(BRANCH), pulls()), (tip.clone(), due.into()));

    remote.reset("main", &tip.expect("the branch"));
    bed.control(
        "change-pull",
        json!({ "repository": REPOSITORY, "number": 1, "state": "closed", "merged": true }),
    );
    let log = world.log();
    once();
    assert_eq!(world.log(), log, "nothing follows from the merge");
    assert_eq!(world.show("infra/prod.tfvars"), Some(edited));
    assert_eq!((remote.tip(BRANCH), pulls().len()), (None, 1), "its branch is deleted");
    assert_eq!(world.active_image(), Some(image));
    assert_eq!(world.account.count("ec2:RunInstances"), 0, "{:?}", world.account.calls());
}

#[test]
fn an_image_reaches_terraform_by_a_commit_that_starts_nothing() {
    let world = world("Commit", None);
    let agent = world.agent();
    world.wait("the edited file", || {
        let image = world.active_image()?;
        (world.show("infra/prod.tfvars")? == TFVARS.replace("ami-1", &image)).then_some(())
    });
    world.wait("the rollout", || (world.ready("AMIRefresher", "demo").0 == "UpToDate").then_some(()));
    let image = world.active_image().expect("an image");
    // A commit of a person after it is loaded, and the file stays what it is.
    let last = world.push(&[("infra/other.tfvars", Some("a = 1\n"))], "terraform: second");
    world.wait("the last commit", || {
        std::fs::read_to_string(world.agent_log()).ok()?.contains(&last).then_some(())
    });
    assert!(agent.stop().success());
    let log = std::fs::read_to_string(world.agent_log()).expect("a log");
    let loads = log.lines().filter(|line| line.contains("\"synced")).count();
    assert!(loads <= 5, "{loads} commits were loaded:\n{log}");
    let edits = world.git(&world.remote(), &["log", "--format=%s", "main", "--", "infra/prod.tfvars"]);
    assert_eq!(edits.lines().count(), 2, "{edits}");
    assert_eq!(world.active_image(), Some(image));
    assert_eq!(world.history("node").len(), 1, "{:?}", world.history("node"));
}
