//! Failed builds: which failures count, what is retried, what is retained of them, and what is cleaned up.

use serde_json::{Value, json};

use super::{building, builds, once_untagged};
use crate::world::{World, script_template, template};

/// Regions that the template copies to.
const COPIES: [&str; 2] = ["eu-west-1", "ap-south-1"];

fn failed_jobs(world: &World) -> Value {
    world.status("PackerBuilder", "node").unwrap_or_default()["failedJobCount"].clone()
}

/// A lack of capacity does not count toward the limit: builds are retried without a commit until there is an image.
#[test]
fn a_lack_of_capacity_lasts_longer_than_the_limit_and_ends_in_an_image() {
    let world = building("  failurePolicy:\n    limit: 2\n    backoff: 1s\n    maxBackoff: 2s\n");
    world.account.fault(json!({
        "kind": "error", "operation": "RunInstances", "code": "InsufficientInstanceCapacity",
        "message": "We currently do not have sufficient capacity", "status": 400, "count": 4,
    }));
    let agent = world.agent();
    world.wait("the image", || (builds(&world, "node").0 == "ImageReady").then_some(()));
    agent.stop();
    let status = world.status("PackerBuilder", "node").expect("a status");
    let runs = status["history"].as_array().cloned().unwrap_or_default();
    let passing = |run: &&Value| {
        run["failure"] == "Transient" && run["errors"][0].to_string().contains("InsufficientInstanceCapacity")
    };
    assert_eq!(runs.iter().filter(passing).count(), 4, "{status:#}");
    assert_eq!((failed_jobs(&world), world.account.orphans()), (json!(0), Vec::<String>::new()));
    assert!(world.active_image().is_some());
}

#[test]
fn a_script_that_fails_five_times_waits_for_a_person_who_can_ask_for_one_more_try() {
    let world = building("  failurePolicy:\n    limit: 5\n    backoff: 1s\n    maxBackoff: 1s\n");
    let failing = script_template("echo mirror.example.com refused us: 403; exit 7");
    world.push(&[("packer/node/node.pkr.hcl", Some(&failing))], "policy: a broken mirror");
    let agent = world.agent();
    let stalled = |runs: usize| {
        world.wait("the limit", || {
            let (reason, message) = builds(&world, "node");
            (reason == "RetryLimit" && world.history("node").len() == runs).then_some(message)
        })
    };
    let message = stalled(5);
    assert!(message.contains("opsy reconcile"), "{message}");
    let cause = "build (null.here): Script exited with non-zero exit status: 7";
    assert!(message.contains(cause), "{message}");
    assert!(message.contains("last output: mirror.example.com refused us: 403"), "{message}");

    let shown = world.run(&["logs", "pb/node"]);
    assert!(shown.stdout.contains("mirror.example.com refused us: 403"), "the log is retained: {shown:#?}");

    let name = "name: node\n  annotations:\n    ami.opsy.dev/reconcileAt: once more\n";
    world.edit("builders/node.yaml", "name: node\n", name, "policy: try once more");
    world.wait("one more try", || (world.history("node").len() == 6).then_some(()));
    world.edit("packer/node/node.pkr.hcl", "exit 7", "exit 0", "policy: a mirror that works");
    let fruitless = "packer exited with 0 but reported no image";
    world.wait("a build of the new inputs", || builds(&world, "node").1.contains(fruitless).then_some(()));
    agent.stop();
    let file = world.show("status/default/packerbuilders/node.yaml").expect("a status file");
    assert!(file.contains("reason: BuildFailed") || file.contains("reason: RetryLimit"), "{file}");
}

fn everything(world: &World, region: &str) -> Value {
    let state = world.account.state_in(region);
    json!([state["images"], state["snapshots"], world.account.orphans_in(region)])
}

#[test]
fn a_build_that_fails_half_way_in_three_regions_leaves_nothing_whatever_its_tags() {
    let world = building("  failurePolicy:\n    limit: 1\n");
    let regions = || ["us-east-1", COPIES[0], COPIES[1]].map(|region| everything(&world, region));
    let before = regions();
    let own = template()
        .replace(
            "  tags                = var.opsy_build_tags\n",
            "  tags = { Name = \"golden\", status = \"new\" }\n",
        )
        .replace("  snapshot_tags       = var.opsy_build_tags\n", "  snapshot_tags = { Name = \"golden\" }\n")
        .replace(
            "  region              = var.region\n",
            "  region = var.region\n  ami_regions = [\"eu-west-1\", \"ap-south-1\"]\n",
        );
    assert!(
        own.contains("golden") && own.contains("ami_regions") && !own.contains(" tags                ="),
        "{own}"
    );
    world.push(&[("packer/node/node.pkr.hcl", Some(&own))], "policy: three regions");
    world.account.fault(json!({
        "kind": "error", "operation": "CopyImage", "code": "InvalidRequest", "message": "no such key",
        "status": 400, "skip": 1,
    }));
    let outcome = once_untagged(&world);
    assert_eq!(outcome.status.code(), Some(2), "{outcome:#?}");
    assert_eq!(world.account.count("ec2:CopyImage"), 2, "one copy was made: {:?}", world.account.calls());
    let (reason, message) = builds(&world, "node");
    assert!(reason == "RetryLimit" && message.contains("InvalidRequest"), "{reason}: {message}");
    assert_eq!(regions(), before, "{outcome:#?}");
    let status = world.status("PackerBuilder", "node").expect("a status");
    assert_eq!(
        status["sweeps"][0]["regions"],
        json!(["ap-south-1", "eu-west-1"]),
        "regions of later orphan checks: {status:#}"
    );
}
