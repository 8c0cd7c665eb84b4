//! The main path from end to end: a commit becomes an AMI, node groups are rolled out, and the result is committed.

use serde_json::json;

use crate::world::World;

/// Asserts that both policies need each of these statements: without it, a call of the test would have been denied.
fn assert_policies_are_needed(world: &World) {
    let needed = world.account.look("policy/needed");
    let agent = [
        "Look",
        "LookAtNodeGroups",
        "TagImages",
        "RollNodeGroups",
        "WriteLaunchTemplateVersions",
        "LaunchAsNodeGroupsDo",
        "TagWhatIsLaunched",
        "PassTheNodesRole",
    ];
    let packer = [
        "Look",
        "MakeWithTheBuildsTag",
        "LaunchFromWhatThereIs",
        "MakeSecurityGroupsInNetworks",
        "ImageWhatTheBuildLaunched",
        "TagWhatIsMade",
        "TagWhatTheBuildMade",
        "ChangeWhatTheBuildMade",
    ];
    for (key, statements) in
        [(&world.account.env()["AWS_ACCESS_KEY_ID"], agent), (&world.account.packers_key(), packer)]
    {
        for statement in statements {
            let denied = needed[key.as_str()][statement].as_array();
            assert!(denied.is_some_and(|denied| !denied.is_empty()), "{key} {statement}: {needed:#}");
        }
    }
}

#[test]
fn two_commits_become_two_images_and_a_third_run_does_nothing() {
    let world = World::new();
    let first = world.once();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let image = world.active_image().expect("one active image");
    world.edit("packer/node/node.pkr.hcl", "default = \"1\"", "default = \"2\"", "policy: second");

    let second = world.once();
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    let newer = world.active_image().expect("one active image");
    assert_ne!(image, newer);
    let mut images = world.our_images();
    images.sort();
    let mut expected = vec![(image, "deprecated".to_owned()), (newer.clone(), "active".to_owned())];
    expected.sort();
    assert_eq!(images, expected);
    for name in ["system", "web", "batch"] {
        let group = world.group(name);
        assert_eq!(
            (&group["ami_type"], &group["release_version"]),
            (&json!("CUSTOM"), &json!(newer)),
            "{name}"
        );
    }
    assert_eq!(world.amis(), json!({ "default/node": { "us-east-1": { "x86_64": newer } } }));
    let refresher = world.status("AMIRefresher", "demo").expect("a status");
    let legacy = refresher["nodeGroups"].as_array().expect("groups").iter().find(|g| g["name"] == "legacy");
    assert_eq!(legacy.expect("the group without a launch template is reported")["state"], "Unsupported");
    assert_eq!(world.account.orphans(), Vec::<String>::new());
    let log = world.log();
    let policy = log.iter().filter(|subject| !subject.starts_with("opsy: ")).count();
    assert_eq!((policy, log.len()), (2, 6), "an image and a rollout after each commit of a person: {log:?}");

    assert_policies_are_needed(&world);

    world.account.clear_journal();
    let third = world.once();
    assert_eq!(third.status.code(), Some(0), "{third:?}");
    assert_eq!(world.account.writes(), Vec::<String>::new());
    let calls = world.account.calls();
    assert!(calls.len() <= 12, "{calls:?}");
    assert_eq!(world.log(), log, "no commit");
}
