//! A restart with less knowledge than before: nothing is built, rolled or taken away on a guess.

use serde_json::json;

use crate::whole::writes;
use crate::world::World;

#[test]
fn a_broken_opsy_yaml_at_a_start_touches_nothing() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    world.push(&[("opsy.yaml", Some("agentID: [broken\n"))], "policy: break the settings");
    let log = world.log();
    for lost in [false, true] {
        if lost {
            std::fs::remove_dir_all(world.state()).expect("a state directory");
        }
        world.account.clear_journal();
        let outcome = world.once();
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("opsy.yaml"), "{outcome:?}");
        assert_eq!(writes(&world.account.calls()), Vec::<&String>::new());
        assert_eq!(world.log(), log);
    }
}

#[test]
fn a_broken_manifest_and_a_lost_folder_take_no_published_status_away() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    let status = world.show("status/default/packerbuilders/node.yaml");
    let amis = world.amis();
    assert!(status.is_some());
    world.edit("builders/node.yaml", "region:", "regoin:", "policy: break the builder");
    std::fs::remove_dir_all(world.state()).expect("a state directory");
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    assert_eq!(world.show("status/default/packerbuilders/node.yaml"), status);
    assert_eq!(world.amis(), amis);
}

#[test]
fn a_broken_manifest_keeps_what_its_annotations_asked_for() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    let image = world.active_image();
    world.edit(
        "builders/node.yaml",
        "  name: node\n",
        "  name: node\n  annotations: {ami.opsy.dev/suspend: \"true\"}\n",
        "policy: hold it",
    );
    world.account.post("base-image", serde_json::json!({ "version": "20260901" }));
    assert_eq!(world.once().status.code(), Some(3), "it waits for a person");
    world.edit("builders/node.yaml", "region:", "regoin:", "policy: break the builder");
    let broken = world.once();
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    let ready = world.condition("PackerBuilder", "node", "Ready").map(|[_, reason, _]| reason);
    assert_eq!((ready.as_deref(), world.active_image()), (Some("Suspended"), image.clone()));
    assert_eq!(world.account.count("ec2:RunInstances"), 1);

    world.edit("builders/node.yaml", "regoin:", "region:", "policy: mend it");
    let held = "  annotations: {ami.opsy.dev/suspend: \"true\"}\n";
    world.edit("builders/node.yaml", held, "", "policy: go on");
    assert_eq!(world.once().status.code(), Some(0));
    assert_ne!(world.active_image(), image, "the newer base image is built from");
}

const MANIFEST: &str = "builders/node.yaml";

/// A start after the manifest became unreadable: nothing is removed or built, and the object names its file.
fn assert_kept_as_broken(world: &World, builds: usize) {
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    let [ready, reason, message] =
        world.condition("PackerBuilder", "node", "Ready").expect("it is not pruned");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "ManifestBroken"), "{message}");
    assert!(message.contains("its manifest in builders/node.yaml is broken"), "{message}");
    let [applied, reason, message] = world.condition("PackerBuilder", "node", "Applied").expect("it is said");
    assert_eq!((applied.as_str(), reason.as_str()), ("False", "ManifestBroken"), "{message}");
    assert!(world.show("status/default/packerbuilders/node.yaml").is_some());
    assert_eq!(world.account.count("ec2:RunInstances"), builds, "nothing is built for it");
}

#[test]
fn a_manifest_that_turned_into_something_else_before_a_restart_is_not_pruned() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    let good = world.show(MANIFEST).expect("a manifest");
    let image = world.active_image().expect("one active image");
    world.account.delete("image", json!({ "id": image }));
    for text in [good.replace("name: node", "name: {{ .name }}"), "%not: [yaml".to_owned()] {
        world.push(&[(MANIFEST, Some(&text))], "policy: break it");
        assert_kept_as_broken(&world, 1);
    }
    let tip = world.git(&world.remote(), &["rev-parse", "main"]).trim().to_owned();
    world.push_with("policy: a submodule", |dir| {
        world.git(dir, &["rm", "-r", "--quiet", "builders"]);
        world.git(dir, &["update-index", "--add", "--cacheinfo", &format!("160000,{tip},builders")]);
    });
    assert_kept_as_broken(&world, 1);
    world.push_with("policy: fix it", |dir| {
        world.git(dir, &["rm", "--cached", "--quiet", "builders"]);
        let _ = std::fs::remove_dir(dir.join("builders"));
        std::fs::create_dir(dir.join("builders")).expect("a folder");
        std::fs::write(dir.join(MANIFEST), &good).expect("a file");
        world.git(dir, &["add", MANIFEST]);
    });
    let fixed = world.once();
    assert_eq!(fixed.status.code(), Some(0), "{fixed:?}");
    assert_eq!(world.account.count("ec2:RunInstances"), 2, "what is missing is built again");
}

#[test]
fn a_manifest_that_is_deleted_before_a_restart_is_pruned() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    world.push(&[(MANIFEST, None)], "policy: remove it");
    world.once();
    assert_eq!(world.status("PackerBuilder", "node"), None);
    assert_eq!(world.show("status/default/packerbuilders/node.yaml"), None);
}
