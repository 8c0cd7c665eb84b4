//! The cost of many objects: requests are counted, and times and memory are printed.

use std::time::Instant;

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::Place;
use super::world::Agent;
use crate::processes::memory_kb;

/// Enough to notice one extra request per object; use a thousand for a measurement.
const OBJECTS: usize = 200;

fn objects() -> usize {
    std::env::var("OPSY_TEST_OBJECTS").ok().and_then(|count| count.parse().ok()).unwrap_or(OBJECTS)
}

/// A spec of a realistic size.
fn spec(region: &str) -> Value {
    let filters: Vec<Value> = ["name", "architecture", "virtualization-type", "root-device-type", "owner-id"]
        .iter()
        .map(|name| json!({"name": name, "values": [format!("{name}-one"), format!("{name}-two")]}))
        .collect();
    json!({
        "region": region, "clusterName": "demo", "amiFilters": filters,
        "timeOuts": {"expiresIn": "30d", "controllerTimer": "1h"},
        "builder": {
            "repoURL": "https://git.example.com/platform/images.git", "branch": "main", "dir": "packer/node",
            "image": "registry.example.com/packer:1.11", "secret": "packer-aws", "jobServiceAccountName": "packer",
            "commands": [
                {"subCommand": "init", "workingDir": "packer/node"},
                {"subCommand": "validate", "workingDir": "packer/node", "variablesFile": "packer/node/prod.pkrvars.hcl"},
                {"subCommand": "build", "workingDir": "packer/node", "variablesFile": "packer/node/prod.pkrvars.hcl",
                 "variables": {"kubernetes_version": "1.31", "instance_type": "m7i.large"}, "onError": "cleanup"},
            ],
        },
    })
}

fn resident() -> String {
    let size = |field: &str| format!("{field} {} kB", memory_kb(std::process::id(), field));
    [size("VmHWM"), size("VmRSS")].join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_objects_cost_an_apply_and_a_status_each_and_nothing_after_that() {
    let place = Place::new().await;
    let count = objects();
    for concurrency in [8, 32] {
        let start = Instant::now();
        let builders = place.builders();
        let bare = futures::stream::iter(0..count).map(|n| {
            let (builders, name) = (&builders, format!("bare-{concurrency}-{n}"));
            async move {
                let object = place_document(&name);
                let params = PatchParams::apply("bare").force();
                builders.patch(&name, &params, &Patch::Apply(&object)).await.expect("applied");
            }
        });
        bare.buffer_unordered(concurrency).collect::<Vec<()>>().await;
        println!("bare loop, {count} applies at {concurrency}: {:?}", start.elapsed());
        let deleted = place.builders().delete_collection(&Default::default(), &Default::default()).await;
        deleted.expect("all are deleted");
    }
    let mut documents: Vec<_> =
        (0..count).map(|n| place.document(&format!("b{n}"), spec("us-east-1"))).collect();
    println!("before: {}", resident());
    let agent = Agent::start(&place).await;
    for (what, expected) in [("first commit", 2 * count), ("unchanged", 0), ("one changed", 2)] {
        if what == "one changed" {
            documents[count / 2] = place.document(&format!("b{}", count / 2), spec("eu-west-1"));
        }
        let start = Instant::now();
        agent.load(&documents).await.expect("loaded");
        let loaded = start.elapsed();
        agent.settle().await;
        println!("{what}: loaded after {loaded:?}, settled after {:?}; {}", start.elapsed(), resident());
        let sent: Vec<String> =
            agent.requests.writes().into_iter().filter(|line| !line.contains("/events")).collect();
        assert_eq!(sent.len(), expected, "{what}");
    }
    let passes: usize = (0..count).map(|n| agent.passes(&format!("b{n}"))).sum();
    println!("{passes} reconciles in total");
    drop(agent);
    let start = Instant::now();
    let agent = Agent::start(&place).await;
    agent.load(&documents).await.expect("loaded");
    agent.settle().await;
    println!("restart: settled after {:?}; {}", start.elapsed(), resident());
    assert_eq!(agent.requests.writes().iter().filter(|line| !line.contains("/events")).count(), 0);
}

fn place_document(name: &str) -> Value {
    json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
        "metadata": {"name": name}, "spec": spec("us-east-1"),
    })
}
