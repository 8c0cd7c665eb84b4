//! Faults of AWS and manual changes in AWS, with the whole agent.

mod builds;
mod failures;
mod groups;
mod guards;
mod images;
mod orphans;
mod reach;

use serde_json::{Value, json};

use crate::world::{Outcome, World, fixtures, run};

/// AWS operations of Opsy and of Packer that change something.
const WRITES: [&str; 6] = [
    "ec2:RunInstances",
    "ec2:CreateImage",
    "ec2:CreateTags",
    "ec2:CreateLaunchTemplateVersion",
    "eks:UpdateNodegroupConfig",
    "eks:UpdateNodegroupVersion",
];

/// The template of the fixtures.
fn template() -> String {
    fixture("packer/node/node.pkr.hcl")
}

fn fixture(path: &str) -> String {
    std::fs::read_to_string(fixtures().join("repo").join(path)).expect("a fixture")
}

/// The builder of the fixtures with this name and further lines in its spec.
fn builder(name: &str, further: &str) -> String {
    let text = fixture("builders/node.yaml").replace("name: node\n", &format!("name: {name}\n"));
    let text = text.replace("controllerTimer: 10s", "controllerTimer: 1s");
    format!("{text}{further}")
}

/// An environment with builder `node` and no refresher.
fn building(further: &str) -> World {
    building_all(&["node"], further, "")
}

/// An environment with builders of one template and no refresher.
fn building_all(names: &[&str], further: &str, settings: &str) -> World {
    let world = World::empty();
    let settings = format!("{}{settings}", fixture("opsy.yaml"));
    let builders: Vec<(String, String)> =
        names.iter().map(|name| (format!("builders/{name}.yaml"), builder(name, further))).collect();
    let template = template();
    let mut files: Vec<(&str, Option<&str>)> =
        builders.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
    files.extend([
        ("opsy.yaml", Some(settings.as_str())),
        ("packer/node/node.pkr.hcl", Some(template.as_str())),
    ]);
    world.push(&files, "policy: first");
    world
}

/// An environment whose refresher `demo` names an image, so that nothing has to be built.
fn rolling(further: &str) -> World {
    let world = World::empty();
    let refresher = refresher(&base(&world, "v20260801"), further);
    let settings = fixture("opsy.yaml");
    world.push(
        &[("opsy.yaml", Some(settings.as_str())), ("refreshers/demo.yaml", Some(refresher.as_str()))],
        "policy: first",
    );
    world
}

fn refresher(image: &str, further: &str) -> String {
    let text = fixture("refreshers/demo.yaml").replace("controllerTimer: 10s", "controllerTimer: 1s");
    let text = text.replace("  amiFrom:\n    packerBuilder: node\n", &format!("  ami: {image}\n"));
    assert!(text.contains(image), "the refresher names its image: {text}");
    format!("{text}{further}")
}

/// A base image of the seed.
fn base(world: &World, version: &str) -> String {
    world.seed["base_images"][version].as_str().expect("a seeded image").to_owned()
}

/// `opsy run --once` with one variable changed.
fn once_with(world: &World, name: &str, value: &str) -> Outcome {
    let mut opsy = world.opsy();
    opsy.args(["run", "--once"]).env(name, value);
    run(opsy)
}

/// Runs once, and asserts that everything settles in sync with Git.
fn settles(world: &World) {
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:#?}");
}

/// Reason and message of `Ready`.
fn ready(world: &World, kind: &str, name: &str) -> (String, String) {
    let status = world.status(kind, name).unwrap_or_default();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").cloned().unwrap_or(Value::Null);
    let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

fn builds(world: &World, name: &str) -> (String, String) {
    ready(world, "PackerBuilder", name)
}

fn rolls(world: &World) -> (String, String) {
    ready(world, "AMIRefresher", "demo")
}

/// Reason and result of the runs of a builder, newest first.
fn history(world: &World, name: &str) -> Vec<(String, String)> {
    let status = world.status("PackerBuilder", name).unwrap_or_default();
    let history = status["history"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    history.iter().map(|run| (text(&run["why"]), text(&run["result"]))).collect()
}

/// Calls that changed something, or would have.
fn writes(world: &World) -> Vec<String> {
    world.account.calls().into_iter().filter(|call| WRITES.contains(&call.as_str())).collect()
}

/// The entry of a node group in the refresher's status.
fn told(world: &World, group: &str) -> Value {
    let status = world.status("AMIRefresher", "demo").unwrap_or_default();
    let groups = status["nodeGroups"].as_array().cloned().unwrap_or_default();
    groups.into_iter().find(|row| row["name"] == group).unwrap_or(Value::Null)
}

/// Groups with their own launch template that run this image.
fn on(world: &World, image: &str) -> Vec<&'static str> {
    let runs = |name: &str| {
        let group = world.group(name);
        group["ami_type"] == "CUSTOM" && group["release_version"] == json!(image)
    };
    ["batch", "system", "web"].into_iter().filter(|name| runs(name)).collect()
}

/// Calls of an operation for one node group.
fn calls_for(world: &World, operation: &str, group: &str) -> usize {
    let of = |entry: &&Value| entry["operation"] == operation && entry["params"]["nodegroupName"] == group;
    world.account.journal().iter().filter(of).count()
}

/// Number of launch template versions that Opsy made and that still exist.
fn versions_of_ours(world: &World) -> usize {
    world.account.state().to_string().matches("\"opsy test ").count()
}
