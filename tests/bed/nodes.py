"""Measures what it costs the test bed to roll many node groups of a connected cluster.

It starts the emulated AWS and a real control plane, creates groups with workloads and budgets,
updates all groups at once on a fast clock, and prints one line per step: real time, CPU time of
the emulated AWS, and how long its calls take meanwhile. It fails if a group is not updated.

OPSY_BENCH_GROUPS (50) and OPSY_BENCH_NODES (20, per group) select the size, OPSY_BENCH_SPEED (60)
the emulated seconds per real second.
"""

import itertools
import os
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "aws"), str(HERE / "aws" / "tests")]

from awsclient import Bed  # noqa: E402
from connected import Connected  # noqa: E402

from bedkit import launch  # noqa: E402
from bedkit.process import cpu_seconds, memory_mib  # noqa: E402
from bedkit.wait import until  # noqa: E402

GROUPS, NODES = (int(os.environ.get(f"OPSY_BENCH_{k}", d)) for k, d in (("GROUPS", 50), ("NODES", 20)))
SPEED = float(os.environ.get("OPSY_BENCH_SPEED", 60))
ACCOUNT = "100000000001"
# pods per group, of which one may be unavailable
PODS = 5
LIMIT_SECONDS = 1800


class Measure:
    def __init__(self, pid: int) -> None:
        self.pid = pid

    @contextmanager
    def step(self, what: str):
        began, cpu = time.monotonic(), cpu_seconds(self.pid)
        yield
        seconds, cpu = time.monotonic() - began, cpu_seconds(self.pid) - cpu
        print(f"{what:44} {seconds:8.1f} s  {cpu:8.1f} s CPU  {memory_mib(self.pid):6.0f} MiB", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            launch.control_plane(folder / "plane", folder / "address.json") as plane,
            launch.bed("aws", folder / "bed.json", output=None) as info,
        ):
            run(plane, Bed(info, ACCOUNT), Measure(info["pid"]))


def run(plane: dict, bed: Bed, measure: Measure) -> None:
    names = [f"group-{number:02}" for number in range(GROUPS)]
    bed.seed()
    with measure.step(f"create {GROUPS} groups of {NODES} nodes"):
        for name in names:
            bed.control("POST", "new-node-group", name=name, count=NODES)
    with measure.step(f"connect {GROUPS * NODES} nodes"):
        cluster = Connected(bed, plane)
    with measure.step(f"run {GROUPS * PODS} pods with budgets"):
        for name in names:
            cluster.create("/apis/apps/v1", "deployments", deployment(cluster, name))
            cluster.create("/apis/policy/v1", "poddisruptionbudgets", budget(name))
        until("the pods", lambda: len(ready_pods(cluster)) == GROUPS * PODS, 300)
    with measure.step("stay idle for 10 s"):
        time.sleep(10)
    bed.control("POST", "clock", freeze=False, speed=SPEED)
    began = bed.control("GET", "clock")["now"]
    cluster.bed.control("POST", "settings", eviction_retry_seconds=30)
    with measure.step("update all groups"):
        updates = [cluster.update(name, settle=False) for name in names]
        latencies = list(poll(updates))
    print(f"emulated time: {began} to {bed.control('GET', 'clock')['now']}")
    quantiles = statistics.quantiles(latencies, n=100)
    print(f"{len(latencies)} DescribeUpdate: median {quantiles[49] * 1000:.0f} ms, 99th {quantiles[98] * 1000:.0f} ms")
    problems = check(cluster, names)
    sys.exit("\n".join(problems) if problems else 0)


def deployment(cluster: Connected, name: str) -> dict:
    template = cluster.template(name, name)
    selector = {"matchLabels": {"app": name}}
    return {"metadata": {"name": name}, "spec": {"replicas": PODS, "selector": selector, "template": template}}


def budget(name: str) -> dict:
    return {"metadata": {"name": name}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}}}


def ready_pods(cluster: Connected) -> list[dict]:
    return [p for p in cluster.pods() if p["status"].get("phase") == "Running"]


def poll(updates: list):
    """Ask for one update after the other until all have ended; yield the duration of each call."""
    deadline = time.monotonic() + LIMIT_SECONDS
    open_ = list(updates)
    for number in itertools.count():
        if not open_:
            return
        if time.monotonic() > deadline:
            sys.exit(f"{len(open_)} updates did not end")
        update, began = open_[number % len(open_)], time.monotonic()
        found = update.describe()
        yield time.monotonic() - began
        if found["status"] != "InProgress":
            open_.remove(update)
        if found["status"] == "Failed":
            print(f"{update.group}: {found['errors'][0]['errorCode']}", flush=True)
        time.sleep(0.02)


def check(cluster: Connected, names: list[str]) -> list[str]:
    cluster.bed.control("POST", "clock", freeze=True)
    cluster.bed.control("POST", "settle", seconds=30)
    state = {g["name"]: g for g in cluster.bed.state()["node_groups"]}
    nodes = cluster.nodes()
    problems = [f"{n}: not updated" for n in names if state[n]["launch_template"]["version"] != "2"]
    found = [n["metadata"]["labels"].get("eks.amazonaws.com/nodegroup") for n in nodes]
    problems += [f"{n}: {found.count(n)} nodes" for n in names if found.count(n) != NODES]
    return problems


if __name__ == "__main__":
    main()
