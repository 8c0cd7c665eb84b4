//! Manifests of the operator are accepted unchanged, and its images are adopted.

use std::process::Command;

use serde_json::json;

use crate::world::{World, fixture, fixtures, run, template};

#[test]
fn manifests_of_the_operator_are_valid() {
    let mut opsy = Command::new(env!("CARGO_BIN_EXE_opsy"));
    opsy.args(["validate", "--output", "json"]).arg(fixtures().join("operator"));
    let outcome = run(opsy);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(
        (&found["errors"], found["objects"].as_array().map(Vec::len)),
        (&0.into(), Some(6)),
        "{found:#}"
    );
}

/// Creates an active image with the tags that the operator sets for this builder.
fn operators_image(world: &World, builder: &str) -> String {
    let tags = json!({
        "brought-to-you-by": "opsy-the-ami-operator",
        "cluster-name": "demo",
        "created-by": builder,
        "packer-repo": world.remote().to_string_lossy(),
        "packer-repo-branch": "main",
        "status": "active",
    });
    let made = world.account.post("image", json!({ "name": format!("of-{builder}"), "tags": tags }));
    made["id"].as_str().expect("an id").to_owned()
}

#[test]
fn two_builders_of_one_repository_adopt_each_its_own_image() {
    let world = World::empty();
    let node = fixture("builders/node.yaml");
    let gpu = node.replace("name: node", "name: gpu");
    let images = ["node", "gpu"].map(|builder| operators_image(&world, builder));
    world.push(
        &[
            ("opsy.yaml", Some(&fixture("opsy.yaml"))),
            ("builders/node.yaml", Some(&node)),
            ("builders/gpu.yaml", Some(&gpu)),
            ("packer/node/node.pkr.hcl", Some(template())),
        ],
        "policy: two builders",
    );
    for _ in 0..2 {
        assert!(world.once().status.success());
        let amis = world.amis();
        for (builder, image) in ["node", "gpu"].iter().zip(&images) {
            assert_eq!(amis[format!("default/{builder}")]["us-east-1"]["x86_64"], image.as_str(), "{amis:#}");
        }
    }
    assert_eq!(world.account.count("ec2:CreateTags"), 0, "nothing is demoted");
    assert_eq!(world.account.count("ec2:RunInstances"), 0, "nothing is built");
}
