//! Faults of AWS and manual changes in AWS, with the whole agent.

mod builds;
mod failures;
mod groups;
mod guards;
mod images;
mod orphans;
mod reach;

use serde_json::{Value, json};

use crate::world::{Outcome, World, fixture, template};

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
    let mut files: Vec<(&str, Option<&str>)> =
        builders.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
    files.extend([("opsy.yaml", Some(settings.as_str())), ("packer/node/node.pkr.hcl", Some(template()))]);
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

/// Runs once with the rights that Packer and the agent need for images without Opsy's tags, see `deploy/iam`.
fn once_untagged(world: &World) -> Outcome {
    world.allow("agent-untagged-templates");
    world.once_with(&[("OPSY_BUILD_AWS_ACCESS_KEY_ID", &world.account.unrestricted_key())])
}

/// Runs once, and asserts that everything settles in sync with Git.
pub fn settles(world: &World) {
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:#?}");
}

fn builds(world: &World, name: &str) -> (String, String) {
    world.ready("PackerBuilder", name)
}

fn rolls(world: &World) -> (String, String) {
    world.ready("AMIRefresher", "demo")
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
