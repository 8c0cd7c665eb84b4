//! Mistakes of people, of their Git server and of their templates, with the whole agent.

mod manifests;
mod packer;
mod remote;
mod rivals;
mod signatures;
mod sources;

use std::fs;

use crate::world::{World, files_with, template};

/// Lines of a builder's `spec`: the backoff is long enough for `--once` to end before the next try.
const RETRY_SOON: &str = "  failurePolicy: {backoff: 5s}\n";

/// A builder of the EKS image, with further lines in `spec.builder` and in `spec`.
fn builder(name: &str, dir: &str, of_builder: &str, of_spec: &str) -> String {
    format!(
        "apiVersion: ami.opsy.dev/v1alpha1
kind: PackerBuilder
metadata:
  name: {name}
spec:
  region: us-east-1
  clusterName: demo
  amiFilters:
    - {{name: owner-id, values: [\"602401143452\"]}}
    - {{name: name, values: [amazon-eks-node-al2023-x86_64-standard-1.31-*]}}
  timeOuts: {{expiresIn: 30d, controllerTimer: 1s}}
{of_spec}  builder:
    dir: {dir}
{of_builder}    commands:
      - subCommand: build
"
    )
}

/// `opsy.yaml` with a short quiet period and further lines in `publish`.
fn settings(of_publish: &str) -> String {
    format!("agentID: test\nlimits: {{concurrentBuilds: 9}}\npublish:\n  quietPeriod: 100ms\n{of_publish}")
}

/// Pushes builder `node`, without a refresher.
fn push_node(world: &World, of_publish: &str) {
    let files = [
        ("opsy.yaml", settings(of_publish)),
        ("builders/node.yaml", builder("node", "packer/node", "", RETRY_SOON)),
        ("packer/node/node.pkr.hcl", template().to_owned()),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, Some(text.as_str()))).collect();
    world.push(&files, "policy: first");
}

/// Waits until `Ready` of builder `node` is true.
fn wait_for_node(world: &World) -> String {
    world.wait("builder node to be ready", || {
        let [ready, ..] = world.condition("PackerBuilder", "node", "Ready")?;
        (ready == "True").then(|| world.active_image()).flatten()
    })
}

/// How often instances were started.
fn builds(world: &World) -> usize {
    world.account.count("ec2:RunInstances")
}

/// Asserts that a secret is in no file of the state directory, no log, no commit.
fn assert_nowhere(world: &World, secret: &str) {
    assert_eq!(files_with(&world.state(), secret), Vec::<String>::new());
    let log = fs::read_to_string(world.agent_log()).unwrap_or_default();
    assert!(!log.contains(secret), "the log contains it");
    let history = world.git(&world.remote(), &["log", "--all", "--patch", "--format=fuller"]);
    assert!(!history.contains(secret), "a commit contains it");
}
