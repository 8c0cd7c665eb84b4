//! Rollouts in the cluster in which the agent runs: real nodes, pods and PodDisruptionBudgets of a real API server, read
//! with the chart's own rules, and the emulated EKS. There is no kubelet, so the tests set what one would report.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use opsy::api::{AMIRefresherStatus, Class};
use opsy::engine::kubernetes::nodes::ClusterNodes;
use opsy::engine::nodes::Nodes as _;
use opsy::engine::{ObjectHealth, Pass};
use serde_json::{Value, json};

use super::{Place, Requests, SOON, until};
use crate::refresher::{Rolling, names, reason};

/// Nodes per group.
const NODES: usize = 2;
/// The rollout of three groups ends within this many reconciles.
const RECONCILES: usize = 300;

/// A rollout of the seeded groups, whose nodes are in a real cluster.
struct Nodes {
    rolling: Rolling,
    place: Place,
    requests: Requests,
    passes: Vec<Pass<AMIRefresherStatus>>,
    /// Whether the nodes of a group follow its image as soon as EKS shows it.
    joins: BTreeSet<String>,
}

const GROUPS: [&str; 3] = ["batch", "system", "web"];

impl Nodes {
    /// `own` is the group whose first node hosts the agent.
    async fn new(rollout: Value, own: Option<&str>) -> Self {
        Self::in_place(Place::new().await, rollout, own, true).await
    }

    async fn in_place(place: Place, rollout: Value, own: Option<&str>, may_read: bool) -> Self {
        let mut rolling = Rolling::new(json!({ "rollout": rollout })).await;
        rolling.object.spec.ami = Some(rolling.image());
        if may_read {
            place.bind_node_rules().await;
        }
        let (cluster, requests) = place.cluster(place.scope()).await;
        let own_node = own.map(|group| format!("{}-{group}-0", place.namespace));
        rolling.context.nodes = Some(Arc::new(ClusterNodes::new(&cluster, own_node, None)));
        let joins = GROUPS.map(str::to_owned).into();
        let nodes = Self { rolling, place, requests, passes: Vec::new(), joins };
        for group in GROUPS {
            for number in 0..NODES {
                nodes.create_node(group, number).await;
            }
        }
        nodes
    }

    fn node(&self, group: &str, number: usize) -> String {
        format!("{}-{group}-{number}", self.place.namespace)
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.place.admin.clone())
    }

    async fn create_node(&self, group: &str, number: usize) {
        let template = &self.rolling.seed["node_groups"][group]["launch_template"]["id"];
        let labels = json!({
            "eks.amazonaws.com/nodegroup": group,
            "eks.amazonaws.com/nodegroup-image": self.rolling.seed["initial_image"],
            "eks.amazonaws.com/sourceLaunchTemplateId": template,
        });
        let name = self.node(group, number);
        let node =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).expect("a node");
        self.api().create(&PostParams::default(), &node).await.expect("a node");
        self.set_ready(&name, true).await;
    }

    async fn set_ready(&self, node: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let reason = if ready { "KubeletReady" } else { "KubeletNotReady" };
        let conditions = json!([{"type": "Ready", "status": status, "reason": reason}]);
        let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
        self.api().patch_status(node, &PatchParams::default(), &patch).await.expect("a status");
    }

    /// Replaces the image of a node, as EKS labels its successor.
    async fn set_image(&self, node: &str, image: &str) {
        let labels = json!({"eks.amazonaws.com/nodegroup-image": image});
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        self.api().patch(node, &PatchParams::default(), &patch).await.expect("a label");
    }

    /// The nodes of a group run its image, as it is in EKS.
    async fn join(&self, group: &str) {
        let state = self.rolling.account.state();
        let groups = state["node_groups"].as_array().expect("groups");
        let release =
            groups.iter().find(|found| found["name"] == group).map(|found| &found["release_version"]);
        let image = release.and_then(Value::as_str).expect("an image");
        for number in 0..NODES {
            let node = self.node(group, number);
            self.set_image(&node, image).await;
            self.set_ready(&node, true).await;
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.place.admin.clone(), &self.place.namespace)
    }

    /// A running pod on a node. There is no kubelet, so its status is set.
    async fn create_pod(&self, name: &str, node: &str, metadata: Value) {
        let mut object = json!({
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "localhost/none:1"}]},
        });
        object["metadata"]
            .as_object_mut()
            .expect("fields")
            .extend(metadata.as_object().expect("fields").clone());
        let pod = serde_json::from_value(object).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("a pod");
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let patch = Patch::Merge(json!({"status": {"phase": "Running", "conditions": ready}}));
        self.pods().patch_status(name, &PatchParams::default(), &patch).await.expect("a status");
    }

    /// A budget that allows no disruption of a pod, as the disruption controller finds.
    async fn create_budget(&self, app: &str) {
        let budgets: Api<PodDisruptionBudget> =
            Api::namespaced(self.place.admin.clone(), &self.place.namespace);
        let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": app}}});
        let budget =
            serde_json::from_value(json!({"metadata": {"name": app}, "spec": spec})).expect("a budget");
        budgets.create(&PostParams::default(), &budget).await.expect("a budget");
        until("the budget to count the pod", SOON, async || {
            let status = budgets.get(app).await.expect("a budget").status?;
            (status.current_healthy == 1 && status.disruptions_allowed == 0).then_some(())
        })
        .await;
    }

    async fn delete_budget(&self, app: &str) {
        let budgets: Api<PodDisruptionBudget> =
            Api::namespaced(self.place.admin.clone(), &self.place.namespace);
        budgets.delete(app, &DeleteParams::default()).await.expect("it is deleted");
    }

    /// Reconciles until the condition holds; the clocks advance by the time that each reconcile requests.
    async fn until(&mut self, what: &str, holds: impl Fn(&Pass<AMIRefresherStatus>) -> bool) {
        for _ in 0..RECONCILES {
            let pass = self.rolling.pass().await;
            self.passes.push(pass.clone());
            if holds(&pass) {
                return;
            }
            self.rolling.step(pass.look.as_secs().max(1));
            for group in self.joins.clone() {
                self.join(&group).await;
            }
        }
        panic!("never {what}: {:#?}", self.rolling.object.status);
    }

    async fn settle(&mut self) {
        self.until("settled", |pass| pass.health == ObjectHealth::Settled).await;
    }

    fn last(&self) -> (String, String) {
        reason(self.passes.last().expect("a reconcile"))
    }

    /// The messages of all Events with this reason.
    fn events(&self, reason: &str) -> Vec<String> {
        let notes = self.passes.iter().flat_map(|pass| &pass.notes);
        notes.filter(|note| note.reason == reason).map(|note| note.message.clone()).collect()
    }

    /// The groups in the order in which EKS was asked to update them.
    fn started(&self) -> Vec<String> {
        let journal = self.rolling.account.journal();
        let started = journal.iter().filter(|entry| entry["operation"] == "UpdateNodegroupVersion");
        started.filter_map(|entry| entry["params"]["nodegroupName"].as_str()).map(str::to_owned).collect()
    }
}

fn held(place: &Place) -> String {
    format!(
        "PodDisruptionBudget {0}/api allows no disruption of pod {0}/api; pod {0}/api has no controller that would \
         recreate it elsewhere",
        place.namespace
    )
}

#[tokio::test]
async fn a_budget_and_a_bare_pod_are_named_before_the_update_starts() {
    let mut nodes = Nodes::new(json!({}), None).await;
    nodes.create_pod("api", &nodes.node("system", 1), json!({})).await;
    nodes.create_budget("api").await;
    let annotations = json!({"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}});
    nodes.create_pod("quiet", &nodes.node("web", 0), annotations).await;
    nodes.settle().await;
    let namespace = &nodes.place.namespace;
    let quiet = format!(
        "before the update of web: pod {namespace}/quiet has no controller that would recreate it elsewhere; pod \
         {namespace}/quiet has the annotation cluster-autoscaler.kubernetes.io/safe-to-evict, but is evicted anyway"
    );
    let expected = [format!("before the update of system: {}", held(&nodes.place)), quiet];
    assert_eq!(nodes.events("Preflight"), expected);
    let is_of = |pass: &Pass<AMIRefresherStatus>, word: &str| {
        pass.notes.iter().any(|note| note.reason == word && note.message.contains("system"))
    };
    let first = |word: &str| nodes.passes.iter().position(|pass| is_of(pass, word)).expect("it was reported");
    assert!(first("Preflight") < first("Waiting"));
    assert_eq!(nodes.rolling.on(&nodes.rolling.image()), names(&GROUPS));
    assert_eq!(nodes.requests.denied(), 0);
}

#[tokio::test]
async fn a_budget_holds_the_start_back_until_it_allows_a_disruption() {
    let mut nodes = Nodes::new(json!({"preflight": "Block"}), None).await;
    nodes.create_pod("api", &nodes.node("batch", 0), json!({})).await;
    nodes.create_budget("api").await;
    nodes.until("held", |pass| reason(pass).0 == "PreflightFailed").await;
    let expected = format!("batch is not updated (rollout.preflight is Block): {}", held(&nodes.place));
    assert_eq!(nodes.last().1, expected);
    assert_eq!(nodes.started(), ["system", "web"], "other groups go on");
    nodes.delete_budget("api").await;
    let pass = nodes.rolling.pass().await;
    assert!(reason(&pass).1.contains("has no controller") && !reason(&pass).1.contains("Budget"));
    nodes.pods().delete("api", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    nodes.settle().await;
    assert_eq!(
        (nodes.started(), nodes.events("PreflightFailed")),
        (names_in_order(["system", "web", "batch"]), vec![expected])
    );
}

fn names_in_order<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).into()
}

#[tokio::test]
async fn the_group_of_the_agents_node_is_updated_last() {
    let mut nodes = Nodes::new(json!({}), Some("batch")).await;
    nodes.settle().await;
    assert_eq!(nodes.started(), ["system", "web", "batch"]);
}

#[tokio::test]
async fn a_group_whose_node_hosts_a_build_waits_for_its_end() {
    let mut nodes = Nodes::new(json!({}), None).await;
    let labels = json!({"labels": {
        "app.kubernetes.io/managed-by": "opsy", "ami.opsy.dev/run": "base-1", "ami.opsy.dev/builder": "base",
    }});
    nodes.create_pod("build", &nodes.node("batch", 1), labels.clone()).await;
    // A pod in another namespace does not belong to a build of this agent.
    let other = format!("{}-x", nodes.place.namespace);
    nodes.place.create_namespace(&other).await;
    let mut pod = json!({
        "metadata": {"name": "fake"},
        "spec": {"nodeName": nodes.node("web", 0), "containers": [{"name": "main", "image": "localhost/none:1"}]},
    });
    pod["metadata"].as_object_mut().expect("fields").extend(labels.as_object().expect("fields").clone());
    let fakes: Api<Pod> = Api::namespaced(nodes.place.admin.clone(), &other);
    let pod = serde_json::from_value(pod).expect("a pod");
    fakes.create(&PostParams::default(), &pod).await.expect("a pod");

    nodes.until("held", |pass| reason(pass).0 == "WaitingForBuild").await;
    let expected = format!(
        "batch hosts a build of {}/base: its update starts when the build has ended",
        nodes.place.namespace
    );
    assert_eq!((nodes.last().1, nodes.started()), (expected, names_in_order(["system", "web"])));
    let ended = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    nodes.pods().patch_status("build", &PatchParams::default(), &ended).await.expect("a status");
    nodes.settle().await;
    assert_eq!(nodes.started(), ["system", "web", "batch"]);
}

#[tokio::test]
async fn the_next_group_waits_for_the_nodes_of_the_last_one() {
    let mut nodes = Nodes::new(json!({}), None).await;
    nodes.joins.clear();
    nodes.until("waiting for nodes", |pass| reason(pass).1.contains("waits for its nodes")).await;
    let message = nodes.last().1;
    assert!(message.contains(&format!("0 of 2 nodes are Ready on {}", nodes.rolling.image())), "{message}");
    let image = nodes.rolling.image();
    nodes.set_image(&nodes.node("batch", 0), &image).await;
    nodes.set_image(&nodes.node("batch", 1), &image).await;
    nodes.set_ready(&nodes.node("batch", 1), false).await;
    nodes.rolling.step(20);
    let pass = nodes.rolling.pass().await;
    let unready = format!(
        "1 of 2 nodes are Ready on {image} ({} is not Ready (KubeletNotReady))",
        nodes.node("batch", 1)
    );
    assert!(reason(&pass).1.contains(&unready), "{:?}", reason(&pass));
    assert_eq!(nodes.started(), ["batch"]);
    nodes.set_ready(&nodes.node("batch", 1), true).await;
    nodes.joins = GROUPS.map(str::to_owned).into();
    nodes.settle().await;
    assert_eq!(nodes.started(), GROUPS);
}

#[tokio::test]
async fn nodes_that_never_become_ready_fail_the_rollout() {
    let mut nodes = Nodes::new(json!({"healthCheck": {"nodesReadyWithin": "15m"}}), None).await;
    nodes.joins.remove("system");
    nodes.until("failed", |pass| pass.health == ObjectHealth::Stalled).await;
    let (why, message) = nodes.last();
    let expected = format!(
        "its nodes were not ready within 15m: 0 of 2 nodes are Ready on {} ({} runs {}",
        nodes.rolling.image(),
        nodes.node("system", 0),
        nodes.rolling.seed["initial_image"].as_str().expect("an id")
    );
    assert!(why == "UpdateFailed" && message.contains(&expected), "{why}: {message}");
    assert_eq!(nodes.started(), ["batch", "system"]);
    let status = nodes.rolling.object.status.clone().expect("a status");
    assert_eq!(status.last_run_status.as_deref(), Some("Failed"));
}

#[tokio::test]
async fn without_the_permission_it_is_reported_once_and_the_rollout_goes_on() {
    let mut nodes = Nodes::in_place(Place::new().await, json!({}), Some("batch"), false).await;
    nodes.joins.clear();
    nodes.settle().await;
    let reported = nodes.events("NodesUnreadable");
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(
        reported[0].contains("the agent may not list nodes of the cluster")
            && reported[0].contains("rbac.nodes"),
        "{reported:?}"
    );
    assert_eq!(nodes.started(), GROUPS, "where the agent runs is not known");
    assert!(nodes.requests.denied() > 0);
}

#[tokio::test]
async fn the_nodes_of_another_cluster_have_no_effect() {
    let mut nodes = Nodes::new(json!({"preflight": "Block"}), Some("batch")).await;
    nodes.create_pod("api", &nodes.node("batch", 0), json!({})).await;
    for group in GROUPS {
        for number in 0..NODES {
            let labels = json!({"eks.amazonaws.com/sourceLaunchTemplateId": "lt-0123456789abcdef0"});
            let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
            let node = nodes.node(group, number);
            nodes.api().patch(&node, &PatchParams::default(), &patch).await.expect("a label");
        }
    }
    nodes.joins.clear();
    nodes.settle().await;
    assert_eq!((nodes.started(), nodes.events("Preflight")), (names_in_order(GROUPS), Vec::new()));
    let status = nodes.rolling.object.status.clone().expect("a status");
    let groups = status.rollout.expect("a rollout").groups.unwrap_or_default();
    assert!(groups.len() == 3 && groups.iter().all(|group| group.nodes.is_none()), "{groups:#?}");
}

#[tokio::test]
async fn nodes_are_read_only_around_the_update_of_a_group() {
    let mut nodes = Nodes::new(json!({}), None).await;
    nodes.settle().await;
    let requests = nodes.requests.all();
    let count = |part: &str| requests.iter().filter(|line| line.contains(part)).count();
    // Of each group: once before the rollout or its turn, and once after its update.
    assert!(count("/nodes?") <= 3 * GROUPS.len(), "{requests:#?}");
    let all_pods = |line: &&String| line.contains("/pods?") && !line.contains("labelSelector");
    assert_eq!(requests.iter().filter(all_pods).count(), GROUPS.len(), "{requests:#?}");
    assert_eq!(count("/poddisruptionbudgets?"), GROUPS.len());
    assert!(
        requests.iter().all(|line| line.starts_with("GET ") && !line.contains("watch=")),
        "{requests:#?}"
    );
    nodes.rolling.step(600);
    nodes.rolling.pass().await;
    assert_eq!(nodes.requests.all(), Vec::<String>::new(), "nothing is read for a refresher at rest");
}

#[tokio::test]
async fn nodes_are_found_by_the_instances_that_they_run_on() {
    let place = Place::new().await;
    place.bind_node_rules().await;
    let node = |name: &str, instance: &str, labels: Value| {
        let metadata = json!({"name": format!("{}-{name}", place.namespace), "labels": labels});
        let spec = json!({"providerID": format!("aws:///us-east-1a/{instance}")});
        serde_json::from_value::<Node>(json!({"metadata": metadata, "spec": spec})).expect("a node")
    };
    // Instance IDs are unique among all tests that share the API server.
    let unique = place.namespace.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let id = |number: usize| format!("i-{unique}{number}");
    let api: Api<Node> = Api::all(place.admin.clone());
    let managed = json!({"eks.amazonaws.com/nodegroup": "web"});
    for (name, instance, labels) in
        [("a", id(0), json!({})), ("b", id(1), json!({})), ("c", id(2), json!({})), ("d", id(1), managed)]
    {
        api.create(&PostParams::default(), &node(name, &instance, labels)).await.expect("a node");
    }
    let (cluster, requests) = place.cluster(place.scope()).await;
    let reader = ClusterNodes::new(&cluster, None, None);
    let wanted = BTreeSet::from([id(0), id(1), id(3)]);
    let found = until("the nodes", SOON, async || reader.on_instances(&wanted).await.ok()).await;
    let names: Vec<&str> = found.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, [format!("{}-a", place.namespace), format!("{}-b", place.namespace)]);
    assert_eq!(found[0].instance, Some(id(0)));
    assert!(requests.all().iter().all(|line| line.starts_with("GET ")), "{:?}", requests.all());
    for name in ["a", "b", "c", "d"] {
        let name = format!("{}-{name}", place.namespace);
        api.delete(&name, &DeleteParams::default()).await.expect("deleted");
    }
}

#[tokio::test]
async fn the_rules_for_nodes_suffice_and_each_is_needed() {
    for without in ["", "nodes", "pods", "poddisruptionbudgets"] {
        let place = Place::new().await;
        place.bind_node_rules_but(without).await;
        let (cluster, _) = place.cluster(place.scope()).await;
        let reader = ClusterNodes::new(&cluster, None, None);
        let none = BTreeSet::new();
        let read = async |what: &str| match what {
            "nodes" => reader.of_group("web").await.and(reader.on_instances(&none).await).map(drop),
            "hosts" => reader.hosts().await.map(drop),
            _ => reader.pods(&none).await.map(drop),
        };
        let needed = match without {
            "nodes" => &["nodes"][..],
            "pods" => &["hosts", "pods"],
            "poddisruptionbudgets" => &["pods"],
            _ => &[],
        };
        // The API server learns of a binding a moment after it is written.
        until("the rules to apply", SOON, async || {
            let mut allowed = true;
            for what in ["nodes", "hosts", "pods"].iter().filter(|what| !needed.contains(what)) {
                allowed &= read(what).await.is_ok();
            }
            allowed.then_some(())
        })
        .await;
        for what in needed {
            let error = read(what).await.expect_err("it is not allowed");
            assert_eq!(error.class, Class::Denied, "{error}");
            let words = format!("may not list {without} of the cluster");
            assert!(error.message.contains(&words) && error.message.contains("rbac.nodes"), "{error}");
        }
    }
}
