//! The whole agent in a cluster, as a release runs it: from a push to images that Jobs build, with no more rights than
//! the chart gives it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use super::super::{Place, until};
use super::node::{Relay, plane};
use crate::bed::bed;
use crate::world::{World, fixture, run, template};

/// Deadline for each step, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// Number of builders, of which `AT_ONCE` may build at the same time.
const BUILDERS: usize = 12;
const AT_ONCE: usize = 10;

/// The whole agent in a namespace of a real cluster.
pub struct Cluster {
    pub world: World,
    pub place: Place,
    kubeconfig: PathBuf,
}

impl Cluster {
    /// An empty repository, an AWS account, and a namespace with the chart's rights. `None` without a node.
    pub async fn new() -> Option<Self> {
        let place = Place::on(plane().await?).await;
        let world = World::empty();
        place.bind_cluster_rules().await;
        let cluster = Self { kubeconfig: place.kubeconfig(world.root()).await, world, place };
        cluster.secret("aws", cluster.environment(&cluster.world.account.packers_key())).await;
        Some(cluster)
    }

    /// The variables that a build pod with this access key needs.
    pub fn environment(&self, key: &str) -> BTreeMap<String, String> {
        let endpoint = Relay::to(&bed().endpoint).url;
        let mut variables = self.world.account.env();
        variables.insert("AWS_ACCESS_KEY_ID".to_owned(), key.to_owned());
        variables
            .extend(["AWS_ENDPOINT_URL", "PKR_VAR_endpoint"].map(|name| (name.to_owned(), endpoint.clone())));
        variables
    }

    pub async fn secret(&self, name: &str, keys: BTreeMap<String, String>) {
        let secret = json!({"metadata": {"name": name}, "stringData": keys});
        let secrets: Api<Secret> = Api::namespaced(self.place.admin.clone(), &self.place.namespace);
        let secret = serde_json::from_value(secret).expect("a Secret");
        secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    }

    /// Pushes builders with these names, reconciled every second, and removes those in `gone`.
    fn push(&self, names: &[String], gone: &[String]) {
        let settings = format!(
            "{}namespace: {}\nlimits:\n  concurrentBuilds: {AT_ONCE}\n",
            fixture("opsy.yaml"),
            self.place.namespace
        );
        let builder = fixture("builders/node.yaml").replace("controllerTimer: 10s", "controllerTimer: 1s")
            + "    secret: aws\n    pod:\n      resources:\n        requests: {cpu: 10m, memory: 64Mi}\n";
        let mut files: BTreeMap<String, Option<String>> = [
            ("opsy.yaml".to_owned(), Some(settings)),
            ("packer/node/node.pkr.hcl".to_owned(), Some(template().to_owned())),
        ]
        .into();
        let path = |name: &String| format!("builders/{name}.yaml");
        for name in names {
            files.insert(path(name), Some(builder.replace("name: node", &format!("name: {name}"))));
        }
        files.extend(gone.iter().map(|name| (path(name), None)));
        let files: Vec<(&str, Option<&str>)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_deref())).collect();
        self.world.push(&files, "policy: builders");
    }

    pub fn opsy(&self, state: &str) -> Command {
        let mut opsy = self.world.opsy();
        opsy.env("OPSY_KUBECONFIG", &self.kubeconfig)
            .env("OPSY_STATE", self.world.root().join(state))
            .env("OPSY_RUNNER_IMAGE", "localhost/opsy:bed")
            .env("OPSY_PACKER_IMAGE", "localhost/packer:bed")
            .env("OPSY_LEASE_DURATION", "60s")
            .env_remove("PKR_VAR_endpoint");
        opsy
    }

    /// As `opsy`, with a short Lease, so that a successor takes over soon.
    fn mortal(&self, state: &str) -> Command {
        let mut opsy = self.opsy(state);
        opsy.env("OPSY_LEASE_DURATION", "5s");
        opsy
    }

    async fn jobs(&self) -> Vec<Job> {
        let jobs: Api<Job> = Api::namespaced(self.place.admin.clone(), &self.place.namespace);
        jobs.list(&ListParams::default()).await.expect("Jobs").items
    }

    /// Number of pods that have not ended. The status of a Job is updated only later.
    async fn building(&self) -> usize {
        let pods: Api<Pod> = Api::namespaced(self.place.admin.clone(), &self.place.namespace);
        let ended = |pod: &Pod| {
            let status = pod.status.clone().unwrap_or_default();
            let containers = status.container_statuses.unwrap_or_default();
            containers
                .iter()
                .any(|container| container.state.as_ref().is_some_and(|s| s.terminated.is_some()))
        };
        let pods = pods.list(&ListParams::default()).await.expect("pods").items;
        pods.iter().filter(|pod| !ended(pod)).count()
    }

    /// Reason of Ready of each builder.
    fn reasons(&self) -> BTreeMap<String, String> {
        let all = self.place.kubectl(&["get", "packerbuilders", "--output", "json"], "");
        let all: Value = serde_json::from_str(&all).expect("JSON");
        let reason = |builder: &Value| {
            let conditions = builder["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready =
                conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default();
            let name = builder["metadata"]["name"].as_str().expect("a name").to_owned();
            (name, ready["reason"].as_str().unwrap_or_default().to_owned())
        };
        all["items"].as_array().expect("a list").iter().map(reason).collect()
    }

    fn with_reason(&self, wanted: &str) -> usize {
        self.reasons().values().filter(|reason| *reason == wanted).count()
    }

    /// Waits for a condition. On a timeout, panics with the reasons of all builders and the end of the agent's log.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
        let start = Instant::now();
        let found = tokio::time::timeout(LIMIT, until(what, LIMIT * 2, look)).await;
        found.unwrap_or_else(|_| {
            let log = fs::read_to_string(self.world.agent_log()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            panic!("{what}: timed out after {:?}\n{:#?}\n{tail:#?}", start.elapsed(), self.reasons())
        })
    }

    pub async fn ready(&self, count: usize) {
        self.until("all builders ready", async || (self.with_reason("ImageReady") == count).then_some(()))
            .await;
    }

    /// Waits until `count` builds wait for their image.
    async fn held(&self, count: usize) {
        let made = async || (self.world.account.count("ec2:CreateImage") >= count).then_some(());
        self.until("images in progress", made).await;
    }

    /// Makes all pending images available, and holds no further ones.
    fn finish(&self) {
        self.world.account.clear_faults();
        self.world.account.finish_images();
    }
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("node-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_becomes_an_image_and_its_log_can_be_read() {
    let Some(cluster) = Cluster::new().await else { return };
    cluster.world.account.hold_images(1);
    cluster.push(&names(1), &[]);
    let _agent = cluster.world.start(cluster.opsy("state"));
    cluster.held(1).await;
    // A person reads the log with their own kubeconfig, because the agent may not.
    let person = cluster.place.plane.address("kubeconfig").as_str().expect("a path");
    // The kubelet reports the start of Packer with a delay.
    let log = async || {
        let mut logs = cluster.opsy("state");
        logs.args(["logs", "pb/node-1", "--kubeconfig", person, "--namespace", &cluster.place.namespace]);
        let said = run(logs);
        (said.status.success() && said.stdout.contains("amazon-ebs.node")).then_some(())
    };
    cluster.until("Packer's log", log).await;
    cluster.finish();
    cluster.ready(1).await;
    let image = cluster.world.active_image().expect("one active image");
    let shown = cluster.place.kubectl(&["get", "pb", "node-1"], "");
    assert!(shown.contains(&image) && shown.contains("ImageReady"), "{shown}");
    let told = cluster.place.kubectl(&["describe", "pb", "node-1"], "");
    for reason in ["BuildStarted", "ImageActive", "BuildSucceeded"] {
        assert!(told.contains(reason), "{reason} is not among the events of\n{told}");
    }
    cluster.until("the end of the Job", async || cluster.jobs().await.is_empty().then_some(())).await;
    assert_eq!(cluster.world.account.orphans(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_builds_at_once_are_all_supervised_and_no_more_than_allowed() {
    let Some(cluster) = Cluster::new().await else { return };
    cluster.world.account.hold_images(AT_ONCE);
    cluster.push(&names(BUILDERS), &[]);
    let _agent = cluster.world.start(cluster.opsy("state"));
    cluster.held(AT_ONCE).await;
    let waiting = BUILDERS - AT_ONCE;
    cluster
        .until("the others to wait", async || {
            (cluster.with_reason("ConcurrencyLimit") == waiting).then_some(())
        })
        .await;
    assert_eq!(cluster.jobs().await.len(), AT_ONCE);
    cluster.finish();
    cluster
        .until("all images", async || {
            let at_once = cluster.building().await;
            assert!(at_once <= AT_ONCE, "{at_once} at once");
            (cluster.with_reason("ImageReady") == BUILDERS).then_some(())
        })
        .await;
    let active = cluster.world.our_images().into_iter().filter(|(_, status)| status == "active").count();
    assert_eq!((active, cluster.world.our_images().len()), (BUILDERS, BUILDERS), "one image each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_deleted_in_the_middle_of_its_build_cleans_up_and_goes() {
    let Some(cluster) = Cluster::new().await else { return };
    cluster.world.account.hold_images(2);
    cluster.push(&names(2), &[]);
    let _agent = cluster.world.start(cluster.opsy("state"));
    cluster.held(2).await;
    cluster.push(&names(1), &["node-2".to_owned()]);
    cluster.until("the end of the builder", async || (cluster.reasons().len() == 1).then_some(())).await;
    cluster.until("the end of its Job", async || (cluster.jobs().await.len() == 1).then_some(())).await;
    cluster.finish();
    cluster.ready(1).await;
    cluster
        .until("the orphans to be removed", async || {
            let images = cluster.world.our_images().len();
            (cluster.world.account.orphans().is_empty() && images == 1).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_during_a_build_is_succeeded_by_another() {
    let Some(cluster) = Cluster::new().await else { return };
    cluster.world.account.hold_images(1);
    cluster.push(&names(1), &[]);
    let first = cluster.world.start(cluster.mortal("first"));
    cluster.held(1).await;
    let _second = cluster.world.start(cluster.mortal("second"));
    first.kill();
    cluster.finish();
    cluster.ready(1).await;
    assert_eq!(cluster.world.our_images().len(), 1, "one build, one image");
    assert_eq!(cluster.world.account.count("ec2:RunInstances"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_pod_is_gone_before_anybody_read_its_result_is_found_by_its_tag() {
    let Some(cluster) = Cluster::new().await else { return };
    cluster.world.account.hold_images(1);
    cluster.push(&names(1), &[]);
    let first = cluster.world.start(cluster.mortal("first"));
    cluster.held(1).await;
    first.kill();
    cluster.finish();
    cluster.until("the pod's end", async || (cluster.building().await == 0).then_some(())).await;
    cluster.place.kubectl(&["delete", "pods", "--all"], "");
    let _second = cluster.world.start(cluster.mortal("second"));
    cluster.ready(1).await;
    assert_eq!(cluster.world.our_images().len(), 1);
    assert_eq!(cluster.world.account.count("ec2:RunInstances"), 1, "it is not built again");
    let last =
        cluster.place.kubectl(&["get", "pb", "node-1", "-o", "jsonpath={.status.history[0].result}"], "");
    assert_eq!(last, "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_waits_for_is_told_in_the_status_of_its_builder() {
    let Some(cluster) = Cluster::new().await else { return };
    cluster.push(&names(2), &[]);
    cluster.world.edit("builders/node-1.yaml", "secret: aws", "secret: nowhere", "policy: a wrong Secret");
    let image = "secret: aws\n    image: localhost/nowhere:1";
    cluster.world.edit("builders/node-2.yaml", "secret: aws", image, "policy: a wrong image");
    let _agent = cluster.world.start(cluster.opsy("state"));
    cluster.until("both builders", async || (cluster.reasons().len() == 2).then_some(())).await;
    for (name, words) in [("node-1", "secret \"nowhere\" not found"), ("node-2", "localhost/nowhere:1")] {
        let told = async || {
            let messages = "jsonpath={.status.conditions[*].message}";
            let said = cluster.place.kubectl(&["get", "pb", name, "-o", messages], "");
            said.contains(words).then_some(())
        };
        cluster.until(words, told).await;
    }
    // The missing Secret is created, and the build continues.
    let aws = cluster.place.kubectl(&["get", "secret", "aws", "-o", "json"], "");
    let mut secret: Value = serde_json::from_str(&aws).expect("JSON");
    secret["metadata"] = json!({"name": "nowhere"});
    cluster.place.kubectl(&["apply", "-f", "-"], &secret.to_string());
    cluster.ready(1).await;
}
