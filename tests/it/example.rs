//! The example repository, as users are told to keep it: pointed at the emulated AWS by variables alone,
//! provisioned for real over SSH.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::bed::bed;
use crate::world::{World, run};

fn push_example(world: &World) {
    world.push_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo"), "policy: the example");
}

/// One run of Opsy, whose builds provision over the SSH of the emulated AWS.
fn once(world: &World) -> Command {
    let mut opsy = world.opsy();
    opsy.args(["run", "--once"])
        .env("PKR_VAR_ssh_host", "127.0.0.1")
        .env("PKR_VAR_ssh_port", bed().ssh_port.to_string())
        .env("PKR_VAR_ssh_username", &bed().ssh_user);
    opsy
}

/// The parameters of the last call of an operation.
fn params(world: &World, operation: &str) -> Value {
    let journal = world.account.journal();
    let call = journal.iter().rfind(|entry| entry["operation"] == operation && entry["status"] == 200);
    call.unwrap_or_else(|| panic!("{operation} was called"))["params"].clone()
}

/// From where the build machine accepted SSH.
fn sources(world: &World) -> String {
    params(world, "AuthorizeSecurityGroupIngress")["IpPermissions"][0]["IpRanges"].to_string()
}

#[test]
fn the_example_repository_builds_provisions_and_rolls_out() {
    let world = World::empty();
    push_example(&world);
    let outcome = run(once(&world));
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let image = world.active_image().expect("one active image");
    assert!(!sources(&world).contains("0.0.0.0/0"), "SSH from everywhere");
    for name in ["system", "web", "batch"] {
        assert_eq!(world.group(name)["release_version"], image.as_str(), "{name}");
    }
    assert_eq!(world.amis()["default/eks-node"]["us-east-1"]["x86_64"], image.as_str());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn the_example_builds_in_a_strict_account_without_a_default_vpc() {
    let world = World::empty();
    world.account.post("settings", json!({ "imds_required": true, "default_vpc": false }));
    push_example(&world);
    world.push(&[("refreshers/demo.yaml", None)], "policy: build alone");
    let subnet = world.seed["subnets"][0].as_str().expect("a subnet");
    world.edit(
        "builders/eks-node.yaml",
        "# subnet_id: subnet-0123456789abcdef0",
        &format!("subnet_id: {subnet}"),
        "policy: name a subnet",
    );
    world.edit(
        "builders/eks-node.yaml",
        "# ssh_cidrs: '[\"203.0.113.7/32\"]'",
        "ssh_cidrs: '[\"198.51.100.9/32\"]'",
        "policy: name an address",
    );
    let outcome = run(once(&world));
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert!(world.active_image().is_some(), "{outcome:?}");
    assert_eq!(params(&world, "CreateSecurityGroup")["VpcId"], world.seed["vpc"]);
    assert_eq!(sources(&world), json!([{ "CidrIp": "198.51.100.9/32" }]).to_string());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}
