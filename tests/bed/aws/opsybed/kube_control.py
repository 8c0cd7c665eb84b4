"""Control of connected clusters: connect, disconnect, nodes and their faults, and time that passes in steps."""

import contextlib
import time

from moto.eks.models import eks_backends

from . import kube_drains, kube_nodes
from .kube_bridge import Bridge
from .kube_client import Kube, Refused, Unreachable
from .kube_members import Members
from .world import world

# real seconds: until the nodes that exist are Ready, for one step of the clock, and for all steps of one request
CONNECT_SECONDS, STEP_SECONDS, ADVANCE_SECONDS = 120, 5, 30
# emulated seconds: events within it are one step
GRAIN = 1.0


@contextlib.contextmanager
def unlocked(lock):
    """Release the application's lock, which the control interface holds once."""
    lock.release()
    try:
        yield
    finally:
        lock.acquire()


def connect(app, account: str, region: str, asked: dict) -> dict:
    """Connect a cluster to the API server at `server`, with `ca` and the `token` of an administrator."""
    name = asked.get("cluster", "demo")
    if name not in eks_backends[account][region].clusters:
        raise ValueError(f"no cluster {name!r}")
    if (region, name) in world.account(account).bridges:
        raise ValueError(f"the cluster {name!r} is already connected")
    members = Members(account, region, name, app.faults)
    try:
        kube = Kube(asked["server"], asked["ca"], asked["token"])
    except OSError as error:
        raise ValueError(f"ca is not a certificate authority: {error}") from None
    bridge = Bridge(app, members, kube, asked.get("taints", []), bool(asked.get("termination_handler")))
    bridges = world.account(account).bridges
    bridges[(region, name)] = bridge
    try:
        with unlocked(app.lock):
            bridge.start()
    except (Refused, Unreachable) as error:
        bridge.stop()
        del bridges[(region, name)]
        raise ValueError(f"cannot connect to the API server: {error}") from None
    with unlocked(app.lock):
        settled = bridge.settle(CONNECT_SECONDS)
    return {"cluster": name, "settled": settled, "nodes": show(bridge)}


def disconnect(app, account: str, region: str, asked: dict) -> dict:
    """Disconnect a cluster, and delete its nodes and their pods from the API server."""
    bridge = bridge_of(account, region, asked)
    names = [m.name for m in bridge.members.joined()]
    del world.account(account).bridges[(region, bridge.cluster)]
    with unlocked(app.lock):
        bridge.leave()
    return {"disconnected": bridge.cluster, "nodes": names}


def forget(account) -> None:
    """Disconnect all clusters of an account that is reset; their nodes stop to be ready."""
    for bridge in account.bridges.values():
        bridge.stop()
    account.bridges.clear()


def bridge_of(account: str, region: str, asked: dict) -> Bridge:
    name = asked.get("cluster", "demo")
    bridge = world.account(account).bridges.get((region, name))
    if bridge is None:
        raise ValueError(f"the cluster {name!r} is not connected")
    return bridge


def change_node(bridge: Bridge, asked: dict) -> dict:
    """Set what the kubelet of a node (`name`, or `instance`) reports: `ready`, `reason`, `message`, `heartbeat`."""
    wanted = asked.get("name") or asked["instance"]
    member = bridge.members.named(wanted)
    if member is None:
        raise ValueError(f"no node {wanted!r}")
    if "joins" in asked:
        member.joins = world.account(bridge.account).clock.timestamp() if asked["joins"] else None
    member.ready = bool(asked.get("ready", member.ready))
    member.heartbeat = bool(asked.get("heartbeat", member.heartbeat))
    member.why = (asked.get("reason", member.why[0]), asked.get("message", member.why[1]))
    bridge.wake()
    return _shown(bridge, member)


def show(bridge: Bridge) -> list[dict]:
    return [_shown(bridge, m) for m in bridge.members.all.values()]


def _shown(bridge: Bridge, member) -> dict:
    now = world.account(bridge.account).clock.timestamp()
    node, drain = bridge.node(member.instance), bridge.drains.get(member.instance)
    return {
        "name": member.name,
        "instance": member.instance,
        "group": member.node_group or member.group,
        "joined": member.joins is not None and member.joins <= now,
        "ready": kube_nodes.is_ready(node),
        "cordoned": node is not None and kube_nodes.is_cordoned(node),
        "heartbeat": member.heartbeat,
        "drain": kube_drains.describe(drain) if drain else None,
    }


def advance(app, account, seconds: float) -> bool:
    """Move the clock from event to event. After each one, wait until the connected clusters are settled.

    Return false if one was not settled in time. It ends with the clock at the requested time in any case.
    """
    clock, patience = account.clock, STEP_SECONDS
    target, limit = clock.timestamp() + seconds, time.monotonic() + ADVANCE_SECONDS
    settled = settle(app, account, patience, sees=True)
    while True:
        due = clock.next_due()
        left = target - clock.timestamp()
        if left <= 0:
            return settled
        step = left if due is None or due >= target else min(left, max(GRAIN, due - clock.timestamp()))
        clock.advance(step)
        settled = settle(app, account, patience) and settled
        if time.monotonic() > limit:
            patience = 0


def settle(app, account, seconds: float, sees: bool = False) -> bool:
    bridges = list(account.bridges.values())
    with unlocked(app.lock):
        return all([bridge.settle(seconds, sees) for bridge in bridges])
