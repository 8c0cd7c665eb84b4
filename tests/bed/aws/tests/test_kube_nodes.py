"""Instances of a connected cluster are nodes of a real API server, and their pods run."""

import pytest
from awsclient import Bed, ControlError
from connected import ready

from bedkit.client import call
from bedkit.wait import until


def test_nodes_show_their_instance_group_and_image(silent, connected):
    """`silent` is requested here so that its 16 seconds pass during other tests."""
    members = connected.scaling("web")["instances"]
    assert len(connected.names("web")) == len(members) == 2
    node = connected.node_of(members[0]["id"])
    labels, seeded = node["metadata"]["labels"], connected.seeded["node_groups"]["web"]
    assert node["metadata"]["name"].startswith("ip-10-")
    assert node["spec"]["providerID"] == f"aws:///us-east-1a/{members[0]['id']}"
    assert {k.removeprefix("eks.amazonaws.com/"): v for k, v in labels.items() if "eks.amazonaws" in k} == {
        "nodegroup": "web",
        "nodegroup-image": seeded["image"],
        "capacityType": "ON_DEMAND",
        "sourceLaunchTemplateId": seeded["launch_template"]["id"],
        "sourceLaunchTemplateVersion": "1",
    }
    assert labels["kubernetes.io/hostname"] == node["metadata"]["name"]
    assert labels["kubernetes.io/arch"] == "amd64" and labels["topology.kubernetes.io/zone"] == "us-east-1a"
    assert labels["pool"] == "web"  # of the node group
    assert ready(node) == ("True", "KubeletReady") and "taints" not in node["spec"]


def test_self_managed_nodes_have_no_labels_of_eks(connected):
    made = connected.bed.control("POST", "new-auto-scaling-group", name="workers", arch="arm64")
    connected.advance(59)
    assert not connected.known(instance=made["instances"][0])[0]["joined"]
    connected.advance(1)
    node = connected.node_of(made["instances"][0])
    labels = node["metadata"]["labels"]
    assert not [name for name in labels if name.startswith("eks.amazonaws.com/")]
    assert labels["kubernetes.io/arch"] == "arm64" and ready(node)[0] == "True"


def test_pods_run_and_deleted_ones_are_gone(connected):
    connected.deploy("app", 3)
    assert set(connected.placed("app").values()) <= connected.names("web")
    victim = next(iter(connected.placed("app")))
    connected.delete("/api/v1", f"pods/{victim}")
    connected.settle()
    assert victim not in {p["metadata"]["name"] for p in connected.pods("app")}
    until("the new pod", lambda: len(connected.placed("app")) == 3)


def test_a_pod_can_be_kept_from_being_ready(connected):
    pod = connected.template("app", "web")
    pod["metadata"] |= {"name": "app", "annotations": {"opsybed/ready": "false"}}
    connected.create("/api/v1", "pods", pod)
    connected.settle()
    assert connected.pods("app")[0]["status"]["phase"] == "Running" and not connected.placed("app")


def test_a_node_that_is_not_ready_gets_no_pods(connected):
    name = connected.known(group="batch")[0]["name"]
    connected.bed.control("POST", "node", name=name, ready=False, reason="KubeletNotReady", message="disk")
    connected.settle()
    node = connected.nodes("batch")[0]
    assert ready(node) == ("False", "KubeletNotReady")
    until("the taint", lambda: "node.kubernetes.io/not-ready" in str(connected.nodes("batch")[0]["spec"]))
    connected.bed.control("POST", "node", name=name, ready=True)
    connected.settle()
    assert ready(connected.nodes("batch")[0])[0] == "True"


def test_faults_decide_how_nodes_join(connected):
    for fault, group in (
        ({"kind": "node-never-joins"}, "never"),
        ({"kind": "node-joins-late", "seconds": 100}, "late"),
        ({"kind": "node-not-ready", "seconds": 100, "message": "no network"}, "sick"),
    ):
        connected.bed.fault(**fault, params={"group": f"^{group}$"})
        connected.bed.control("POST", "new-auto-scaling-group", name=group)
    connected.advance(60)
    joined = {g: [(n["joined"], n["ready"]) for n in connected.known(group=g)] for g in ("never", "late", "sick")}
    assert joined == {"never": [(False, False)], "late": [(False, False)], "sick": [(True, False)]}
    connected.advance(100)
    joined = {g: [n["ready"] for n in connected.known(group=g)] for g in ("never", "late", "sick")}
    assert joined == {"never": [False], "late": [True], "sick": [True]}


def test_a_terminated_instance_takes_its_node_and_pods_with_it(connected):
    connected.deploy("app", 1)
    pod, node = next(iter(connected.placed("app").items()))
    instance = connected.known(name=node)[0]["instance"]
    connected.bed.client("ec2").terminate_instances(InstanceIds=[instance])
    connected.settle()
    assert node not in connected.names() and pod not in {p["metadata"]["name"] for p in connected.pods("app")}


def test_nodes_can_have_a_taint_that_keeps_other_pods_away(connected):
    connected.reconnect(taints=[{"key": "opsybed", "value": "emulated", "effect": "NoSchedule"}])
    assert {n["spec"]["taints"][0]["key"] for n in connected.nodes()} == {"opsybed"}


def test_a_cluster_is_not_settled_while_the_scheduler_is_away(connected, plane):
    pod = connected.template("app", "web")
    pod["metadata"]["name"] = "app"
    call(plane["control"], "POST", "scheduler/pause")
    try:
        connected.create("/api/v1", "pods", pod)
        assert not connected.bed.control("POST", "settle", seconds=0.5)["settled"]
        assert not connected.placed("app")
    finally:
        call(plane["control"], "POST", "scheduler/resume")
    connected.settle()
    assert connected.placed("app")


def test_connecting_is_checked_and_tells_no_secret(bed: Bed, plane: dict):
    bed.seed()
    where = {"server": plane["server"], "ca": plane["ca"]}
    with pytest.raises(ControlError, match="401") as refused:
        bed.control("POST", "connect-cluster", **where, token="not-the-token")
    assert "not-the-token" not in str(refused.value)
    with pytest.raises(ControlError, match="no cluster 'other'"):
        bed.control("POST", "connect-cluster", **where, token=plane["token"], cluster="other")
    with pytest.raises(ControlError, match="not connected"):
        bed.control("GET", "nodes")
    bed.control("POST", "connect-cluster", **where, token=plane["token"])
    with pytest.raises(ControlError, match="already connected"):
        bed.control("POST", "connect-cluster", **where, token=plane["token"])
    shown = [bed.control("GET", path) for path in ("journal", "state", "nodes", "settings")]
    assert plane["token"] not in str(shown)
    bed.control("DELETE", "connect-cluster")
