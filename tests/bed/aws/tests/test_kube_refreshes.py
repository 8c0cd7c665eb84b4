"""Instance refreshes of self-managed groups in a connected cluster: with and without a drain."""

from refreshing import WARMUP, Group

HOOK = {"name": "drain", "timeout": 600}
# of the nodes of the group, by one of its tags
LABEL = {"pool": "workers"}
TAG = "k8s.io/cluster-autoscaler/node-template/label/pool"


def started(connected, **asked) -> Group:
    """Return a group of two nodes that are Ready, with the label of its tag."""
    group = Group(connected.bed, 2, template={}, tags={TAG: LABEL["pool"]}, **asked)
    connected.advance(60)
    return group


def deploy(connected, app: str = "app") -> None:
    """Deploy one pod to each node of the group."""
    connected.deploy(app, 2, None, nodeSelector=LABEL)


def finish(connected, group: Group, step: float = 30, look=lambda: None) -> str:
    for _ in range(200):
        if group.status not in ("Pending", "InProgress"):
            break
        connected.advance(step)
        look()
    return group.status


def test_without_a_hook_pods_die_with_their_instance(connected):
    group = started(connected)
    deploy(connected)
    connected.budget("app", 2, maxUnavailable=0)
    before = {n["name"] for n in connected.known(group=group.name)}
    cordoned = set()

    def look() -> None:
        cordoned.update(n["name"] for n in connected.known(cordoned=True))

    group.start()
    assert finish(connected, group, step=WARMUP, look=look) == "Successful"
    after = {n["name"] for n in connected.known(group=group.name)}
    assert len(after) == 2 and not before & after and not before & connected.names()
    # no node was drained, and the budget protected nothing
    assert not cordoned
    connected.settle()
    assert set(connected.placed("app").values()) <= after | connected.names()


def test_the_handler_drains_what_waits_for_a_hook(connected):
    connected.reconnect(termination_handler=True)
    group = started(connected, hooks=[HOOK])
    deploy(connected)
    connected.budget("app", 2, minAvailable=1)
    before, counts = {n["name"] for n in connected.known(group=group.name)}, []
    group.start()
    assert finish(connected, group, look=lambda: counts.append(len(connected.placed("app")))) == "Successful"
    assert min(counts) >= 1
    assert not before & connected.names() and not group.state()["instances"][0]["waits_for"]


def test_a_drain_that_hangs_ends_with_its_hook(connected):
    connected.reconnect(termination_handler=True)
    group = started(connected, hooks=[{**HOOK, "result": "CONTINUE"}])
    deploy(connected)
    connected.budget("app", 2, maxUnavailable=0)
    before = {n["name"] for n in connected.known(group=group.name)}
    group.start()
    connected.advance(20)
    waiting = [n for n in connected.known(group=group.name) if n["drain"]]
    assert [n["drain"]["state"] for n in waiting] == ["draining"] and waiting[0]["cordoned"]
    connected.advance(580)
    assert before <= connected.names()
    connected.advance(20)
    assert before - connected.names() == {waiting[0]["name"]}


def test_without_the_handler_a_hook_only_waits(connected):
    group = started(connected, hooks=[{**HOOK, "result": "CONTINUE"}])
    deploy(connected)
    group.start()
    connected.advance(20)
    assert group.states().count("Terminating:Wait") == 1
    assert not connected.known(cordoned=True) and len(connected.placed("app")) == 2
