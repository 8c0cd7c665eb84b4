"""The heartbeats of emulated nodes: their Leases are renewed in real time, since the API server's time is real."""

import sys
import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import UTC, datetime

from .kube_client import Kube, Refused, Unreachable

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
# The bed's node lifecycle controller tolerates 16 seconds without a heartbeat, Kubernetes' default 50.
RENEW_SECONDS = 6
DURATION_SECONDS = 40
TICK_SECONDS = 0.25
# requests at the same time, so that a slow API server does not make nodes look dead
PARALLEL = 4


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Heartbeats(threading.Thread):
    """Renews the Leases of the nodes that `living` returns: pairs of name and UID."""

    def __init__(self, kube: Kube, living) -> None:
        super().__init__(name="heartbeats", daemon=True)
        self._kube, self._living = kube, living
        self._due: dict[str, float] = {}
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(PARALLEL, "heartbeats")

    def stop(self) -> None:
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            try:
                self._beat()
            except (Refused, Unreachable, RuntimeError, CancelledError) as error:
                if self._stopped.is_set():
                    return
                self._due.clear()
                print(f"heartbeats: {error}", file=sys.stderr)
                self._stopped.wait(1)

    def _beat(self) -> None:
        moment, living = time.monotonic(), dict(self._living())
        self._due = {name: due for name, due in self._due.items() if name in living}
        late = [name for name in living if self._due.get(name, 0) <= moment]
        self._due |= dict.fromkeys(late, moment + RENEW_SECONDS)
        for _ in self._pool.map(lambda name: self._renew(name, living[name]), late):
            pass  # raise the error of a request

    def _renew(self, name: str, uid: str) -> None:
        try:
            self._kube.patch(f"{LEASES}/{name}", {"spec": {"renewTime": now()}})
        except Refused as error:
            if error.status != 404:
                raise
            self._create(name, uid)

    def _create(self, name: str, uid: str) -> None:
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
        spec = {"holderIdentity": name, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": now()}
        lease = {"metadata": {"name": name, "ownerReferences": [owner]}, "spec": spec}
        try:
            self._kube.create(LEASES, lease)
        except Refused as error:
            # 409: another one has just created it; 404: the node's namespace is not there yet
            if error.status not in (404, 409):
                raise
