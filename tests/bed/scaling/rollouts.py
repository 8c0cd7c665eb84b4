"""A cluster with many node groups, and an agent that rolls an image out to all of them on a fast clock."""

import contextlib
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import bench
from bedkit import agent
from bedkit.client import call
from bedkit.failure import Failure
from bedkit.git import commit, push
from bedkit.process import is_running, memory_mib

from .cost import LIMIT, PAUSE, cpu
from .fleet import OPSY

NODES = int(os.environ.get("OPSY_SCALE_NODES", "20"))  # per group
SPEED = 60  # emulated seconds per second
PARALLEL = 10
SEEDED = ("system", "web", "batch", "legacy")  # the groups that every seeded cluster has
ACCOUNTS = itertools.count(300000000001)

REFRESHER = """\
apiVersion: ami.opsy.dev/v1alpha1
kind: AMIRefresher
metadata: {{name: nodes, namespace: default}}
spec:
  region: us-east-1
  clusterName: demo
  exclude: [{excluded}]
  ami: {image}
  refreshConfig: {{maxUnavailablePercentage: 50}}
  rollout: {{maxParallel: {parallel}}}
"""

Figures = dict[str, float]


class Cluster:
    """A cluster with `count` node groups, in an account of its own."""

    def __init__(self, root: Path, count: int, endpoint: str) -> None:
        root.mkdir(parents=True)
        self.root, self.count, self.endpoint, self.account = root, count, endpoint, str(next(ACCOUNTS))
        seed = self.call("POST", "seed", region="us-east-1", cluster="demo")
        self.image = seed["base_images"]["v20260801"]
        for number in range(count):
            self.call("POST", "new-node-group", name=f"g-{number:03}", count=NODES, image=seed["initial_image"])
        self.remote, self.work = bench.repository(root)

    def call(self, method: str, path: str, **body):
        return call(self.endpoint, method, path, {"account": self.account, **body})

    def groups(self) -> list[dict]:
        state = call(self.endpoint, "GET", f"state?account={self.account}&region=us-east-1")
        return [group for group in state["node_groups"] if group["name"] not in SEEDED]

    def left(self) -> int:
        return sum(
            group["release_version"] != self.image or group["status"] != "ACTIVE" for group in self.groups()
        )

    def journal(self) -> list[dict]:
        return call(self.endpoint, "GET", f"journal?account={self.account}")


def rollout(cluster: Cluster) -> Figures:
    """One rollout to all groups, from the commit to the status Ready."""
    excluded = ", ".join(SEEDED)
    manifest = REFRESHER.format(excluded=excluded, image=cluster.image, parallel=PARALLEL)
    (cluster.work / "refreshers").mkdir()
    (cluster.work / "refreshers" / "nodes.yaml").write_text(manifest)
    commit(cluster.work, "policy: roll out")
    push(cluster.work)
    call(cluster.endpoint, "DELETE", f"journal?account={cluster.account}")
    call(cluster.endpoint, "POST", "clock", {"account": cluster.account, "speed": SPEED})
    keys = agent.aws(cluster.endpoint, f"AKIA{cluster.account}SIZE")
    environment = agent.environment(cluster.remote, cluster.root / "state", **{"OPSY_INTERVAL": "1h", **keys})
    started = time.monotonic()
    with agent.run_agent(environment, cluster.root / "agent.log") as process:
        until_ready(cluster, process.pid)
        wall, used = time.monotonic() - started, cpu(process.pid)
        peak = memory_mib(process.pid, "VmHWM")
    calls = [entry["operation"] for entry in cluster.journal()]
    if left := cluster.left():
        raise Failure(f"{left} of {cluster.count} groups do not run the image")
    return {
        "CPU s": used,
        "wall s": wall,
        "peak RSS MiB": peak,
        "AWS calls per group": len(calls) / cluster.count,
        "updates per group": calls.count("UpdateNodegroupVersion") / cluster.count,
    }


def until_ready(cluster: Cluster, pid: int) -> None:
    deadline = time.monotonic() + LIMIT
    while reason(cluster) != "UpToDate":
        if not is_running(pid):
            raise Failure(f"the agent ended early: {(cluster.root / 'agent.log').read_text()[-300:]}")
        if time.monotonic() > deadline:
            raise Failure(f"the rollout took longer than {LIMIT:g} s: {cluster.left()} groups are left")
        time.sleep(PAUSE)


def reason(cluster: Cluster) -> str:
    """Return the reason of Ready, or an empty string if there is no status yet."""
    state = cluster.root / "state"
    command = [OPSY, "status", "--state", str(state), "--namespace", "default", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return ""
    found = [item for item in json.loads(done.stdout) if item["name"] == "nodes"]
    conditions = (found[0].get("status") or {}).get("conditions", []) if found else []
    return next((entry["reason"] for entry in conditions if entry["type"] == "Ready"), "")


@contextlib.contextmanager
def cluster(root: Path, count: int, endpoint: str) -> Iterator[Cluster]:
    """Return a context with a cluster that no agent has seen."""
    yield Cluster(root, count, endpoint)
