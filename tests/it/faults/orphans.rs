//! Orphans of a failed build that IAM does not let the agent delete.

use serde_json::{Value, json};

use super::{building, builds, once_untagged};
use crate::world::{World, template};

fn image_ids(world: &World) -> Vec<String> {
    let state = world.account.state();
    let images = state["images"].as_array().cloned().unwrap_or_default();
    images.iter().filter_map(|image| image["id"].as_str()).map(str::to_owned).collect()
}

fn sweep(world: &World) -> Value {
    world.status("PackerBuilder", "node").unwrap_or_default()["sweeps"][0].clone()
}

#[test]
fn a_removal_that_is_denied_names_what_is_left_and_is_tried_again_when_asked() {
    let world = building("  failurePolicy:\n    limit: 1\n    backoff: 1h\n");
    let before = image_ids(&world);
    let copies = template().replace(
        "  region              = var.region\n",
        "  region = var.region\n  ami_regions = [\"eu-west-1\"]\n",
    );
    assert!(copies.contains("ami_regions"), "{copies}");
    world.push(&[("packer/node/node.pkr.hcl", Some(&copies))], "policy: two regions");
    world.account.fault(json!({
        "kind": "error", "operation": "CopyImage", "code": "InvalidRequest", "message": "no such key", "status": 400,
    }));
    // Packer may not clean up either.
    world.account.fault(json!({ "kind": "deny", "operation": "DeregisterImage" }));
    let outcome = once_untagged(&world);
    assert_eq!(builds(&world, "node").0, "BuildFailed", "{outcome:#?}");
    let left: Vec<String> = image_ids(&world).into_iter().filter(|id| !before.contains(id)).collect();
    let [image] = left.as_slice() else { panic!("not exactly one image is left: {left:?}\n{outcome:#?}") };
    let told = format!("not removed in us-east-1: image {image}");
    for words in ["SweepFailed", &told, "permission needed: ec2:DeregisterImage"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    assert_eq!(sweep(&world)["refused"], json!(1), "{:#}", sweep(&world));

    world.account.clear_faults();
    assert_ne!(image_ids(&world), before);
    once_untagged(&world);
    assert!(image_ids(&world).contains(image), "not before it is due");
    let name = "name: node\n  annotations:\n    ami.opsy.dev/reconcileAt: permission granted\n";
    world.push(&[("packer/node/node.pkr.hcl", Some(template()))], "policy: one region");
    world.edit("builders/node.yaml", "name: node\n", name, "policy: try again");
    let outcome = once_untagged(&world);
    assert!(!image_ids(&world).contains(image), "{outcome:#?}");
    assert!(world.active_image().is_some(), "{outcome:#?}");
}
