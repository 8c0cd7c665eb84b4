"""Drains of nodes through the Eviction API, with retries and a deadline in emulated time.

A drain cordons its node and evicts its pods. A refusal because of a PodDisruptionBudget is
tried again. At the deadline, the remaining pods are deleted if the drain is forced; else it fails.
"""

import time
from dataclasses import dataclass, field

from . import kube_pods
from .kube_client import Kube, Refused
from .kube_nodes import Member, is_cordoned

# Controllers replace pods and update budgets in real time, so a drain does not fail before this many real seconds, and
# while pods of the same namespace are starting or ending, not before the longer time.
REAL_SECONDS, LAG_SECONDS = 1.5, 60


@dataclass
class Drain:
    member: Member
    # emulated timestamp, or None for no limit
    deadline: float | None
    force: bool = False
    # real time
    began: float = field(default_factory=time.monotonic)
    # whether its deadline has passed in emulated time only
    lags: bool = False
    # UID of a pod -> emulated timestamp of the next attempt, and the last refusal
    retry: dict[str, float] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    done: bool = False
    failed: bool = False

    @property
    def open(self) -> bool:
        return not (self.done or self.failed)

    def is_late(self, now: float) -> bool:
        return self.deadline is not None and now >= self.deadline


def step(drain: Drain, node: dict | None, pods: list[dict], busy: set[str], now: float, retry) -> list:
    """Update a drain by what the cluster is now, and return the requests that are due, as functions of a client.

    `busy` are the namespaces in which pods are starting or ending.

    `retry` is called with the drain, a pod's UID and the reason when an eviction was refused.
    """
    if not drain.open:
        return []
    drain.member.cordon = True
    left = [p for p in pods if kube_pods.is_evictable(p)]
    if node is None or (is_cordoned(node) and not left):
        drain.done = True
        return []
    if not is_cordoned(node):
        return []
    drain.lags = drain.is_late(now) and _lags(drain, left, busy)
    if drain.is_late(now) and not drain.lags:
        if drain.force:
            return [_delete(pod) for pod in left]
        drain.failed = True
        return []
    due = [p for p in left if not kube_pods.is_leaving(p) and drain.retry.get(kube_pods.uid(p), now) <= now]
    return [_evict(drain, pod, retry) for pod in due]


def _lags(drain: Drain, left: list[dict], busy: set[str]) -> bool:
    waited = time.monotonic() - drain.began
    moving = any(p["metadata"]["namespace"] in busy for p in left)
    return waited < (LAG_SECONDS if moving else REAL_SECONDS)


def _delete(pod: dict):
    return lambda kube: kube_pods.remove(kube, pod)


def _evict(drain: Drain, pod: dict, retry):
    def request(kube: Kube) -> bool:
        try:
            kube_pods.evict(kube, pod)
        except Refused as error:
            # 404: gone; 409: replaced by a pod of the same name, whose turn comes with the next step
            expected = error.status in (404, 409)
            retry(drain, kube_pods.uid(pod), None if expected else error.message)
            return False
        return True

    return request


def describe(drain: Drain) -> dict:
    return {
        "node": drain.member.name,
        "state": "drained" if drain.done else "failed" if drain.failed else "draining",
        "forced": drain.force,
        "refusals": sorted(set(drain.refusals.values())),
    }
