//! Rollouts by the real program in the cluster whose nodes it updates. The emulated EKS, or a termination handler, drains
//! Node objects of a real API server through the Eviction API, a real budget refuses an eviction, and the agent reads all
//! of it with the chart's own rules.

mod refreshes;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::replicas::{Replica, Replicas, blocking};

/// Emulated seconds per second while a drain hangs, so that EKS does not give up before it is reported.
const SLOW: u32 = 5;
const FAST: u32 = 60;
/// A self-managed group. The user data of its nodes sets a label.
const OWN: &str = "workers";
const OWN_LABEL: &str = "opsybed/pool";
/// The tag of an Auto Scaling group that repeats a label of its nodes.
const LABEL_TAG: &str = "k8s.io/cluster-autoscaler/node-template/label/";

/// A cluster with the seeded node groups, a workload on one group whose budget lets no pod be evicted, and an agent.
struct Drains {
    replicas: Replicas,
    /// The group of the workload, and its nodes before the rollout.
    group: &'static str,
    before: BTreeSet<String>,
    pods: BTreeSet<String>,
}

impl Drop for Drains {
    fn drop(&mut self) {
        self.replicas.world.account.delete("connect-cluster", json!({}));
    }
}

impl Drains {
    /// The workload has one pod per node of the group.
    fn connect(replicas: Replicas, group: &'static str, count: usize) -> Self {
        let address = |key: &str| replicas.place.plane.address(key).clone();
        // Other tests share the API server: their pods are not scheduled to these nodes.
        let taint = json!({"key": "opsybed/test", "value": replicas.place.namespace, "effect": "NoSchedule"});
        replicas.world.account.post(
            "connect-cluster",
            json!({
                "server": address("server"), "ca": address("ca"), "token": address("token"), "taints": [taint],
                "termination_handler": group == OWN,
            }),
        );
        let mut drains = Self { replicas, group, before: BTreeSet::new(), pods: BTreeSet::new() };
        drains.deploy(count);
        drains.before = drains.nodes(group).iter().map(name).collect();
        drains.pods = drains.pods_now();
        assert_eq!((drains.before.len(), drains.pods.len()), (count, count));
        drains
    }

    /// A label that only the nodes of a group have. Other tests share the API server.
    fn label(&self, group: &str) -> (&'static str, String) {
        match group {
            OWN => (OWN_LABEL, self.replicas.place.namespace.clone()),
            managed => ("eks.amazonaws.com/nodegroup", managed.to_owned()),
        }
    }

    fn deploy(&self, count: usize) {
        let place = &self.replicas.place;
        let labels = json!({"app": "api"});
        let toleration = json!({"key": "opsybed/test", "value": place.namespace});
        let (label, value) = self.label(self.group);
        let pod = json!({
            "nodeSelector": {label: value}, "tolerations": [toleration],
            "containers": [{"name": "main", "image": "localhost/none:1"}], "automountServiceAccountToken": false,
        });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"},
            "spec": {
                "replicas": count, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        });
        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "api"},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": labels}},
        });
        for object in [deployment, budget] {
            place.kubectl(&["apply", "-f", "-"], &object.to_string());
        }
        for condition in [("readyReplicas", "deployment/api"), ("currentHealthy", "pdb/api")] {
            let holds = format!("--for=jsonpath={{.status.{}}}={count}", condition.0);
            place.kubectl(&["wait", "--timeout=60s", &holds, condition.1], "");
        }
    }

    /// Lets one pod be evicted at a time.
    fn relax_budget(&self) {
        let patch = ["patch", "pdb", "api", "--type=merge", "-p", r#"{"spec": {"maxUnavailable": 1}}"#];
        self.replicas.place.kubectl(&patch, "");
    }

    /// Starts an agent with a refresher of group `batch` and that of the workload, whose target is the returned image.
    fn roll_out(&self, rollout: &Value) -> (Replica, String) {
        self.roll_out_with(json!({"rollout": rollout}))
    }

    /// As `roll_out`, with these fields of the spec.
    fn roll_out_with(&self, fields: Value) -> (Replica, String) {
        let world = &self.replicas.world;
        let image = world.seed["base_images"]["v20260801"].as_str().expect("an image").to_owned();
        let mut refresher = json!({
            "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "AMIRefresher", "metadata": {"name": "demo"},
            "spec": {
                "region": "us-east-1", "clusterName": "demo", "ami": image,
                "nodeGroups": {"include": ["batch", self.group], "selfManaged": self.group == OWN},
            },
        });
        let Value::Object(fields) = fields else { panic!("the fields are an object") };
        refresher["spec"].as_object_mut().expect("a spec").extend(fields);
        world.push(&[("demo.yaml", Some(refresher.to_string().as_str()))], "policy: roll out");
        let agent = self.replicas.start_with("agent", &[("OPSY_LEASE_DURATION", "60s")]);
        self.replicas.works(&agent);
        (agent, image)
    }

    fn speed(&self, speed: u32) {
        self.replicas.world.account.post("clock", json!({"speed": speed}));
    }

    fn get(&self, args: &[&str]) -> Value {
        let all = self.replicas.place.kubectl(&[&["get", "-o", "json"], args].concat(), "");
        serde_json::from_str(&all).expect("JSON")
    }

    /// The nodes of a group of this account.
    fn nodes(&self, group: &str) -> Vec<Value> {
        let (label, value) = self.label(group);
        let nodes = self.get(&["nodes", "-l", &format!("{label}={value}")]);
        let account = &self.replicas.world.account.id;
        let is_ours = |node: &&Value| {
            node["metadata"]["annotations"]["opsybed/cluster"]
                .as_str()
                .is_some_and(|owner| owner.starts_with(account))
        };
        nodes["items"].as_array().expect("a list").iter().filter(is_ours).cloned().collect()
    }

    /// The images of the nodes of a managed group, as EKS labels them.
    fn images(&self, group: &str) -> Vec<Value> {
        let nodes = self.nodes(group);
        nodes
            .iter()
            .map(|node| node["metadata"]["labels"]["eks.amazonaws.com/nodegroup-image"].clone())
            .collect()
    }

    fn pods_now(&self) -> BTreeSet<String> {
        let pods = self.get(&["pods", "-l", "app=api"]);
        pods["items"].as_array().expect("a list").iter().map(name).collect()
    }

    fn status(&self) -> Value {
        self.get(&["ar", "demo"])["status"].clone()
    }

    /// Reason and message of the condition Ready.
    fn ready(&self) -> (String, String) {
        let status = self.status();
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().find(|found| found["type"] == "Ready");
        let text = |key: &str| ready.and_then(|ready| ready[key].as_str()).unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    /// The row of a group in the status.
    fn row(&self, group: &str) -> Value {
        let status = self.status();
        let rows = status["nodeGroups"].as_array().into_iter().flatten();
        rows.into_iter().find(|row| row["name"] == group).cloned().unwrap_or_default()
    }

    /// The messages of all Events with this reason.
    fn events(&self, reason: &str) -> Vec<String> {
        let events = self.get(&["events", "--field-selector", &format!("reason={reason}")]);
        let events = events["items"].as_array().expect("a list").iter();
        events.filter_map(|event| event["message"].as_str()).map(str::to_owned).collect()
    }

    /// Whether a text names the budget and at least this many of its pods.
    fn names(&self, text: &str, count: usize) -> bool {
        let namespace = &self.replicas.place.namespace;
        let budget = format!("PodDisruptionBudget {namespace}/api allows no disruption of pod");
        let named = self.pods.iter().filter(|pod| text.contains(&format!("{namespace}/{pod}")));
        text.contains(&budget) && named.count() >= count
    }

    /// Waits until the update that hangs names the budget and this many of its pods everywhere, and evicted none.
    fn until_named(&self, count: usize) {
        self.until("the hanging update to name the budget and the pods", || {
            let row = self.row(self.group);
            row["state"] == "Updating"
                && row["reason"].as_str().is_some_and(|reason| self.names(reason, count))
        });
        let (reason, message) = self.ready();
        assert!(reason == "RollingOut" && self.names(&message, count), "{reason}: {message}");
        let blocked = self.events("UpdateBlocked");
        let begins = format!("the update of {} is blocked", self.group);
        assert!(
            blocked.len() == 1 && blocked[0].starts_with(&begins) && self.names(&blocked[0], count),
            "{blocked:?}"
        );
        assert_eq!(self.pods_now(), self.pods, "no pod was evicted");
    }

    /// Asserts that the last rollout failed on the group of the workload for this reason, that it was rolled back, and
    /// that a reconcile starts nothing more: the image is held.
    fn assert_held(&self, image: &str, reason: &str) {
        let status = self.status();
        let results = |at: usize| status["history"][at]["result"].as_str().unwrap_or_default();
        assert_eq!([results(0), results(1)], ["RolledBack", "Failed"]);
        let failures = status["history"][1]["failures"].to_string();
        let begins = format!("[\"{}: ", self.group);
        assert!(failures.starts_with(&begins) && failures.contains(reason), "{failures}");
        assert_eq!(
            (status["held"].as_array().map(Vec::len), &status["held"][0]["ami"]),
            (Some(1), &json!(image))
        );
        let writes = self.replicas.world.account.writes();
        self.replicas.place.kubectl(&["annotate", "ar", "demo", "ami.opsy.dev/reconcileAt=now"], "");
        self.until("the reconcile", || self.status()["lastHandledReconcileAt"] == "now");
        assert_eq!((self.ready().0, self.replicas.world.account.writes()), ("ImageHeld".to_owned(), writes));
    }

    /// The groups in the order in which EKS was asked to update them.
    fn started(&self) -> Vec<String> {
        let journal = self.replicas.world.account.journal();
        let started = journal.iter().filter(|entry| entry["operation"] == "UpdateNodegroupVersion");
        started.filter_map(|entry| entry["params"]["nodegroupName"].as_str()).map(str::to_owned).collect()
    }

    fn version(&self, group: &str) -> Value {
        let state = self.replicas.world.account.state();
        let groups = state["node_groups"].as_array().expect("groups").iter();
        groups
            .filter(|found| found["name"] == group)
            .map(|found| found["launch_template"]["version"].clone())
            .collect()
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        self.replicas.world.wait(what, || holds().then_some(()));
    }

    /// The budget is named before the update of the group starts, and the drain then finds that it refuses the eviction.
    fn until_refused(&self) {
        let before = format!("before the update of {}: ", self.group);
        self.until("the budget to be named before the update", || {
            self.events("Preflight")
                .iter()
                .any(|event| event.starts_with(&before) && self.names(event, self.pods.len()))
        });
        self.until("the eviction to be refused", || {
            let nodes = self.replicas.world.account.look("nodes");
            nodes.to_string().contains("disruption budget")
        });
    }

    /// A node of `web` that the update knows nothing of, with its own condition Ready.
    fn set_straggler(&self, image: &str, is_ready: bool) {
        let template = self.replicas.world.seed["node_groups"]["web"]["launch_template"]["id"].clone();
        let ready = json!([{"type": "Ready", "status": if is_ready { "True" } else { "False" }, "reason": "Kubelet"}]);
        let labels = json!({
            "eks.amazonaws.com/nodegroup": "web", "eks.amazonaws.com/nodegroup-image": image,
            "eks.amazonaws.com/sourceLaunchTemplateId": template,
        });
        let name = self.straggler();
        if is_ready {
            let status = json!({"status": {"conditions": ready}}).to_string();
            let patch = ["patch", "node", &name, "--subresource=status", "--type=merge", "-p", &status];
            self.replicas.place.kubectl(&patch, "");
        } else {
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
                "status": {"conditions": ready},
            });
            self.replicas.place.kubectl(&["create", "-f", "-"], &node.to_string());
        }
    }

    fn straggler(&self) -> String {
        format!("{}-straggler", self.replicas.place.namespace)
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().expect("a name").to_owned()
}

async fn replicas() -> Replicas {
    let replicas = Replicas::of("", &[]).await;
    replicas.place.bind_node_rules().await;
    replicas
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_holds_a_drain_up_is_named_until_it_is_relaxed_and_the_next_group_waits_for_ready_nodes()
 {
    let replicas = replicas().await;
    blocking(move || {
        let drains = Drains::connect(replicas, "web", 2);
        let waves =
            json!([{"name": "first", "nodeGroups": ["web"]}, {"name": "then", "nodeGroups": ["batch"]}]);
        let (_agent, image) = drains.roll_out(&json!({"waves": waves}));
        drains.until_refused();
        drains.speed(SLOW);
        drains.until_named(2);

        drains.set_straggler(&image, false);
        drains.relax_budget();
        drains.speed(FAST);
        drains.until("the group to wait for its nodes", || {
            let (_, message) = drains.ready();
            message.contains("web is updated, and waits for its nodes")
                && message.contains(&drains.straggler())
        });
        assert_eq!(drains.started(), ["web"]);
        drains.until("the next group to start when all nodes are Ready", || {
            drains.set_straggler(&image, true);
            drains.started() == ["web", "batch"]
        });
        drains.until("the end of the rollout", || drains.ready().0 == "UpToDate");
        assert_eq!(
            (drains.images("web"), drains.images("batch")),
            (vec![json!(image); 2], vec![json!(image)])
        );
        let after: BTreeSet<String> = drains.nodes("web").iter().map(name).collect();
        assert!(after.is_disjoint(&drains.before), "every node was replaced: {after:?}");
        assert!(drains.pods_now().is_disjoint(&drains.pods), "every pod was evicted");
        drains.replicas.place.kubectl(&["delete", "node", &drains.straggler()], "");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_a_budget_prevents_fails_the_rollout_which_is_rolled_back() {
    let replicas = replicas().await;
    blocking(move || {
        let drains = Drains::connect(replicas, "web", 2);
        let initial = drains.replicas.world.seed["initial_image"].clone();
        let versions = (drains.version("batch"), drains.version("web"));
        let waves =
            json!([{"name": "canary", "nodeGroups": ["batch"]}, {"name": "prod", "nodeGroups": ["web"]}]);
        let (_agent, image) = drains.roll_out(&json!({"waves": waves, "onFailure": "Rollback"}));
        drains.until_refused();
        assert_eq!(drains.images("batch"), [json!(image)]);
        drains.speed(FAST);
        drains.until("the image to be held", || drains.ready().0 == "ImageHeld");

        assert_eq!(drains.started(), ["batch", "web", "batch"]);
        assert_eq!((drains.version("batch"), drains.version("web")), versions);
        assert_eq!(drains.images("batch"), [initial]);
        drains.until("the nodes of the failed group to be as they were", || {
            let nodes = drains.nodes("web");
            let names: BTreeSet<String> = nodes.iter().map(name).collect();
            names == drains.before && nodes.iter().all(|node| node["spec"]["unschedulable"].is_null())
        });
        assert_eq!(drains.pods_now(), drains.pods, "no pod was evicted");
        drains.assert_held(&image, "PodEvictionFailure");
    })
    .await;
}
