//! A whole rollout of a self-managed group: a termination handler drains the nodes that an instance refresh terminates, and
//! nodes are recognized by their instances. The tests assert on AWS, on the Node objects and on the status.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::replicas::{Replicas, blocking};
use super::{Drains, FAST, LABEL_TAG, OWN, OWN_LABEL, SLOW, name, replicas};

/// Emulated seconds per second while a refresh waits for an hour before it gives up.
const FASTEST: u32 = 240;
/// Emulated seconds that the lifecycle hook waits for a drain: longer than a test.
const HOOK_TIMEOUT: u32 = 7200;

impl Drains {
    /// A self-managed group with this many nodes.
    fn self_managed(replicas: Replicas, count: usize) -> Self {
        let mut group = json!({
            "name": OWN, "count": count, "warmup": 0, "tags": {},
            "hooks": [{"name": "drain", "timeout": HOOK_TIMEOUT}],
        });
        group["tags"][format!("{LABEL_TAG}{OWN_LABEL}")] = json!(replicas.place.namespace);
        replicas.world.account.post("new-auto-scaling-group", group);
        Self::connect(replicas, OWN, count)
    }

    /// The group as EC2 Auto Scaling has it.
    fn in_aws(&self) -> Value {
        let state = self.replicas.world.account.state();
        let mut groups = state["auto_scaling_groups"].as_array().expect("groups").iter();
        groups.find(|group| group["name"] == OWN).expect("the group").clone()
    }

    /// Statuses of its refreshes, newest first.
    fn refreshes(&self) -> Vec<String> {
        let group = self.in_aws();
        let refreshes = group["refreshes"].as_array().expect("refreshes").iter();
        refreshes.map(|refresh| refresh["Status"].as_str().expect("a status").to_owned()).collect()
    }

    /// The image of each instance of the group, by the name of its node; the ID of the instance if it is no node.
    fn images_of_nodes(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let instance = |node: &Value| text(&node["spec"]["providerID"]).rsplit('/').next().map(str::to_owned);
        let names: BTreeMap<_, _> =
            self.nodes(OWN).iter().filter_map(|node| Some((instance(node)?, name(node)))).collect();
        let group = self.in_aws();
        let instances = group["instances"].as_array().expect("instances").iter();
        let image = |instance: &Value| {
            let id = text(&instance["id"]);
            (names.get(&id).cloned().unwrap_or(id), text(&instance["image"]))
        };
        instances.map(image).collect()
    }

    /// Waits until the Node objects of the group are those of its instances, schedulable and Ready, and all of them run
    /// this image.
    fn until_all_run(&self, image: &str, count: usize) {
        self.until("all nodes to run the image", || {
            let nodes = self.nodes(OWN);
            let is_usable = |node: &Value| {
                let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
                let ready = conditions.find(|found| found["type"] == "Ready");
                ready.is_some_and(|ready| ready["status"] == "True")
                    && node["spec"]["unschedulable"].is_null()
            };
            let images = self.images_of_nodes();
            nodes.len() == count
                && nodes.iter().all(is_usable)
                && nodes.iter().all(|node| images.get(&name(node)).is_some_and(|runs| runs == image))
                && images.len() == count
        });
    }

    /// The kubelet of the node that is not ready becomes ready.
    fn recover_node(&self) {
        let nodes = self.replicas.world.account.look("nodes");
        let mut nodes = nodes.as_array().expect("nodes").iter();
        let broken = nodes.find(|node| node["ready"] == false && node["joined"] == true).expect("a node");
        self.replicas.world.account.post("node", json!({"name": broken["name"], "ready": true}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_blocks_a_refresh_is_named_and_the_next_group_waits_for_the_nodes_of_its_instances() {
    let replicas = replicas().await;
    blocking(move || {
        let drains = Drains::self_managed(replicas, 2);
        let account = &drains.replicas.world.account;
        // Only the second new node does not become ready.
        account.fault(json!({
            "kind": "node-not-ready", "params": {"group": format!("^{OWN}$")}, "skip": 1, "count": 1,
        }));
        let waves =
            json!([{"name": "first", "nodeGroups": [OWN]}, {"name": "then", "nodeGroups": ["batch"]}]);
        let (_agent, image) = drains.roll_out(&json!({"waves": waves}));
        drains.until_refused();
        drains.speed(SLOW);
        drains.until_named(1);
        // The replacement of the first one is in service, so that the second one may be terminating, too.
        assert!(drains.in_aws()["instances"].to_string().contains("Terminating:Wait"));
        assert_eq!(drains.refreshes(), ["InProgress"]);

        drains.relax_budget();
        drains.speed(FAST);
        drains.until("the group to wait for its nodes", || {
            let (_, message) = drains.ready();
            let waits =
                format!("{OWN} is updated, and waits for its nodes: 1 of 2 nodes are Ready on {image}");
            message.contains(&waits) && message.contains("is not Ready (KubeletNotReady")
        });
        let group = drains.in_aws();
        assert_eq!(
            (drains.refreshes(), &group["LaunchTemplate"]["Version"]),
            (vec!["Successful".to_owned()], &json!("2"))
        );
        assert_eq!(drains.started(), [""; 0], "the next group waits");
        drains.recover_node();
        drains.until("the end of the rollout", || drains.ready().0 == "UpToDate");

        drains.until_all_run(&image, 2);
        assert_eq!(
            (drains.started(), drains.images("batch")),
            (vec!["batch".to_owned()], vec![json!(image)])
        );
        let after = drains.images_of_nodes();
        assert!(
            drains.before.iter().all(|node| !after.contains_key(node)),
            "every node was replaced: {after:?}"
        );
        assert!(drains.pods_now().is_disjoint(&drains.pods), "every pod was evicted");
        assert_eq!(account.count("autoscaling:StartInstanceRefresh"), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_fails_on_a_refresh_is_rolled_back_on_groups_of_both_kinds() {
    let replicas = replicas().await;
    blocking(move || {
        let drains = Drains::self_managed(replicas, 3);
        drains.relax_budget();
        let account = &drains.replicas.world.account;
        let initial = drains.in_aws()["instances"][0]["image"].as_str().expect("an image").to_owned();
        let version = drains.version("batch");
        let waves =
            json!([{"name": "canary", "nodeGroups": ["batch"]}, {"name": "prod", "nodeGroups": [OWN]}]);
        let checkpoint = json!({"checkpointPercentages": [33, 100], "checkpointDelay": "1h"});
        let (_agent, image) = drains.roll_out_with(json!({
            "rollout": {"waves": waves, "onFailure": "Rollback"},
            "refreshConfig": {"instanceRefresh": checkpoint},
        }));
        // The first new node works. While the refresh waits at its checkpoint, something makes the image fail.
        drains.until("a node with the new image, and the checkpoint", || {
            let images = drains.images_of_nodes();
            let joined = images.iter().filter(|(node, runs)| **runs == image && !node.starts_with("i-"));
            let reason = drains.in_aws()["refreshes"][0]["StatusReason"].to_string();
            joined.count() == 1 && reason.contains("at a checkpoint")
        });
        account.post("image", json!({"id": image, "healthy": false}));
        assert_eq!(drains.images("batch"), [json!(image)]);
        drains.speed(FASTEST);
        drains.until("the refresh to fail", || drains.refreshes() == ["Failed"]);
        drains.speed(FAST);
        drains.until("the image to be held", || drains.ready().0 == "ImageHeld");

        assert_eq!(drains.refreshes(), ["Successful", "Failed"]);
        drains.until_all_run(&initial, 3);
        let group = drains.in_aws();
        assert_eq!(group["LaunchTemplate"]["Version"], "1", "the version that was in force");
        let checkpoints = |at: usize| group["refreshes"][at]["Preferences"]["CheckpointPercentages"].clone();
        assert_eq!(
            [checkpoints(0), checkpoints(1)],
            [json!(null), json!([33, 100])],
            "a rollback does not wait"
        );
        assert_eq!((drains.started(), drains.version("batch")), (vec!["batch".to_owned(); 2], version));
        assert_eq!(drains.images("batch"), [drains.replicas.world.seed["initial_image"].clone()]);
        drains.until("the workload to be whole", || {
            drains.get(&["deployment", "api"])["status"]["readyReplicas"] == 3
        });
        drains.assert_held(&image, "has insufficient data to evaluate its health");
    })
    .await;
}
