"""A cluster of the emulated EKS that is connected to a real API server.

One thread compares what EC2 and EKS say about the nodes with what the API server says, and sends
what is missing. Decisions run under the application's lock and use the emulated clock; requests
run without the lock.
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from . import eks_rolling, kube_drains, kube_handler, kube_nodes, kube_work
from .kube_client import Kube, Refused, Unreachable
from .kube_drains import Drain
from .kube_leases import Heartbeats
from .kube_members import Members
from .kube_watch import Watch
from .world import world

NODES, PODS = "/api/v1/nodes", "/api/v1/pods"
BUDGETS = "/apis/policy/v1/poddisruptionbudgets"
# requests at the same time
PARALLEL = 8
# seconds: the longest pause between two looks, and the pause after a failed one
LONGEST_PAUSE, AFTER_FAILURE = 1.0, 0.2
# The cluster is settled after this many seconds without any change.
QUIET_SECONDS = 0.2
# how long the watches get to see what requests have changed
AFTER_REQUESTS = 0.01
START_SECONDS = 30
# the result of a request; a refused eviction changes nothing
DONE, REFUSED, FAILED = "done", "refused", "failed"


class Bridge:
    def __init__(self, app, members: Members, kube: Kube, taints: list[dict], handler: bool) -> None:
        self.members, self.kube, self.taints, self.handler = members, kube, taints, handler
        self.account, self.region, self.cluster = members.account, members.region, members.cluster
        self.owner = f"{self.account}/{self.region}/{self.cluster}"
        # instance -> its drain, and ARN of a node group -> its update
        self.drains: dict[str, Drain] = {}
        self.courses: dict[str, eks_rolling.Course] = {}
        self.errors: dict[str, int] = {}
        self._lock = app.lock
        self._wakes, self._stopped = threading.Event(), False
        # how many looks have begun and ended, and what the last one has found
        self._begun, self._ended = 0, 0
        self._settled, self._changed_at = False, time.monotonic()
        self._looked = threading.Condition()
        self._watches = {path: Watch(kube, path, self._heard) for path in (NODES, PODS, BUDGETS)}
        self._heartbeats = Heartbeats(kube, self._living)
        self._pool = ThreadPoolExecutor(PARALLEL, "bridge")
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)
        self.work = kube_work.Work(self)
        self._nodes: dict[str, dict] = {}
        # the namespaces of pods that were on a node of this cluster
        self._namespaces: set[str] = set()
        # the changes of the account after which the instances were looked at
        self._seen: tuple[int, int] | None = None

    def start(self) -> None:
        """Start, or raise the error of the first request."""
        self.kube.get(f"{NODES}?limit=1")
        for watch in self._watches.values():
            watch.start()
        for watch in self._watches.values():
            if not watch.synced.wait(START_SECONDS):
                raise Unreachable("the API server does not return its objects")
        self._heartbeats.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop, and leave the API server as it is."""
        self._stopped = True
        self.wake()
        self._heartbeats.stop()
        for watch in self._watches.values():
            watch.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def leave(self) -> None:
        """Stop, and delete the nodes and their pods."""
        self.stop()
        self._thread.join(START_SECONDS)
        by_node = kube_work.by_node(self._watches[PODS].objects().values())
        for name, node in self._watches[NODES].objects().items():
            if kube_nodes.owner_of(node) == self.owner:
                self._send(kube_work.leave(name, by_node.get(name, [])))
        self.kube.close()

    def wake(self) -> None:
        self._wakes.set()

    def wake_after(self, seconds: float) -> None:
        world.account(self.account).clock.after(seconds, self.wake)

    def wake_at(self, moment: float) -> None:
        clock = world.account(self.account).clock
        self.wake_after(moment - clock.timestamp())

    def _heard(self, objects: list[dict]) -> None:
        """Note changes of this cluster's nodes, and of what may run on them; others may share the API server."""
        if any(self._concerns(o) for o in objects):
            self._changed_at = time.monotonic()
        self.wake()

    def _concerns(self, item: dict) -> bool:
        if "namespace" not in item["metadata"]:
            return kube_nodes.owner_of(item) == self.owner
        is_unbound = "containers" in item["spec"] and not item["spec"].get("nodeName")
        return is_unbound or item["metadata"]["namespace"] in self._namespaces

    def _refresh_if_changed(self) -> None:
        account = world.account(self.account)
        seen = (account.changes, account.clock.ran)
        if seen != self._seen:
            self._seen = seen
            self.refresh()

    def refresh(self) -> None:
        """Look at the instances again. It runs under the application's lock."""
        self.members.refresh(self.wake)
        for gone in set(self.drains) - set(self.members.all):
            del self.drains[gone]

    def node(self, instance: str) -> dict | None:
        member = self.members.all.get(instance)
        return self._nodes.get(member.name) if member else None

    def is_ready(self, instance: str) -> bool:
        return kube_work.is_usable(self.node(instance))

    def _living(self) -> list[tuple[str, str]]:
        with self._lock:
            beating = {m.name for m in self.members.joined() if m.heartbeat}
        found = self._watches[NODES].objects()
        return [(name, found[name]["metadata"]["uid"]) for name in beating if name in found]

    def _run(self) -> None:
        while not self._stopped:
            self._wakes.wait(self._pause())
            self._wakes.clear()
            began = time.monotonic()
            try:
                failed = self._look()
            except Exception as error:  # a defect must not end the bridge without a trace
                failed = True
                self._note(error)
            if failed:
                time.sleep(AFTER_FAILURE)
                self.wake()
            # In a large cluster, something changes all the time: others get the lock and the CPU, too.
            time.sleep(min(LONGEST_PAUSE, time.monotonic() - began))

    def _pause(self) -> float:
        """Return how long nothing will be due, in real seconds."""
        with self._lock:
            due = world.account(self.account).clock.real_seconds_to_next()
        return LONGEST_PAUSE if due is None else min(LONGEST_PAUSE, max(0.01, due))

    def _look(self) -> bool:
        """Decide and act once. Return whether a request failed."""
        pods, found = self._watches[PODS].objects(), self._watches[NODES].objects()
        by_node = kube_work.by_node(pods.values())
        with self._lock:
            if self._stopped:  # its account may be gone
                return False
            self._begun += 1
            self._nodes, clock = found, world.account(self.account).clock
            clock.run_due()
            self._refresh_if_changed()
            ours = {m.name for m in self.members.all.values()}
            self._namespaces |= {p["metadata"]["namespace"] for n in ours & set(by_node) for p in by_node[n]}
            busy = self.work.busy(pods.values())
            requests = self._drain(by_node, busy, clock)
            eks_rolling.advance(self)
            if self.handler:
                kube_handler.advance(self)
            work, still = self.work.plan(found, by_node)
            requests += work
            still = still and not busy and not any(d.lags for d in self.drains.values())
        results = list(self._pool.map(self._send, requests)) if requests else []
        changed = any(r is not REFUSED for r in results)
        if changed:
            time.sleep(AFTER_REQUESTS)
            self._changed_at = time.monotonic()
            self.wake()
        with self._looked:
            self._ended = self._begun
            self._settled = still and not changed
            self._looked.notify_all()
        return FAILED in results

    def _drain(self, by_node: dict, busy: set[str], clock) -> list:
        requests, now = [], clock.timestamp()
        for drain in list(self.drains.values()):
            before, name = drain.open, drain.member.name
            pods = by_node.get(name, [])
            requests += kube_drains.step(drain, self._nodes.get(name), pods, busy, now, self._retry)
            if before and not drain.open:
                self.wake()
        return requests

    def _retry(self, drain: Drain, uid: str, reason: str | None) -> None:
        with self._lock:
            if reason is not None:
                drain.refusals[uid] = reason
            account = world.account(self.account)
            drain.retry[uid] = account.clock.timestamp() + account.settings.eviction_retry_seconds
            self.wake_after(account.settings.eviction_retry_seconds)

    def _send(self, request) -> str:
        try:
            return REFUSED if request(self.kube) is False else DONE
        except Refused as error:
            # what is there already, and what is gone already
            if error.status in (404, 409):
                return DONE
            self._note(error)
        except Exception as error:
            self._note(error)
        return FAILED

    def _note(self, error: Exception) -> None:
        """Report each error once."""
        text = f"{type(error).__name__}: {error}"
        if text not in self.errors and not self._stopped:
            print(f"bridge of {self.owner}: {text}", file=sys.stderr)
        self.errors[text] = self.errors.get(text, 0) + 1

    def settle(self, seconds: float, sees: bool = False) -> bool:
        """Wait, without the lock, until nothing is left to do and nothing changes. Return false after `seconds`.

        With `sees`, what others changed before the call counts, however late its events arrive.
        """
        deadline = time.monotonic() + seconds
        for watch in self._watches.values() if sees else ():
            while not self._stopped and not watch.is_current():
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.02)
        while not self._stopped:
            wanted = self._begun + 1
            self.wake()
            with self._looked:
                self._looked.wait_for(lambda: self._ended >= wanted, max(0.0, deadline - time.monotonic()))
                settled = self._ended >= wanted and self._settled
            quiet = self._changed_at + QUIET_SECONDS - time.monotonic()
            if settled and quiet <= 0:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(0.02, max(0.002, quiet)))
        return True
