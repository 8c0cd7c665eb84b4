//! Failures of processes and disks: the agent or a runner is killed, stopped or started twice, the state directory is
//! full or deleted, inputs change or are deleted during a build.

mod elsewhere;
mod folder;
mod points;
mod runs;

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::world::{World, fixtures};

/// Longer than any build: a held image stays pending until `finish`.
const HELD: u64 = 24 * 3600;
/// The timer of the builder in the fixtures, and its replacement in tests.
const TIMER: (&str, &str) = ("controllerTimer: 10s", "controllerTimer: 1s");

/// An environment with builder `node` alone, reconciled every second, with further lines in its spec.
fn builder_world(spec: &str) -> World {
    let world = World::empty();
    let read = |path: &str| fs::read_to_string(fixtures().join("repo").join(path)).expect("a fixture");
    let (template, settings) = (read("packer/node/node.pkr.hcl"), read("opsy.yaml"));
    let builder = read("builders/node.yaml").replace(TIMER.0, TIMER.1) + spec;
    world.push(
        &[
            ("builders/node.yaml", Some(&builder)),
            ("packer/node/node.pkr.hcl", Some(&template)),
            ("opsy.yaml", Some(&settings)),
        ],
        "policy: first",
    );
    world
}

/// Keeps the image of the next build pending until `finish`.
fn hold_next_build(world: &World) {
    world.account.fault(json!({ "kind": "image-pending", "seconds": HELD, "count": 1 }));
}

fn finish(world: &World) {
    world.account.post("clock", json!({ "advance": HELD }));
}

fn wait_for_calls(world: &World, call: &str, count: usize) {
    world.wait(&format!("{call} {count} times"), || (world.account.count(call) >= count).then_some(()));
}

/// Directories of runs, and whether each has a result.
fn run_folders(world: &World) -> Vec<(PathBuf, bool)> {
    let Ok(entries) = fs::read_dir(world.state().join("runs")) else { return Vec::new() };
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let named = folders.filter(|path| path.join("facts.json").exists());
    named.map(|path| (path.clone(), path.join("result.json").exists())).collect()
}

fn live_runs(world: &World) -> usize {
    run_folders(world).iter().filter(|(_, ended)| !ended).count()
}

fn builder_status(world: &World) -> Value {
    world.status("PackerBuilder", "node").unwrap_or(Value::Null)
}

/// Results of the builder's runs, newest first.
fn results(world: &World) -> Vec<String> {
    let status = builder_status(world);
    let history = status["history"].as_array().into_iter().flatten();
    history.map(|run| run["result"].as_str().unwrap_or("?").to_owned()).collect()
}

/// Reason and message of an object's condition Ready.
fn ready(status: &Value) -> (String, String) {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
    let text = |field: &str| ready.and_then(|ready| ready[field].as_str()).unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

/// Waits until the builder is ready, and returns its image.
fn wait_for_image(world: &World) -> String {
    world.wait("an active image and a builder that is ready", || {
        (ready(&builder_status(world)).0 == "ImageReady").then(|| world.active_image()).flatten()
    })
}
