"""Updates of managed node groups in a connected cluster: nodes join, are drained within budgets, and end."""

import pytest

from bedkit.wait import until

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
EVICTION = "Reached max retries while trying to evict pods from nodes in node group web"
CREATION = "Couldn't proceed with upgrade process as new nodes are not joining node group web"


def sizes(connected, group: str = "web") -> tuple[int, int]:
    """Return the desired capacity and the number of instances."""
    found = connected.scaling(group)
    return found["size"][1], len(found["instances"])


def shown(update: dict) -> tuple[str, list]:
    return update["status"], [(e["errorCode"], e["errorMessage"], e["resourceIds"]) for e in update["errors"]]


def test_an_update_replaces_nodes_without_breaking_a_budget(connected):
    connected.deploy("app", 4)
    connected.budget("app", 4, minAvailable=3)
    before, version = connected.names("web"), connected.version("web")
    update = connected.update("web", version)
    assert sizes(connected) == (4, 4) and update.status == "InProgress"
    counts = []
    assert update.finish(step=20, look=lambda: counts.append(len(connected.placed("app"))))["status"] == "Successful"
    assert min(counts) >= 3
    after = connected.nodes("web")
    assert len(after) == 2 and not before & connected.names("web")
    assert {n["metadata"]["labels"]["eks.amazonaws.com/sourceLaunchTemplateVersion"] for n in after} == {version}
    assert not any(n["spec"].get("unschedulable") for n in after)
    assert set(connected.placed("app").values()) <= connected.names("web") and len(connected.placed("app")) == 4
    assert sizes(connected) == (2, 2)
    assert connected.bed.group("web")["launch_template"]["version"] == version


def test_the_phases_of_an_update_take_the_documented_time(connected):
    before = connected.names("web")
    update = connected.update("web")
    connected.advance(59)
    assert not [n for n in connected.nodes("web") if n["spec"].get("unschedulable")]
    connected.advance(1)  # the new nodes join
    old = [n for n in connected.nodes("web") if n["metadata"]["name"] in before]
    assert all(n["spec"]["unschedulable"] and n["metadata"]["labels"][EXCLUDED] == "true" for n in old)
    assert len(connected.names("web")) == 4 and len(connected.known(drain=None)) == len(connected.known()) - 1
    connected.advance(59)
    assert before <= connected.names("web")
    connected.advance(1)  # a drained node is terminated, and its replacement starts
    assert len(before & connected.names("web")) == 1
    connected.advance(60)
    assert len(before & connected.names("web")) == 1 and update.status == "InProgress"
    connected.advance(60)
    assert not before & connected.names("web")
    assert update.finish()["status"] == "Successful"


@pytest.mark.parametrize(
    ("config", "limit", "surge"),
    [
        ({"maxUnavailable": 3}, 3, 3),
        ({"maxUnavailablePercentage": 50}, 2, 2),
        ({"maxUnavailable": 2, "updateStrategy": "MINIMAL"}, 2, 0),
    ],
)
def test_no_more_nodes_are_unavailable_than_allowed(connected, config, limit, surge):
    connected.bed.control("POST", "new-node-group", name="many", count=4, update_config=config)
    connected.advance(60)
    update, most = connected.update("many"), [0, 0]

    def look() -> None:
        mine = connected.known(group="many")
        draining = sum(n["drain"] is not None for n in mine)
        joining = sum(not n["ready"] for n in mine) if not surge else 0
        most[:] = [max(most[0], draining + joining), max(most[1], len(mine))]

    look()
    assert update.finish(step=30, look=look)["status"] == "Successful"
    assert most == [limit, 4 + surge]
    assert sizes(connected, "many") == (4, 4)


def test_a_budget_that_allows_nothing_fails_the_update(connected):
    connected.deploy("app", 2)
    connected.budget("app", 2, maxUnavailable=0)
    before = connected.names("web")
    update = connected.update("web")
    connected.advance(60 + 885)
    assert update.status == "InProgress"
    drain = next(n["drain"] for n in connected.known(group="web") if n["drain"])
    assert "disruption budget" in drain["refusals"][0]
    connected.advance(15)
    assert shown(update.describe()) == ("Failed", [("PodEvictionFailure", EVICTION, [drain["node"]])])
    assert connected.bed.group("web")["launch_template"]["version"] == "1"
    connected.advance(600)
    assert connected.names("web") == before and sizes(connected) == (2, 2)
    assert not [n for n in connected.nodes("web") if n["spec"].get("unschedulable")]
    assert not [n for n in connected.nodes("web") if EXCLUDED in n["metadata"]["labels"]]
    assert len(connected.placed("app")) == 2


def test_a_forced_update_deletes_what_cannot_be_evicted(connected):
    connected.deploy("app", 1, "batch")
    connected.budget("app", 1, maxUnavailable=0)
    before = connected.names("batch")
    update = connected.update("batch", force=True)
    connected.advance(60 + 885)
    assert before == connected.names("batch") & before
    assert update.finish(step=300)["status"] == "Successful"
    assert not before & connected.names("batch") and len(connected.placed("app")) == 1


def test_an_update_goes_on_when_its_budget_is_removed(connected):
    connected.deploy("app", 1, "batch")
    connected.budget("app", 1, maxUnavailable=0)
    update = connected.update("batch")
    connected.advance(600)
    connected.delete("/apis/policy/v1", "poddisruptionbudgets/app")
    assert update.finish()["status"] == "Successful"


def test_a_replacement_that_is_not_ready_blocks_the_budget(connected):
    pod = connected.template("app", "batch")
    pod["metadata"] |= {"name": "held", "annotations": {"opsybed/ready": "false"}}
    connected.deploy("app", 1, "batch")
    connected.create("/api/v1", "pods", pod)
    connected.budget("app", 1, minAvailable=1)
    update = connected.update("batch")
    assert update.finish(step=120)["status"] == "Failed"
    assert len(connected.placed("app")) == 1


def test_pods_of_daemon_sets_and_of_the_kubelet_stay(connected):
    daemon = {
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": connected.template("agent", "web"),
        },
    }
    connected.create("/apis/apps/v1", "daemonsets", daemon)
    until("the agents", lambda: len(connected.placed("agent")) == 2)
    connected.budget("agent", 2, minAvailable=2)
    update = connected.update("web")
    assert update.finish()["status"] == "Successful"
    connected.settle()
    until("the agents", lambda: set(connected.placed("agent").values()) == connected.names("web"))


@pytest.mark.parametrize("kind", ["node-never-joins", "node-not-ready"])
def test_nodes_that_do_not_become_ready_fail_the_update(connected, kind):
    connected.deploy("app", 2)
    before = connected.names("web")
    connected.bed.fault(kind, params={"group": "web"})
    update = connected.update("web")
    connected.advance(895)
    assert update.status == "InProgress"
    connected.advance(5)
    assert shown(update.describe()) == ("Failed", [("NodeCreationFailure", CREATION, ["web"])])
    connected.settle()
    assert connected.names("web") == before and sizes(connected) == (2, 2)
    assert len(connected.placed("app")) == 2
    assert not [n for n in connected.nodes("web") if n["spec"].get("unschedulable")]


def test_nodes_of_an_image_that_does_not_work_never_join(connected):
    image = connected.bed.control("POST", "image", name="broken", healthy=False)["id"]
    update = connected.update("batch", connected.version("batch", image))
    assert update.finish()["errors"][0]["errorCode"] == "NodeCreationFailure"
    # and the way back
    update = connected.update("batch", connected.version("batch"))
    assert update.finish()["status"] == "Successful"
    assert sizes(connected, "batch") == (1, 1)


def test_nodes_that_join_late_only_delay_the_update(connected):
    connected.bed.fault("node-not-ready", params={"group": "batch"}, seconds=500)
    update = connected.update("batch")
    connected.advance(500)
    assert update.status == "InProgress" and len(connected.names("batch")) == 3
    assert update.finish()["status"] == "Successful"


def test_an_update_after_a_failed_one_ends_with_the_same_size(connected):
    connected.deploy("app", 1, "batch")
    connected.budget("app", 1, maxUnavailable=0)
    assert connected.update("batch").finish(step=300)["status"] == "Failed"
    connected.delete("/apis/policy/v1", "poddisruptionbudgets/app")
    assert connected.update("batch").finish()["status"] == "Successful"
    connected.advance(60)
    assert sizes(connected, "batch") == (1, 1) and len(connected.names("batch")) == 1


def test_a_group_without_nodes_is_updated(connected):
    connected.bed.control("POST", "new-node-group", name="empty", count=0)
    assert connected.update("empty").finish()["status"] == "Successful"
    assert sizes(connected, "empty") == (0, 0)


def test_a_group_that_is_deleted_during_its_update_leaves_no_node(connected):
    connected.update("web")
    connected.advance(70)
    connected.bed.control("DELETE", "node-group", name="web")
    connected.settle()
    assert not connected.names("web")


def test_a_scripted_failure_replaces_no_node(connected):
    before = connected.names("web")
    connected.bed.fault("nodegroup-update-fails", errorCode="PodEvictionFailure")
    update = connected.update("web")
    assert update.finish()["errors"][0]["errorCode"] == "PodEvictionFailure"
    assert connected.names("web") == before
