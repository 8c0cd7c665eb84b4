//! What triggers a build or prevents it: base images that are missing or newer, expired images, deleted images.

use serde_json::json;

use super::{base, building, builds, settles};

#[test]
fn without_a_base_image_nothing_is_built_until_there_is_one() {
    let world = building("");
    world.edit("builders/node.yaml", "standard-1.31-*", "standard-1.32-*", "policy: next Kubernetes");
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(2), "{outcome:#?}");
    let (reason, message) = builds(&world, "node");
    assert_eq!(reason, "BaseImageNotFound", "{message}");
    assert!(message.contains("spec.amiFilters"), "{message}");
    assert_eq!(world.account.writes(), Vec::<String>::new());

    world.account.post("base-image", json!({ "version": "20260901", "kubernetes": "1.32" }));
    settles(&world);
    assert!(world.active_image().is_some());
}

#[test]
fn a_newer_base_image_and_an_image_deleted_by_hand_are_each_built_once() {
    let world = building("");
    settles(&world);
    let first = world.active_image().expect("an image");
    let why = |expected: &[&str]| {
        let runs = world.history("node");
        assert!(runs.iter().all(|(_, result)| result == "Succeeded"), "{runs:?}");
        let reasons: Vec<&str> = runs.iter().map(|(why, _)| why.as_str()).collect();
        assert_eq!(reasons, expected);
        assert_eq!(world.account.count("ec2:RunInstances"), expected.len());
    };
    why(&["Missing"]);

    world.account.post("base-image", json!({ "version": "20260901" }));
    settles(&world);
    let second = world.active_image().expect("one active image");
    assert_ne!(first, second);
    why(&["BaseImage", "Missing"]);
    let tags = |id: &str| world.account.image("us-east-1", id)["tags"].clone();
    assert_eq!(tags(&first)["base-ami"], json!(base(&world, "v20260801")));
    assert_ne!(tags(&second)["base-ami"], tags(&first)["base-ami"]);
    assert_eq!(tags(&first)["status"], "deprecated");

    world.account.delete("image", json!({ "id": second }));
    settles(&world);
    let third = world.active_image().expect("one active image");
    why(&["Missing", "BaseImage", "Missing"]);
    settles(&world);
    assert_eq!(world.active_image().as_ref(), Some(&third));
    why(&["Missing", "BaseImage", "Missing"]);
}

#[test]
fn an_expired_image_is_replaced_and_the_old_one_serves_meanwhile() {
    let world = building("");
    settles(&world);
    let first = world.active_image().expect("an image");
    // The first image expires now or soon, and the next one lives long enough to be observed.
    world.edit("builders/node.yaml", "expiresIn: 30d", "expiresIn: 2s", "policy: short lives");
    let agent = world.agent();
    world.wait("a second machine", || (world.account.count("ec2:RunInstances") > 1).then_some(()));
    let active: Vec<(String, String)> = world.our_images();
    assert!(active.contains(&(first.clone(), "active".to_owned())), "{active:?}");
    world.wait("the first to be replaced", || {
        world.our_images().contains(&(first.clone(), "deprecated".to_owned())).then_some(())
    });
    world.edit("builders/node.yaml", "expiresIn: 2s", "expiresIn: 30d", "policy: long lives");
    world.wait("the builder to be ready", || (builds(&world, "node").0 == "ImageReady").then_some(()));
    agent.stop();
    let runs = world.history("node");
    assert_eq!(runs.last().map(|(why, _)| why.as_str()), Some("Missing"), "{runs:?}");
    assert!(runs.len() > 1 && runs[..runs.len() - 1].iter().all(|(why, _)| why == "Expired"), "{runs:?}");
}
