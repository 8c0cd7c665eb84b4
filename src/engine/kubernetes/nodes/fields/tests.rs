//! Tables of what is read of nodes, pods and PodDisruptionBudgets.

use serde_json::{Value, json};

use super::*;

fn pod(change: Value) -> PodFields {
    let mut pod = json!({
        "metadata": {
            "name": "api-0", "namespace": "shop", "labels": {"app": "api"},
            "ownerReferences": [{"kind": "ReplicaSet", "controller": true}],
        },
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    for (part, fields) in change.as_object().expect("parts") {
        let part = pod[part].as_object_mut().expect("a part");
        part.extend(fields.as_object().expect("fields").clone());
    }
    serde_json::from_value(pod).expect("a pod")
}

fn budget(spec: Value, status: Value) -> BudgetFields {
    let metadata = json!({"name": "api", "namespace": "shop"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).expect("a budget")
}

fn read(change: Value) -> Option<NodePod> {
    pod(change).read(&[])
}

#[test]
fn a_node_is_recognized_by_the_instance_in_its_provider_id() {
    let of = |spec: Value| {
        let node: NodeFields =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).expect("a node");
        node.read().instance
    };
    let id = "i-0123456789abcdef0";
    assert_eq!(of(json!({"providerID": format!("aws:///us-east-1a/{id}")})).as_deref(), Some(id));
    for other in [
        json!({}),
        json!({"providerID": null}),
        json!({"providerID": "aws:///us-east-1a/fargate-10.0.0.1"}),
        json!({"providerID": format!("gce://project/us-east-1a/{id}")}),
    ] {
        assert_eq!(of(other.clone()), None, "{other}");
    }
    let bare: NodeFields = serde_json::from_value(json!({"metadata": {"name": "a"}})).expect("a node");
    assert_eq!(bare.read().instance, None);
}

#[test]
fn a_drain_waits_for_no_pod_that_belongs_to_its_node() {
    let daemon = json!({"ownerReferences": [{"kind": "DaemonSet", "controller": true}]});
    assert_eq!(read(json!({ "metadata": daemon })), None);
    let mirror = json!({"annotations": {"kubernetes.io/config.mirror": "x"}});
    assert_eq!(read(json!({ "metadata": mirror })), None);
    let read = read(json!({})).expect("a pod");
    assert_eq!((read.name.as_str(), read.node.as_str()), ("shop/api-0", "node-1"));
    assert!(read.has_controller && read.is_ready && !read.is_pending && !read.is_terminating);
}

#[test]
fn what_is_lost_with_the_node_is_named() {
    let of = |volume: Value| read(json!({"spec": {"volumes": [volume]}})).expect("a pod").local_volume;
    assert_eq!(of(json!({"name": "data", "emptyDir": {}})).as_deref(), Some("emptyDir volume data"));
    assert_eq!(of(json!({"name": "tmp", "emptyDir": {"medium": "Memory"}})), None);
    assert_eq!(
        of(json!({"name": "disk", "hostPath": {"path": "/mnt"}})).as_deref(),
        Some("hostPath volume disk")
    );
    assert_eq!(of(json!({"name": "c", "configMap": {"name": "c"}})), None);
}

#[test]
fn only_the_values_that_autoscalers_honor_ask_not_to_be_evicted() {
    let of = |name: &str, value: &str| {
        read(json!({"metadata": {"annotations": {name: value}}})).expect("a pod").do_not_evict
    };
    let (autoscaler, karpenter) = (DO_NOT_EVICT[0].0, DO_NOT_EVICT[1].0);
    assert_eq!(of(autoscaler, "false"), Some(autoscaler));
    assert_eq!(of(autoscaler, "true"), None);
    assert_eq!(of(karpenter, "true"), Some(karpenter));
    assert_eq!(of(karpenter, "false"), None);
}

#[test]
fn a_toleration_of_everything_is_one_of_a_cordoned_node() {
    let of = |toleration: Value| {
        read(json!({"spec": {"tolerations": [toleration]}})).expect("a pod").tolerates_all
    };
    assert!(of(json!({"operator": "Exists"})));
    assert!(of(json!({"operator": "Exists", "effect": "NoSchedule"})));
    assert!(!of(json!({"operator": "Exists", "effect": "NoExecute"})));
    assert!(!of(json!({"key": "gpu", "operator": "Exists"})));
}

#[test]
fn a_budget_selects_by_labels_in_its_namespace() {
    for (selector, selects) in [
        (json!({"matchLabels": {"app": "api"}}), true),
        (json!({"matchLabels": {"app": "web"}}), false),
        (json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["api", "web"]}]}), true),
        (json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false),
        (json!({}), true),
        (Value::Null, false),
    ] {
        let budget = budget(json!({ "selector": selector }), json!({}));
        let read = pod(json!({})).read(std::slice::from_ref(&budget)).expect("a pod");
        assert_eq!(!read.budgets.is_empty(), selects, "{selector}");
        let other = pod(json!({"metadata": {"namespace": "other"}}));
        assert_eq!(other.read(&[budget]).expect("a pod").budgets, Vec::new());
    }
}

#[test]
fn unready_pods_count_as_the_eviction_api_counts_them() {
    let of = |policy: Value, current: i32, desired: i32| {
        let spec = json!({"selector": {}, "unhealthyPodEvictionPolicy": policy});
        let status = json!({"disruptionsAllowed": 0, "currentHealthy": current, "desiredHealthy": desired});
        budget(spec, status).read().spares_unready
    };
    assert!(of(json!("AlwaysAllow"), 0, 2));
    assert!(of(Value::Null, 2, 2));
    assert!(!of(Value::Null, 1, 2));
    assert!(!of(json!("IfHealthyBudget"), 0, 0));
}

#[test]
fn a_node_without_condition_has_not_joined() {
    let of = |conditions: Value| {
        let labels = json!({TEMPLATE: "lt-1", IMAGE: "ami-1"});
        let node = json!({"metadata": {"name": "n", "labels": labels}, "status": {"conditions": conditions}});
        serde_json::from_value::<NodeFields>(node).expect("a node").read()
    };
    assert_eq!(of(json!([{"type": "Ready", "status": "True"}])).not_ready, None);
    let unknown = of(json!([{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]));
    assert_eq!(unknown.not_ready.as_deref(), Some("NodeStatusUnknown"));
    assert_eq!(of(Value::Null).not_ready.as_deref(), Some("it has not joined yet"));
    assert_eq!((unknown.template.as_deref(), unknown.image.as_deref()), (Some("lt-1"), Some("ami-1")));
}
