//! Images that fail, take long, or are left behind: they are never promoted, and no good image is lost because of them.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::{builder, building, builds, settles};
use crate::bed::bed;
use crate::world::{World, run};

/// Long enough that an image stays pending until the test advances the clock.
const LONG: u64 = 1_000_000;

fn images(world: &World) -> Vec<Value> {
    let state = world.account.state();
    let owned = |image: &&Value| image["owner"] != "602401143452";
    state["images"].as_array().expect("images").iter().filter(owned).cloned().collect()
}

/// Creates an image of a seeded instance by the API of EC2, without Opsy. The emulation does not verify the signature,
/// but derives the account from it.
fn make_image(world: &World, name: &str) -> String {
    let state = world.account.state();
    let instance = state["instances"][0]["id"].as_str().expect("a seeded instance").to_owned();
    let scope = format!("AKIA{}ROOT/20260101/us-east-1/ec2/aws4_request", world.account.id);
    let form = format!("Action=CreateImage&Version=2016-11-15&InstanceId={instance}&Name={name}");
    let mut answer = ureq::post(&bed().endpoint)
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
        )
        .header("content-type", "application/x-www-form-urlencoded")
        .send(form)
        .expect("CreateImage works");
    let text = answer.body_mut().read_to_string().expect("XML");
    let id = text.split("<imageId>").nth(1).and_then(|rest| rest.split('<').next());
    id.unwrap_or_else(|| panic!("no image ID in {text}")).to_owned()
}

/// A Packer that succeeds immediately, with the image that the file `image` names.
struct QuickPacker {
    folder: PathBuf,
}

impl QuickPacker {
    fn new(world: &World) -> Self {
        let folder = world.root().to_owned();
        let script = "#!/bin/sh\n\
             [ \"$1\" = build ] || exit 0\n\
             read -r id < \"${0%/*}/image\"\n\
             echo \"1795370402,amazon-ebs.node,artifact-count,1\"\n\
             echo \"1795370402,amazon-ebs.node,artifact,0,id,us-east-1:$id\"\n\
             echo \"1795370402,amazon-ebs.node,artifact,0,end\"\n";
        let program = folder.join("packer");
        std::fs::write(&program, script).expect("a script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a program");
        Self { folder }
    }

    fn makes(&self, image: &str) {
        std::fs::write(self.folder.join("image"), format!("{image}\n")).expect("a file");
    }

    fn opsy(&self, world: &World) -> Command {
        let mut opsy = world.opsy();
        opsy.env("OPSY_PACKER", self.folder.join("packer"));
        opsy
    }
}

#[test]
fn an_image_counts_only_when_it_is_available_and_one_that_fails_never_does() {
    let world = building("  failurePolicy:\n    limit: 1\n");
    // This Packer tags nothing.
    world.allow("agent-untagged-templates");
    let packer = QuickPacker::new(&world);
    world.account.fault(json!({ "kind": "image-pending", "seconds": LONG, "count": 1 }));
    let slow = make_image(&world, "slow");
    packer.makes(&slow);
    let agent = world.start(packer.opsy(&world));
    let pending = |image: &str| {
        let message = world.wait("the builder to wait for the image", || {
            let (reason, message) = builds(&world, "node");
            (reason == "ImagePending" && message.contains(image)).then_some(message)
        });
        assert_eq!(world.account.count("ec2:RunInstances"), 0, "{message}");
    };
    pending(&slow);
    assert_eq!(world.active_image(), None);
    world.account.post("clock", json!({ "advance": LONG }));
    world.wait("the image to be active", || (world.active_image() == Some(slow.clone())).then_some(()));
    world.wait("the builder to be ready", || (builds(&world, "node").0 == "ImageReady").then_some(()));

    world.account.fault(json!({
        "kind": "image-fails", "seconds": LONG, "message": "Snapshot could not be written", "count": 1,
    }));
    let broken = make_image(&world, "broken");
    packer.makes(&broken);
    world.edit("packer/node/node.pkr.hcl", "default = \"1\"", "default = \"2\"", "policy: second");
    pending(&broken);
    world.account.post("clock", json!({ "advance": LONG }));
    let message = world.wait("the failure", || {
        let (reason, message) = builds(&world, "node");
        (reason == "RetryLimit").then_some(message)
    });
    agent.stop();
    assert!(message.contains(&broken) && message.contains("Snapshot could not be written"), "{message}");
    assert_eq!(world.active_image(), Some(slow), "the old one stays");
    let runs = world.history("node");
    assert_eq!(runs.first().map(|(_, result)| result.as_str()), Some("Failed"), "{runs:?}");
    let promoted = |image: &Value| image["id"] == json!(broken) && !image["tags"]["status"].is_null();
    assert!(!images(&world).iter().any(promoted));
}

#[test]
fn a_build_whose_image_fails_leaves_the_active_image_and_nothing_else() {
    let world = building("  failurePolicy:\n    limit: 1\n");
    world.allow("agent-packer-1.6-images");
    settles(&world);
    let (active, before) = (world.active_image().expect("an image"), images(&world).len());
    world.account.fault(json!({ "kind": "image-fails", "message": "Snapshot could not be written" }));
    world.edit("packer/node/node.pkr.hcl", "default = \"1\"", "default = \"2\"", "policy: second");
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(2), "{outcome:#?}");
    assert_eq!(builds(&world, "node").0, "RetryLimit", "{:?}", builds(&world, "node"));
    assert_eq!(world.active_image(), Some(active.clone()));
    assert_eq!(world.account.orphans(), Vec::<String>::new());
    assert_eq!(images(&world).len(), before, "the failed image is gone: {:#?}", images(&world));

    world.account.clear_faults();
    world.edit("packer/node/node.pkr.hcl", "default = \"2\"", "default = \"3\"", "policy: third");
    settles(&world);
    assert_ne!(world.active_image().expect("one active image"), active);
}

#[test]
fn a_build_cancelled_while_its_image_is_made_leaves_nothing_and_is_checked_again() {
    let world = building("");
    world.allow("agent-packer-1.6-images");
    let before = images(&world).len();
    world.account.fault(json!({ "kind": "image-pending", "seconds": LONG }));
    let agent = world.agent();
    world.wait("the image", || (images(&world).len() > before).then_some(()));
    let status = world.wait("the build's id", || {
        world.status("PackerBuilder", "node").filter(|status| status["buildID"].is_string())
    });
    let build = status["buildID"].as_str().expect("an id");
    let name = format!("name: node\n  annotations:\n    ami.opsy.dev/cancel: \"{build}\"\n");
    world.edit("builders/node.yaml", "name: node\n", &name, "policy: cancel it");
    world.wait("the build to be canceled", || (builds(&world, "node").0 == "Cancelled").then_some(()));
    world.wait("a clean account", || {
        (images(&world).len() == before && world.account.orphans().is_empty()).then_some(())
    });
    let later = world.wait("a later orphan check", || {
        let status = world.status("PackerBuilder", "node")?;
        let looks = |sweep: &&Value| sweep["id"] == json!(build) && sweep["looks"].as_i64() >= Some(1);
        status["sweeps"].as_array()?.iter().find(looks).cloned()
    });
    agent.stop();
    assert!(later["due"].is_string(), "images may appear late: {later}");
    assert_eq!(world.history("node"), [("Missing".to_owned(), "Cancelled".to_owned())]);
    assert_eq!(world.account.count("ec2:RunInstances"), 1);
    assert_eq!(world.active_image(), None);
}

/// Creates an image that no build made, in this account or another.
fn stray_image(world: &World, name: &str, further: Value) -> String {
    let mut wanted = json!({ "name": name });
    wanted.as_object_mut().expect("an object").extend(further.as_object().expect("an object").clone());
    let made = world.account.post("image", wanted);
    made["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_build_that_names_an_image_it_did_not_make_fails_and_tags_nothing() {
    let world = building("");
    settles(&world);
    let active = world.active_image().expect("an image");
    let cases = [
        (active.clone(), "of another build"),
        (
            stray_image(&world, "shared", json!({ "owner": "999999999999" })),
            "belongs to account 999999999999",
        ),
        (
            stray_image(&world, "old", json!({ "created": "2025-01-01T00:00:00Z" })),
            "before the build started",
        ),
    ];
    let packer = QuickPacker::new(&world);
    let tags = || -> Vec<Value> { images(&world).into_iter().map(|image| image["tags"].clone()).collect() };
    let before = tags();
    for (number, (image, words)) in cases.into_iter().enumerate() {
        packer.makes(&image);
        let name = format!("other-{number}");
        let manifest = builder(&name, "  failurePolicy:\n    limit: 1\n");
        world.push(&[(&format!("builders/{name}.yaml"), Some(&manifest))], "policy: another builder");
        let mut opsy = packer.opsy(&world);
        opsy.args(["run", "--once"]);
        run(opsy);
        let (reason, message) = builds(&world, &name);
        assert_eq!(reason, "RetryLimit", "{message}");
        assert!(message.contains(&image) && message.contains(words), "{message}");
        assert_eq!(world.history(&name), [("Missing".to_owned(), "Failed".to_owned())]);
    }
    assert_eq!(tags(), before, "nothing is tagged or removed");
    assert_eq!(world.active_image(), Some(active), "the first builder keeps its image");
    assert_eq!(builds(&world, "node").0, "ImageReady");
}

#[test]
fn an_image_that_only_its_tags_call_active_is_reported_and_not_used() {
    let world = building("");
    settles(&world);
    let active = world.active_image().expect("an image");
    let mut tags = world.account.image("us-east-1", &active)["tags"].clone();
    tags["opsy.dev/build"] = json!("00000000000000aa");
    tags["job-id"] = json!("node-00000000000000aa");
    let stray = stray_image(&world, "stray", json!({ "tags": tags }));
    settles(&world);
    let (reason, message) = builds(&world, "node");
    assert_eq!(reason, "ImageReady", "{message}");
    assert!(message.contains(&format!("{stray} has the tag status=active")), "{message}");
    let status = world.status("PackerBuilder", "node").unwrap_or_default();
    assert_eq!(status["images"][0]["id"], json!(active), "the recorded image stays active");
    assert!(!world.amis().to_string().contains(&stray), "{:#}", world.amis());

    world.account.delete("image", json!({ "id": active }));
    world.once();
    let (reason, message) = builds(&world, "node");
    assert_eq!(
        (reason.as_str(), world.account.count("ec2:RunInstances")),
        ("UnrecordedImage", 1),
        "{message}"
    );
    assert!(message.contains(&stray), "{message}");
}
