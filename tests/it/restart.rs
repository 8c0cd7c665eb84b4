//! Restarts with less information than before: nothing is built, rolled out or removed on an assumption.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

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
        assert_eq!(world.account.writes(), Vec::<String>::new());
        assert_eq!(world.log(), log);
    }
}

#[test]
fn only_a_flag_makes_it_the_agent_of_another_owner() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    let images = world.our_images();
    let once_as = |id: &str| world.run(&["run", "--once", "--agent-id", id]);
    let agent = world.agent();
    let settings = world.show("opsy.yaml").expect("settings");
    world.push(
        &[("opsy.yaml", Some(&settings.replace("agentID: test", "agentID: rival")))],
        "policy: be another",
    );
    let refused = "restart the agent with --agent-id rival (OPSY_AGENT_ID); else set agentID to test";
    world.wait("the refusal", || {
        std::fs::read_to_string(world.agent_log()).ok().filter(|log| log.contains(refused))
    });
    // The previous settings stay in force.
    world.edit(
        "builders/node.yaml",
        "  name: node\n",
        "  name: node\n  labels: {team: a}\n",
        "policy: a label",
    );
    assert!(agent.stop().success());
    world.account.clear_journal();
    let started = world.once();
    assert_eq!(started.status.code(), Some(1), "{started:?}");
    assert!(started.stderr.contains(refused), "{started:?}");
    let other = once_as("test");
    assert!(other.stderr.contains("it was started with --agent-id test"), "{other:?}");
    assert_eq!((world.account.writes(), world.our_images()), (Vec::new(), images));
    // A person confirms the new ID: the images of the previous owner are not this agent's.
    world.push(
        &[("opsy.yaml", Some(&settings.replace("agentID: test", "agentID: third")))],
        "policy: a third",
    );
    let confirmed = once_as("third");
    assert!(!confirmed.stderr.contains("restart the agent"), "{confirmed:?}");
    assert!(confirmed.stderr.contains("only an agent with --agent-id test uses it"), "{confirmed:?}");
    assert_eq!(std::fs::read_to_string(world.state().join("owner")).expect("the owner is recorded"), "third");
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
    let suspended = world.condition("PackerBuilder", "node", "Suspended").map(|[_, reason, _]| reason);
    assert_eq!((suspended.as_deref(), world.active_image()), (Some("Annotation"), image.clone()));
    assert_eq!(world.account.count("ec2:RunInstances"), 1);

    world.edit("builders/node.yaml", "regoin:", "region:", "policy: fix it");
    let held = "  annotations: {ami.opsy.dev/suspend: \"true\"}\n";
    world.edit("builders/node.yaml", held, "", "policy: resume it");
    assert_eq!(world.once().status.code(), Some(0));
    assert_ne!(world.active_image(), image, "the newer base image is built from");
}

const MANIFEST: &str = "builders/node.yaml";

/// Runs Opsy after the manifest became unreadable. Asserts that nothing is removed or built, and that the conditions of
/// the object name the file.
fn assert_kept_as_broken(world: &World, builds: usize) {
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    let [ready, reason, message] =
        world.condition("PackerBuilder", "node", "Ready").expect("it is not pruned");
    assert_eq!((ready.as_str(), reason.as_str()), ("False", "ManifestBroken"), "{message}");
    assert!(message.contains("its manifest in builders/node.yaml is broken"), "{message}");
    let [applied, reason, message] =
        world.condition("PackerBuilder", "node", "Applied").expect("it is reported");
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
        std::fs::create_dir(dir.join("builders")).expect("a directory");
        std::fs::write(dir.join(MANIFEST), &good).expect("a file");
        world.git(dir, &["add", MANIFEST]);
    });
    let fixed = world.once();
    assert_eq!(fixed.status.code(), Some(0), "{fixed:?}");
    assert_eq!(world.account.count("ec2:RunInstances"), 2, "the missing image is built again");
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

/// More manifests than are parsed again at each start.
const MANIFESTS: usize = 120;

/// Generation and region of all objects in the state directory.
fn stored(world: &World) -> BTreeMap<String, (i64, String)> {
    let folder = world.state().join("objects/PackerBuilder/default");
    let entries =
        std::fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path());
    let stored = |path: PathBuf| {
        let text = std::fs::read(&path).expect("a file");
        let object: Value = serde_json::from_slice(&text).expect("JSON");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let region = object["spec"]["region"].as_str().expect("a region").to_owned();
        (name, (object["generation"].as_i64().expect("a number"), region))
    };
    entries.map(stored).collect()
}

#[test]
fn what_was_parsed_before_a_restart_is_used_only_for_what_is_the_same() {
    let world = World::new();
    let manifest = |name: &str, region: &str| {
        format!(
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {{name: {name}}}\n\
             spec: {{region: {region}, suspend: true, builder: {{dir: packer/node}}}}\n"
        )
    };
    let path = |name: &str| format!("builders/{name}.yaml");
    let names: Vec<_> = (0..MANIFESTS).map(|number| format!("b{number:03}")).collect();
    let push = |files: &[(String, Option<String>)]| {
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_deref())).collect();
        world.push(&files, "policy: builders");
    };
    let all = names.iter().map(|name| (path(name), Some(manifest(name, "us-east-1"))));
    push(&all.chain([("builders/node.yaml".to_owned(), None)]).collect::<Vec<_>>());
    let suspended = Some(3);
    assert_eq!(world.once().status.code(), suspended);
    let cache = world.state().join("manifests.cache");
    let saved = std::fs::read_to_string(&cache).expect("what was parsed is saved");

    let mut due = stored(&world);
    assert!(due.len() == MANIFESTS && due.values().all(|one| *one == (1, "us-east-1".to_owned())), "{due:?}");
    push(&[
        (path("b000"), Some(manifest("b000", "us-west-2"))),
        (path("b001"), None),
        (path("b002"), Some(manifest("b002", "us-east-1").replace("region", "regoin"))),
        ("moved.yaml".to_owned(), Some(manifest("b001", "us-east-1"))),
        ("new.yaml".to_owned(), Some(manifest("new", "us-east-1"))),
    ]);
    due.insert("b000".to_owned(), (2, "us-west-2".to_owned()));
    due.insert("new".to_owned(), (1, "us-east-1".to_owned()));
    let needs_attention = Some(2);
    for damaged in [None, Some(saved.replace("us-east-1", "eu-west-1")), Some(String::new())] {
        if let Some(damaged) = damaged {
            std::fs::write(&cache, damaged).expect("written");
        }
        let outcome = world.once();
        assert_eq!(outcome.status.code(), needs_attention, "{outcome:?}");
        assert!(outcome.stderr.contains("builders/b002.yaml:4"), "{outcome:?}");
        assert_eq!(stored(&world), due);
    }
    assert_eq!(std::fs::read_to_string(&cache).expect("saved again").lines().count(), saved.lines().count());
}
