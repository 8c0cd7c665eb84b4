"""Measures the cost of an idle agent: 20 builders and 5 refreshers of one cluster with a 10 s timer, for a minute.

Run by `make idle`. It prints the AWS calls by operation, and the CPU seconds and resident memory of the agent.
"""

import collections
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from bedkit import agent, launch
from bedkit.client import call
from bedkit.failure import run
from bedkit.git import commit, git, make_bare, push
from bedkit.process import cpu_seconds, memory_mib

FIXTURE = pathlib.Path(__file__).resolve().parents[1] / "it" / "fixtures" / "repo"
ACCOUNT = "200000000001"
BUILDERS, REFRESHERS, SECONDS = 20, 5, 60


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        with launch.bed("aws", root / "aws.json", output=None) as bed:
            measure(root, bed["endpoint"])


def measure(root: pathlib.Path, endpoint: str) -> None:
    call(endpoint, "POST", "seed", {"account": ACCOUNT, "region": "us-east-1", "cluster": "demo"})
    remote = make_repository(root)
    environment = agent.environment(remote, root / "state", PKR_VAR_endpoint=endpoint)
    environment |= agent.aws(endpoint, f"AKIA{ACCOUNT}IDLE")
    once = [os.environ["OPSY"], "run", "--once"]
    subprocess.run(once, env=environment, check=True, stderr=subprocess.DEVNULL)
    with agent.run_agent(environment, root / "agent.log") as process:
        time.sleep(15)  # the first reconcile of every object
        call(endpoint, "DELETE", f"journal?account={ACCOUNT}")
        before = cpu_seconds(process.pid)
        time.sleep(SECONDS)
        report(endpoint, process.pid, cpu_seconds(process.pid) - before)


def make_repository(root: pathlib.Path) -> pathlib.Path:
    work, remote = root / "work", root / "remote.git"
    make_bare(remote)
    git("clone", "--quiet", remote, work)
    shutil.copytree(FIXTURE / "packer", work / "packer")
    shutil.copy(FIXTURE / "opsy.yaml", work)
    builder = (FIXTURE / "builders" / "node.yaml").read_text()
    refresher = (FIXTURE / "refreshers" / "demo.yaml").read_text()
    for number in range(BUILDERS):
        (work / f"builder-{number}.yaml").write_text(builder.replace("name: node\n", f"name: node-{number}\n", 1))
    for number in range(REFRESHERS):
        text = refresher.replace("name: demo\n", f"name: demo-{number}\n", 1)
        (work / f"refresher-{number}.yaml").write_text(text.replace("packerBuilder: node", "packerBuilder: node-0"))
    commit(work, "policy")
    push(work)
    return remote


def report(endpoint: str, pid: int, cpu: float) -> None:
    journal = call(endpoint, "GET", f"journal?account={ACCOUNT}")
    entries = journal if isinstance(journal, list) else journal["entries"]
    calls = collections.Counter(f"{entry['service']}:{entry['operation']}" for entry in entries)
    print(f"{BUILDERS} builders, {REFRESHERS} refreshers, {SECONDS} s idle with a 10 s timer")
    print(f"AWS calls: {sum(calls.values())}")
    for name, count in calls.most_common():
        print(f"  {count:4} {name}")
    print(f"CPU: {cpu:.2f} s")
    print(f"RSS: {memory_mib(pid):.1f} MiB")


if __name__ == "__main__":
    run(main)
