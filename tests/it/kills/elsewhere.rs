//! A build that is killed in a region that only its template names.

use std::fs;

use serde_json::{Value, json};

use super::{builder_status, builder_world, ready, run_folders, wait_for_calls};
use crate::packers::Packer;
use crate::world::{World, kill, template};

/// The region in which the template builds, regardless of the builder's region.
const ELSEWHERE: &str = "eu-west-1";

/// Orphans, images and snapshots in that region.
fn held(world: &World) -> Value {
    let state = world.account.state_in(ELSEWHERE);
    json!([state["leftovers"], state["images"], state["snapshots"]])
}

fn calls_in(world: &World, region: &str) -> usize {
    let of_agent = |entry: &&Value| {
        entry["region"] == region && entry["access_key"] == world.account.env()["AWS_ACCESS_KEY_ID"]
    };
    world.account.journal().iter().filter(of_agent).count()
}

/// An environment whose template builds in `ELSEWHERE` from an image there.
fn world_elsewhere() -> World {
    let mut world = builder_world("  failurePolicy:\n    backoff: 1h\n");
    world.build_with(Packer::Current);
    let base = world.account.post("image", json!({ "region": ELSEWHERE, "name": "golden" }));
    let path = "packer/node/node.pkr.hcl";
    let image = base["id"].as_str().expect("an id");
    let own = template()
        .replace("region              = var.region", &format!("region = \"{ELSEWHERE}\""))
        .replace("source_ami          = var.ami_id", &format!("source_ami = \"{image}\""));
    assert!(own.contains(ELSEWHERE) && own.contains(image), "{own}");
    world.push(&[(path, Some(&own))], "policy: a region of its own");
    world
}

#[test]
fn what_a_killed_build_left_in_a_region_that_only_its_template_names_is_swept() {
    let world = world_elsewhere();
    let before = held(&world);
    world.account.hold_images(1);
    let agent = world.agent();
    world.wait("the image in the other region", || {
        let made = |entry: &Value| entry["operation"] == "CreateImage" && entry["region"] == ELSEWHERE;
        world.account.journal().iter().any(made).then_some(())
    });
    assert_ne!(held(&world), before, "the instance runs in the other region");
    let (runners, others) = world.build_processes();
    kill(&[runners, others].concat());
    world.wait("the backoff after the failed build", || (ready(&world).0 == "BuildFailed").then_some(()));
    world.wait("the sweep of the other region", || (held(&world) == before).then_some(()));
    world.wait("later orphan checks of the other region", || {
        (builder_status(&world)["sweeps"][0]["regions"] == json!([ELSEWHERE])).then_some(())
    });
    let sweep = builder_status(&world)["sweeps"][0].clone();
    assert_eq!(sweep["everywhere"], Value::Null, "all regions are asked once: {sweep:#}");
    assert_eq!(world.account.count("ec2:DescribeRegions"), 1 + packers_questions(&world));
    agent.stop();
    let log = fs::read_to_string(world.agent_log()).unwrap_or_default();
    assert!(log.contains(ELSEWHERE) && log.contains("LeftoversRemoved"), "{log}");
    world.account.finish_images();
    assert_eq!(held(&world), before, "the image that was pending does not appear late");
}

/// Number of DescribeRegions calls of Packer, which validates its region.
fn packers_questions(world: &World) -> usize {
    let asked = |entry: &&Value| {
        entry["operation"] == "DescribeRegions" && entry["access_key"] == world.account.packers_key()
    };
    world.account.journal().iter().filter(asked).count()
}

/// The instance is found in the builder's region, so that no other region has to be searched.
#[test]
fn a_build_that_is_killed_in_its_own_region_is_searched_for_there_alone() {
    let mut world = builder_world("  failurePolicy:\n    backoff: 1h\n");
    world.build_with(Packer::Current);
    world.account.hold_images(1);
    let agent = world.agent();
    wait_for_calls(&world, "ec2:CreateImage", 1);
    let (runners, others) = world.build_processes();
    kill(&[runners, others].concat());
    world.wait("the sweep of the orphans", || {
        (world.account.orphans().is_empty() && run_folders(&world).is_empty()).then_some(())
    });
    world.wait("the end of the first orphan check", || {
        (builder_status(&world)["sweeps"][0]["looks"] == json!(1)).then_some(())
    });
    agent.stop();
    assert_eq!(calls_in(&world, ELSEWHERE), 0);
}
