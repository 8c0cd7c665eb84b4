//! Health, readiness and metrics of a running agent, over HTTP.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::world::{Agent, World};

/// An agent that serves HTTP, and its address.
struct Served {
    agent: Agent,
    address: String,
}

impl Served {
    fn start(world: &World) -> Self {
        let mut opsy = world.opsy();
        opsy.env("OPSY_LISTEN", "127.0.0.1:0");
        let agent = world.start(opsy);
        let address = world.logged(&world.agent_log(), "address");
        Self { agent, address }
    }

    fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(format!("http://{}{path}", self.address)).call().expect("a response");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    }

    /// Values by name and labels.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        assert!(text.ends_with("# EOF\n"));
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let value = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        lines.map(value).collect()
    }
}

#[test]
fn a_working_agent_is_alive_ready_and_measured() {
    let world = World::new();
    let served = Served::start(&world);
    let metrics = world.wait("both objects settled", || {
        let metrics = served.metrics();
        let is = |name: &str, value| metrics.get(name) == Some(&value);
        let settled = |kind| is(&format!("opsy_objects{{kind=\"{kind}\",standing=\"settled\"}}"), 1.0);
        let done = settled("PackerBuilder") && settled("AMIRefresher") && is("opsy_builds_live", 0.0);
        done.then_some(metrics)
    });
    assert_eq!(served.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(served.get("/readyz"), (200, "ok\n".to_owned()));
    for (name, value) in [
        ("opsy_leader", 1.0),
        ("opsy_builds_total{result=\"succeeded\"}", 1.0),
        ("opsy_rollouts_total{result=\"done\"}", 1.0),
        ("opsy_rollouts_open", 0.0),
        ("opsy_sync_failing", 0.0),
        ("opsy_publish_failing", 0.0),
        ("opsy_apply_failing", 0.0),
    ] {
        assert_eq!(metrics.get(name), Some(&value), "{name} in {metrics:#?}");
    }
    for name in [
        "opsy_reconcile_total{kind=\"PackerBuilder\",result=\"ok\"}",
        "opsy_reconcile_duration_seconds_count{kind=\"AMIRefresher\"}",
        "opsy_aws_calls_total{service=\"ec2\",operation=\"DescribeImages\",result=\"ok\"}",
        "opsy_sync_last_success_timestamp_seconds",
        "opsy_publish_last_success_timestamp_seconds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(metrics.get(name).is_some_and(|value| *value > 0.0), "{name} in {metrics:#?}");
    }
    bounded(&metrics);
    assert_eq!(served.agent.stop().code(), Some(0));
}

/// Asserts that labels have values from small sets: no object, image, account or error text.
fn bounded(metrics: &BTreeMap<String, f64>) {
    let labels = metrics.keys().filter_map(|name| name.split_once('{')?.1.strip_suffix('}'));
    let pairs = labels.flat_map(|labels| labels.split(',')).map(|pair| pair.split_once('=').expect("a pair"));
    let mut values = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (label, value) in pairs {
        values.entry(label).or_default().insert(value.trim_matches('"'));
    }
    let known = ["kind", "le", "operation", "result", "service", "standing", "state", "version"];
    assert!(values.keys().all(|label| known.contains(label)), "{values:#?}");
    let is_word = |value: &str| value.chars().all(|c| c.is_ascii_alphanumeric() || "._+".contains(c));
    assert!(values.values().flatten().all(|value| is_word(value) && value.len() <= 40), "{values:#?}");
    assert!(values["kind"].len() == 2 && values["standing"].len() == 5, "{values:#?}");
}

#[test]
fn throttled_calls_are_seen_although_they_are_ridden_out() {
    let world = World::new();
    world.account.fault(json!({ "kind": "throttle", "operation": "DescribeImages", "count": 2 }));
    let served = Served::start(&world);
    let name = "opsy_aws_calls_total{service=\"ec2\",operation=\"DescribeImages\",result=\"throttled\"}";
    let seen =
        world.wait("the throttled calls", || served.metrics().get(name).copied().filter(|n| *n >= 2.0));
    assert_eq!(seen, 2.0);
}

#[test]
fn a_repository_that_cannot_be_read_keeps_the_agent_alive_and_not_ready() {
    let world = World::new();
    world.push(&[("opsy.yaml", Some("agentID: [broken\n"))], "policy: break the settings");
    let served = Served::start(&world);
    let metrics = world.wait("the failure", || {
        let metrics = served.metrics();
        (metrics.get("opsy_sync_failing") == Some(&1.0)).then_some(metrics)
    });
    assert!(!metrics.contains_key("opsy_sync_last_success_timestamp_seconds"));
    assert_eq!(served.get("/healthz").0, 200);
    assert_eq!(served.get("/readyz"), (503, "no commit has been loaded yet\n".to_owned()));
}

#[test]
fn an_address_that_is_taken_is_said_at_the_start() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut opsy = world.opsy();
    let address = taken.local_addr().expect("its address").to_string();
    opsy.args(["run", "--once", "--listen", &address]);
    let outcome = crate::world::run(opsy);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains(&format!("cannot listen on {address}")), "{outcome:?}");
}
