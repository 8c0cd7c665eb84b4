//! Failures of processes and disks: the agent or a runner is killed, stopped or started twice, the state directory is
//! full or deleted, inputs change or are deleted during a build.

mod elsewhere;
mod folder;
mod points;
mod runs;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::world::{World, fixture, template};

/// The timer of the builder in the fixtures, and its replacement in tests.
const TIMER: (&str, &str) = ("controllerTimer: 10s", "controllerTimer: 1s");

/// An environment with builder `node` alone, reconciled every second, with further lines in its spec.
fn builder_world(spec: &str) -> World {
    let world = World::empty();
    let settings = fixture("opsy.yaml");
    let builder = fixture("builders/node.yaml").replace(TIMER.0, TIMER.1) + spec;
    world.push(
        &[
            ("builders/node.yaml", Some(&builder)),
            ("packer/node/node.pkr.hcl", Some(template())),
            ("opsy.yaml", Some(&settings)),
        ],
        "policy: first",
    );
    world
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

fn ready(world: &World) -> (String, String) {
    world.ready("PackerBuilder", "node")
}

/// Waits until the builder is ready, and returns its image.
fn wait_for_image(world: &World) -> String {
    world.wait("an active image and a builder that is ready", || {
        (ready(world).0 == "ImageReady").then(|| world.active_image()).flatten()
    })
}
