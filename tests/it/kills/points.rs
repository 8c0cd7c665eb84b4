//! The agent is killed repeatedly on the way from a commit to updated node groups.

use serde_json::{Value, json};

use super::run_folders;
use crate::world::World;

/// The seeded groups that a refresher can move.
const GROUPS: [&str; 3] = ["system", "web", "batch"];

/// The final state without IDs and times, which the kills must not change.
fn end_state(world: &World) -> Value {
    let image = world.active_image().expect("one active image");
    let state = world.account.state();
    let groups = GROUPS.map(|name| {
        let group = world.group(name);
        (name, group["ami_type"].clone(), group["release_version"] == json!(image), group["status"].clone())
    });
    let templates = state["launch_templates"].as_array().expect("launch templates").iter();
    let versions = templates.map(|template| {
        let images = template["versions"].as_array().expect("versions").iter();
        let ours = images.map(|version| version["image"] == json!(image)).collect::<Vec<_>>();
        // EKS gives its own copies random names.
        let name = template["name"].as_str().filter(|name| name.starts_with("demo-")).unwrap_or("copy");
        json!([name, ours])
    });
    let mut versions: Vec<Value> = versions.collect();
    versions.sort_by_key(ToString::to_string);
    let updates = state["updates"].as_array().expect("updates").len();
    json!({
        "groups": groups,
        "versions": versions,
        "updates": updates,
        "images": world.our_images().len(),
        "leftovers": world.account.orphans(),
        "amis": world.amis().to_string().replace(&image, "IMAGE"),
    })
}

fn on_the_image(world: &World) -> usize {
    let Some(image) = world.active_image() else { return 0 };
    GROUPS.iter().filter(|name| world.group(name)["release_version"] == json!(image)).count()
}

type Point = (&'static str, fn(&World) -> bool);

/// From the first clone to the last group, in order.
const POINTS: [Point; 12] = [
    ("the clone exists", |world| world.state().join("clone").exists()),
    ("the run has its directory", |world| !run_folders(world).is_empty()),
    ("Packer asked for an instance", |world| world.account.count("ec2:RunInstances") > 0),
    ("Packer asked for the image", |world| world.account.count("ec2:CreateImage") > 0),
    ("the run has its result", |world| {
        run_folders(world).iter().any(|(_, ended)| *ended) || world.active_image().is_some()
    }),
    ("the image is active", |world| world.active_image().is_some()),
    ("the first launch template version", |world| world.account.count("ec2:CreateLaunchTemplateVersion") > 0),
    ("the update of the first group was requested", |world| {
        world.account.count("eks:UpdateNodegroupVersion") > 0
    }),
    ("the first group runs the image", |world| on_the_image(world) > 0),
    ("the second launch template version", |world| {
        world.account.count("ec2:CreateLaunchTemplateVersion") > 1
    }),
    ("the update of the second group was requested", |world| {
        world.account.count("eks:UpdateNodegroupVersion") > 1
    }),
    ("the update of the third group was requested", |world| {
        world.account.count("eks:UpdateNodegroupVersion") > 2
    }),
];

#[test]
fn an_agent_killed_at_twelve_points_builds_and_rolls_once() {
    let (killed, whole) = (World::new(), World::new());
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(whole.once().status.code(), Some(0)));
        for (name, reached) in POINTS {
            let agent = killed.agent();
            killed.wait(name, || reached(&killed).then_some(()));
            agent.kill();
        }
    });
    let end = killed.once();
    assert_eq!(end.status.code(), Some(0), "{end:?}");
    for call in ["ec2:RunInstances", "ec2:CreateImage"] {
        assert_eq!(killed.account.count(call), 1, "{call}");
    }
    assert_eq!(killed.account.count("eks:UpdateNodegroupVersion"), GROUPS.len());
    assert_eq!(on_the_image(&killed), GROUPS.len());
    assert_eq!(end_state(&killed), end_state(&whole));
    assert_eq!(killed.account.orphans(), Vec::<String>::new());
    assert_eq!(run_folders(&killed), [], "collected and forgotten");
}
