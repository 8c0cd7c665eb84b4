//! The example repository, unchanged: only variables point it at the emulated AWS, and it is provisioned over real SSH.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::bed::bed;
use crate::packers::Packer;
use crate::world::{World, run};

fn push_example(world: &World) {
    world.push_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo"), "policy: the example");
}

/// `opsy run --once`, whose builds provision over the SSH server of the emulated AWS.
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
    call.unwrap_or_else(|| panic!("{operation} was not called"))["params"].clone()
}

/// The CIDRs from which the build machine accepted SSH.
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
    assert!(!sources(&world).contains("0.0.0.0/0"), "SSH is open to 0.0.0.0/0");
    for name in ["system", "web", "batch"] {
        assert_eq!(world.group(name)["release_version"], image.as_str(), "{name}");
    }
    assert_eq!(world.amis()["default/eks-node"]["us-east-1"]["x86_64"], image.as_str());
    assert_eq!(world.account.orphans(), Vec::<String>::new());
}

/// The template with the lines uncommented that are for Packer 1.7 and later.
fn uncommented(template: &str) -> String {
    let (mut marked, mut code) = (false, false);
    let mut text = String::new();
    for line in template.lines() {
        let comment = line.trim_start().strip_prefix('#');
        marked = comment.is_some_and(|comment| marked || comment.starts_with(" Packer 1.7:"));
        let line = match comment.and_then(|comment| comment.strip_prefix(' ')) {
            Some(comment) if marked && code => comment,
            _ => line,
        };
        code = marked && (code || comment == Some(""));
        text += line;
        text.push('\n');
    }
    text
}

/// Builds the example in an account that enforces IMDSv2 and has no default VPC.
fn builds_in_a_strict_account(world: &World) {
    world.account.post("settings", json!({ "imds_required": true, "default_vpc": false }));
    world.push(&[("refreshers/demo.yaml", None)], "policy: build alone");
    let manifest = "builders/eks-node.yaml";
    let subnet = format!("subnet_id: {}", world.seed["subnets"][0].as_str().expect("a subnet"));
    world.edit(manifest, "# subnet_id: subnet-0123456789abcdef0", &subnet, "policy: name a subnet");
    world.edit(
        manifest,
        "# ssh_cidrs: '[\"203.0.113.7/32",
        "ssh_cidrs: '[\"198.51.100.9/32",
        "policy: name the SSH clients",
    );
    let outcome = run(once(world));
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let image = world.active_image().unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!(params(world, "CreateSecurityGroup")["VpcId"], world.seed["vpc"]);
    assert_eq!(sources(world), json!([{ "CidrIp": "198.51.100.9/32" }]).to_string());
    assert_eq!(world.amis()["default/eks-node"]["us-east-1"]["x86_64"], image.as_str());
    assert_eq!(world.account.orphans(), Vec::<String>::new());
}

#[test]
fn the_example_builds_in_a_strict_account_without_a_default_vpc() {
    let world = World::empty();
    push_example(&world);
    builds_in_a_strict_account(&world);
}

#[test]
fn the_example_uncommented_for_a_current_packer_does_so_too() {
    let mut world = World::empty();
    world.build_with(Packer::Current);
    push_example(&world);
    let path = "packer/eks-node/eks-node.pkr.hcl";
    let template = uncommented(&world.show(path).expect("the template"));
    world.push(&[(path, Some(&template))], "policy: use a current Packer");
    builds_in_a_strict_account(&world);
    let options = &params(&world, "RunInstances")["MetadataOptions"];
    assert_eq!(options["HttpTokens"], "required", "{template}");
    // Packer changes each attribute in a separate call, in any order.
    let journal = world.account.journal();
    let changes = journal.iter().filter(|entry| entry["operation"] == "ModifyImageAttribute");
    assert!(
        changes.into_iter().any(|entry| entry["params"]["ImdsSupport"]["Value"] == "v2.0"),
        "{journal:#?}"
    );
}
