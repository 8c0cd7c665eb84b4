"""What the bridge has to do with nodes and pods, by comparing what must be with what is.

Each piece of work is a function of a client, is safe to repeat, and runs without the lock.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from . import kube_nodes, kube_pods
from .kube_client import STRATEGIC, Kube
from .kube_nodes import Member

NODES = "/api/v1/nodes"


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def by_node(pods: Iterable[dict]) -> dict[str, list[dict]]:
    found = defaultdict(list)
    for pod in pods:
        if pod["spec"].get("nodeName"):
            found[pod["spec"]["nodeName"]].append(pod)
    return found


def is_usable(node: dict | None) -> bool:
    """Whether a node is Ready, and the control plane allows pods on it."""
    return kube_nodes.is_ready(node) and not kube_nodes.is_tainted(node)


class Work:
    """The work of one bridge. It is planned under the application's lock."""

    def __init__(self, bridge) -> None:
        self._bridge = bridge
        # UIDs of pods that were removed, but that a finalizer keeps
        self._removed: set[str] = set()
        # instance -> what a node that needs no work depends on
        self._idle: dict[str, tuple] = {}

    def plan(self, nodes: dict[str, dict], pods: dict[str, list[dict]]) -> tuple[list, bool]:
        """Return the work, and whether the control plane, too, has nothing to do with the nodes."""
        joined, work, still = self._bridge.members.joined(), [], True
        for member in joined:
            node, mine = nodes.get(member.name), pods.get(member.name, [])
            stamp = _stamp(member, node, mine)
            if self._idle.get(member.instance) == stamp:
                continue
            found, quiet = self._of_member(member, node, mine)
            work += found
            still = still and quiet
            if quiet and not found:
                self._idle[member.instance] = stamp
        names = {m.name for m in joined}
        gone = [n for n, o in nodes.items() if n not in names and self._is_ours(o)]
        return work + [leave(name, pods.get(name, [])) for name in gone], still and not gone

    def busy(self, pods: Iterable[dict]) -> set[str]:
        """Return the namespaces of pods that the scheduler has not looked at, or that a kubelet must start or end."""
        kubelets = {m.name for m in self._bridge.members.joined() if m.ready and m.heartbeat}
        return {p["metadata"]["namespace"] for p in pods if self._moves(p, kubelets)}

    def _moves(self, pod: dict, kubelets: set[str]) -> bool:
        if pod["spec"].get("nodeName") not in kubelets:
            return kube_pods.is_unplaced(pod)
        if kube_pods.is_leaving(pod):
            return kube_pods.uid(pod) not in self._removed
        return not kube_pods.is_as_wanted(pod)

    def _of_member(self, member: Member, node: dict | None, pods: list[dict]) -> tuple[list, bool]:
        if node is None:
            return [self._join(member)], False
        if not self._is_ours(node):
            return [], True
        work = self._correct(member, node) + self._kubelet(member, pods)
        return work, is_usable(node) or not (member.ready and member.heartbeat)

    def _is_ours(self, node: dict) -> bool:
        return kube_nodes.owner_of(node) == self._bridge.owner

    def _join(self, member: Member):
        taints = self._bridge.taints
        wanted = kube_nodes.manifest(member, self._bridge.owner, taints, timestamp())
        return lambda kube: kube.create(NODES, wanted)

    def _correct(self, member: Member, node: dict) -> list:
        """Bring the condition Ready, the mark of a cordon and EKS's label to what they must be."""
        work, path = [], f"{NODES}/{member.name}"
        wanted = member.condition()
        if member.heartbeat and kube_nodes.ready_of(node) != tuple(wanted[k] for k in ("status", "reason", "message")):
            work.append(_report(path, wanted))
        change = {}
        if member.cordon is not None and kube_nodes.is_cordoned(node) != member.cordon:
            change["spec"] = {"unschedulable": member.cordon or None}
        elif member.cordon is False:
            member.cordon = None
        if (kube_nodes.EXCLUDED in node["metadata"].get("labels", {})) != member.excluded:
            change["metadata"] = {"labels": {kube_nodes.EXCLUDED: "true" if member.excluded else None}}
        if change:
            work.append(lambda kube: kube.patch(path, change))
        return work

    def _kubelet(self, member: Member, pods: list[dict]) -> list:
        """Run new pods and remove deleted ones, unless the kubelet has stopped."""
        if not member.heartbeat:
            return []
        work, now = [], timestamp()
        for pod in pods:
            if kube_pods.is_leaving(pod):
                if kube_pods.uid(pod) not in self._removed:
                    self._removed.add(kube_pods.uid(pod))
                    work.append(_of_pod(kube_pods.remove, pod))
            elif member.ready and not kube_pods.is_as_wanted(pod):
                work.append(_of_pod(kube_pods.run, pod, member.address, now))
        return work


def _stamp(member: Member, node: dict | None, pods: list[dict]) -> tuple:
    """Return what must change before a node that needs no work needs some."""
    version = node["metadata"]["resourceVersion"] if node else None
    wanted = (member.ready, member.why, member.heartbeat, member.cordon, member.excluded)
    return version, wanted, [p["metadata"]["resourceVersion"] for p in pods]


def _report(path: str, condition: dict):
    now = timestamp()
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    body = {"status": {"conditions": [{**condition, **times}]}}
    return lambda kube: kube.patch(f"{path}/status", body, STRATEGIC)


def _of_pod(act, pod: dict, *more):
    return lambda kube: act(kube, pod, *more)


def leave(name: str, pods: list[dict]):
    """Remove the pods of an instance that has ended, and its node, as the controllers of AWS and Kubernetes do."""

    def request(kube: Kube) -> None:
        for pod in pods:
            kube_pods.remove(kube, pod)
        kube.delete(f"{NODES}/{name}")

    return request
