//! The builder as a user runs it, with real Packer and the emulated AWS. The tests assert on the images, tags, journal
//! and status afterwards. There is no refresher.

use std::fs;

use serde_json::{Value, json};

use crate::packers::Packer;
use crate::world::{World, fixture};

const MANIFEST: &str = "builders/node.yaml";
const TEMPLATE: &str = "packer/node/node.pkr.hcl";

/// A seeded account and a repository with one builder.
fn world() -> World {
    let world = World::empty();
    let files = ["opsy.yaml", MANIFEST, TEMPLATE];
    let texts = files.map(fixture);
    let files: Vec<(&str, Option<&str>)> =
        files.iter().zip(&texts).map(|(path, text)| (*path, Some(text.as_str()))).collect();
    world.push(&files, "policy: first");
    world
}

fn status(world: &World) -> Value {
    world.status("PackerBuilder", "node").unwrap_or_default()
}

fn ready(world: &World) -> (String, String) {
    world.ready("PackerBuilder", "node")
}

#[test]
fn a_first_build_makes_one_tagged_image_and_then_it_is_quiet() {
    first_build(Packer::Old);
}

#[test]
fn a_first_build_with_a_current_packer_makes_the_same() {
    first_build(Packer::Current);
}

fn first_build(packer: Packer) {
    let mut world = world();
    world.build_with(packer);
    assert!(world.once().status.success());
    let image = world.active_image().expect("one active image");
    let tags = world.account.image("us-east-1", &image)["tags"].clone();
    let build = tags["opsy.dev/build"].as_str().expect("a build id").to_owned();
    for (tag, value) in [
        ("cluster-name", "demo"),
        ("created-by", "node"),
        ("build-id", build.as_str()),
        ("job-id", &format!("node-{build}")),
        ("packer-repo-branch", "main"),
        ("opsy.dev/owner", "test"),
        ("opsy.dev/builder", "default/node"),
    ] {
        assert_eq!(tags[tag], value, "{tag}");
    }
    for tag in [
        "base-ami",
        "create-timestamp",
        "packer-repo",
        "opsy.dev/template",
        "opsy.dev/spec",
        "opsy.dev/commit",
    ] {
        assert!(tags[tag].as_str().is_some_and(|value| !value.is_empty()), "{tag}: {tags:#}");
    }
    assert!(
        tags["opsy.dev/base"].is_null(),
        "only an image built from another base image has this tag: {tags:#}"
    );
    assert_eq!(status(&world)["images"][0]["id"], image.as_str());
    assert_eq!(world.account.orphans(), Vec::<String>::new());

    world.account.clear_journal();
    let before = world.log();
    assert!(world.once().status.success());
    assert_eq!(world.account.writes(), Vec::<String>::new());
    let calls = world.account.calls();
    assert!(calls.len() <= 4, "an idle reconcile costs a few shared reads: {calls:?}");
    assert_eq!(world.log(), before, "nothing to commit");
}

#[test]
fn a_changed_template_makes_a_second_image_and_demotes_the_first() {
    let world = world();
    assert!(world.once().status.success());
    let first = world.active_image().expect("one active image");
    world.push(&[("README.md", Some("words\n"))], "docs: words");
    assert!(world.once().status.success());
    assert_eq!(world.our_images().len(), 1, "a file that no build reads triggers no build");
    world.edit(TEMPLATE, "default = \"1\"", "default = \"2\"", "policy: second");
    assert!(world.once().status.success());
    let second = world.active_image().expect("one active image");
    let mut images = world.our_images();
    images.sort_by_key(|(_, status)| status.clone());
    assert_eq!(images, [(second, "active".to_owned()), (first, "deprecated".to_owned())]);
    assert_eq!(world.results("node"), ["Succeeded", "Succeeded"]);
}

#[test]
fn a_lost_status_is_found_again_by_tags() {
    let world = world();
    assert!(world.once().status.success());
    let image = world.active_image().expect("one active image");
    fs::remove_dir_all(world.state()).expect("the state directory");
    world.push(
        &[("status/amis.json", None), ("status/default/packerbuilders/node.yaml", None)],
        "status: forget",
    );
    assert!(world.once().status.success());
    assert_eq!(world.active_image(), Some(image.clone()), "nothing was built again");
    assert_eq!(world.account.count("ec2:RunInstances"), 1);
    assert_eq!(status(&world)["images"][0]["id"], image.as_str());
}

#[test]
fn an_image_deleted_by_hand_is_built_again() {
    let world = world();
    assert!(world.once().status.success());
    let first = world.active_image().expect("one active image");
    world.account.delete("image", json!({ "id": first }));
    assert!(world.once().status.success());
    let second = world.active_image().expect("one active image");
    assert_ne!(first, second);
    assert_eq!(status(&world)["reason"], "Missing");
}

#[test]
fn an_active_image_that_is_gone_is_said_though_no_build_replaces_it() {
    let world = world();
    assert!(world.once().status.success());
    let image = world.active_image().expect("one active image");
    world.account.delete("image", json!({ "id": image }));
    world.edit(TEMPLATE, "communicator  ", "comunicator   ", "policy: a typing error");
    world.once();
    let status = status(&world);
    assert_eq!((&status["images"][0]["id"], &status["images"][0]["gone"]), (&json!(image), &json!(true)));
    let (reason, message) = ready(&world);
    assert_eq!(reason, "BuildFailed");
    assert!(message.contains(&format!("{image} (x86_64, us-east-1) is gone")), "{message}");
    assert!(world.amis()["default/node"].is_null(), "{:#}", world.amis());
}

#[test]
fn two_images_of_one_lane_are_no_result_and_are_removed() {
    let world = world();
    let text = world.show(TEMPLATE).expect("a template");
    let source = text.split("source \"amazon-ebs\" \"node\"").nth(1).expect("a source");
    let source = source.split("build {").next().expect("before the build");
    let second = format!("source \"amazon-ebs\" \"gpu\"{source}");
    let both = text
        .replace("build {", &format!("{}\nbuild {{", second.replace("\"node-", "\"gpu-")))
        .replace("[\"source.amazon-ebs.node\"]", "[\"source.amazon-ebs.node\", \"source.amazon-ebs.gpu\"]");
    world.push(&[(TEMPLATE, Some(&both))], "policy: two flavors");
    world.once();
    assert_eq!((world.active_image(), world.results("node")), (None, vec!["Failed".to_owned()]));
    let (_, message) = ready(&world);
    for word in ["2 images for x86_64 in us-east-1", "amazon-ebs.node", "amazon-ebs.gpu", "-only"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let names = |state: &Value| {
        let images = state["images"].as_array().cloned().unwrap_or_default();
        images.iter().filter(|image| image["name"].as_str().is_some_and(|n| n.contains("-1-"))).count()
    };
    assert_eq!(names(&world.account.state()), 0, "the images of a failed run are removed");
    assert!(world.amis()["default/node"].is_null());
    world.once();
    assert_eq!(world.account.count("ec2:RunInstances"), 2, "the same inputs are not built again");
}

#[test]
fn a_builder_without_a_manifest_starts_nothing_while_it_is_not_pruned() {
    let world = world();
    assert!(world.once().status.success());
    let image = world.active_image().expect("one active image");
    world.account.delete("image", json!({ "id": image }));
    let broken = "apiVersion: ami.opsy.dev/v1alpha1\nkind: [PackerBuilder\n";
    world.push(&[(MANIFEST, None), ("builders/other.yaml", Some(broken))], "policy: remove it");
    world.once();
    assert_eq!(ready(&world).0, "NotInGit", "{:#}", status(&world));
    assert_eq!(world.account.count("ec2:RunInstances"), 1, "nothing is built for it");
}

#[test]
fn a_denied_promotion_names_the_permission_and_goes_on_where_it_stopped() {
    let world = world();
    world.account.fault(
        json!({ "kind": "deny", "operation": "CreateTags", "params": { "Tags": "create-timestamp" } }),
    );
    world.once();
    assert_eq!(world.active_image(), None);
    let (reason, message) = ready(&world);
    assert_eq!(reason, "AwsDenied");
    assert!(message.contains("ec2:CreateTags"), "{message}");
    world.account.clear_faults();
    assert!(world.once().status.success());
    assert!(world.active_image().is_some());
    assert_eq!(world.account.count("ec2:RunInstances"), 1, "the finished image was kept");
}

/// EC2 is eventually consistent: an image can be missing in the next call. Snapshots need a separate permission.
#[test]
fn an_image_that_is_not_found_for_a_moment_and_snapshots_that_may_not_be_tagged_hold_nothing_up() {
    let world = world();
    let tags = "create-timestamp";
    world.account.fault(json!({
        "kind": "error", "operation": "CreateTags", "code": "InvalidAMIID.NotFound", "status": 400,
        "params": { "Tags": tags, "Resources": "ami-" }, "count": 1,
    }));
    world.account.fault(json!({
        "kind": "deny", "operation": "CreateTags", "params": { "Tags": tags, "Resources": "snap-" },
    }));
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:#?}");
    assert!(world.active_image().is_some());
    assert!(outcome.stderr.contains("SnapshotsNotTagged"), "it is reported: {outcome:#?}");
    assert_eq!(world.results("node"), ["Succeeded"]);
}

#[test]
fn a_lost_answer_to_a_promotion_changes_nothing() {
    let world = world();
    let lost = json!({ "kind": "lost", "operation": "CreateTags", "params": { "Tags": "create-timestamp" }, "count": 1 });
    world.account.fault(lost);
    assert!(world.once().status.success());
    assert_eq!(world.our_images().len(), 1);
    assert!(world.active_image().is_some());
}

#[test]
fn a_base_image_that_does_not_exist_is_said_and_nothing_is_built() {
    let world = world();
    world.edit(MANIFEST, "standard-1.31-*", "standard-0.99-*", "policy: a typing error");
    world.once();
    assert_eq!(ready(&world).0, "BaseImageNotFound");
    assert_eq!(world.account.count("ec2:RunInstances"), 0);
}

#[test]
fn an_account_that_is_not_named_is_not_touched() {
    let world = world();
    world.edit(
        "opsy.yaml",
        "agentID: test",
        "agentID: test\naccounts: [\"999999999999\"]",
        "policy: one account",
    );
    world.once();
    let (reason, message) = ready(&world);
    assert_eq!(reason, "AccountNotAllowed");
    assert!(message.contains(&world.account.id), "{message}");
    assert_eq!(world.account.count("ec2:RunInstances"), 0);
}

#[test]
fn a_template_that_packer_rejects_is_counted_once_and_not_tried_again_at_once() {
    let world = world();
    world.edit(TEMPLATE, "communicator  ", "comunicator   ", "policy: a typing error");
    for _ in 0..2 {
        world.once();
        assert_eq!(world.results("node"), ["Failed"]);
    }
    let status = status(&world);
    let (reason, message) = ready(&world);
    assert_eq!((reason.as_str(), &status["failedJobCount"]), ("BuildFailed", &json!(1)));
    assert!(message.contains("comunicator"), "{message}");
    assert_eq!(world.account.count("ec2:RunInstances"), 0);
}

#[test]
fn a_template_changed_during_a_build_ends_with_the_newest_inputs() {
    let world = world();
    world.account.fault(json!({ "kind": "slow", "operation": "StopInstances", "seconds": 3, "count": 1 }));
    let agent = world.agent();
    world.wait("a build in progress", || (world.account.count("ec2:StopInstances") > 0).then_some(()));
    world.edit(TEMPLATE, "default = \"1\"", "default = \"2\"", "policy: second");
    let newest = || {
        let state = world.account.state();
        let images = state["images"].as_array().cloned().unwrap_or_default();
        let active = images.into_iter().filter(|image| image["tags"]["status"] == "active");
        let names: Vec<String> =
            active.map(|image| image["name"].as_str().unwrap_or_default().to_owned()).collect();
        (names.len() == 1 && names[0].starts_with("node-2-")).then_some(())
    };
    world.wait("an image of the newest inputs", newest);
    world.wait("the builder to settle", || (ready(&world).0 == "ImageReady").then_some(()));
    agent.stop();
    assert_eq!(world.account.count("ec2:RunInstances"), 2, "one after the other");
    assert_eq!(world.account.orphans(), Vec::<String>::new());
}

#[test]
fn images_of_all_builders_gone_at_once_are_not_built_again_until_allowed() {
    let world = world();
    let manifest = world.show(MANIFEST).expect("a manifest");
    let named = |name: &str| manifest.replace("name: node", &format!("name: {name}"));
    let (second, third) = (named("second"), named("third"));
    world.push(&[("builders/b.yaml", Some(&second)), ("builders/c.yaml", Some(&third))], "policy: three");
    assert!(world.once().status.success());
    let images = world.our_images();
    assert_eq!(images.len(), 3);
    for (id, _) in &images {
        world.account.delete("image", json!({ "id": id }));
    }
    world.once();
    for name in ["node", "second", "third"] {
        assert_eq!(world.ready("PackerBuilder", name).0, "MassBuildRefused", "{name}");
    }
    assert_eq!(world.account.count("ec2:RunInstances"), 3, "nothing was built");
    world.edit(
        "opsy.yaml",
        "agentID: test",
        "agentID: test\nlimits:\n  allowMassBuild: true",
        "policy: build all",
    );
    assert!(world.once().status.success());
    assert_eq!(world.our_images().len(), 3);
}

#[test]
fn reconcile_at_asks_everything_anew_and_is_reported() {
    let world = world();
    let agent = world.agent();
    let settled =
        || world.condition("PackerBuilder", "node", "Ready").filter(|[status, ..]| status == "True");
    world.wait("the image", settled);
    let metadata = "metadata:\n  annotations: {ami.opsy.dev/reconcileAt: once}\n";
    world.account.clear_journal();
    world.edit("builders/node.yaml", "metadata:\n", metadata, "policy: reconcile again");
    world.wait("the reconcile", || {
        let status = world.status("PackerBuilder", "node")?;
        (status["lastHandledReconcileAt"] == "once").then_some(())
    });
    assert!(world.account.count("ec2:DescribeImages") > 0, "{:?}", world.account.calls());
    let file = world.wait("a status file", || world.show("status/default/packerbuilders/node.yaml"));
    assert!(!file.contains("lastHandledReconcileAt"), "it is not an outcome: {file}");
    assert_eq!(agent.stop().code(), Some(0));
}
