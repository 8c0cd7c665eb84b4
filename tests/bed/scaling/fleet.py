"""A repository with many suspended builders, and an agent that follows it."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import bench
from bedkit import agent, launch
from bedkit.client import call
from bedkit.failure import Failure
from bedkit.git import commit, git, push
from bedkit.process import is_running

from .cost import LIMIT, PAUSE, until_quiet

OPSY = os.environ.get("OPSY", "opsy")
WAITING = 3  # the exit code of `opsy run --once` if only suspended objects remain


@contextlib.contextmanager
def emulated_aws(root: Path) -> Iterator[str]:
    """Run an emulated AWS as a context, whose value is its endpoint."""
    with launch.bed("aws", root / "aws.json", seconds=LIMIT) as bed:
        call(bed["endpoint"], "POST", "seed", {"account": bench.ACCOUNT, "region": "us-east-1", "cluster": "demo"})
        yield bed["endpoint"]


def aws(endpoint: str) -> dict[str, str]:
    """Return the variables for the emulated AWS."""
    return agent.aws(endpoint, f"AKIA{bench.ACCOUNT}SIZE")


class Fleet:
    """`count` suspended builders in a repository, and a state directory, which is empty at first.

    `endpoint` is that of an emulated AWS: suspended builders still read their images.
    """

    def __init__(self, root: Path, count: int, endpoint: str) -> None:
        root.mkdir(parents=True)
        self.root, self.count, self.state = root, count, root / "state"
        self.aws = aws(endpoint)
        self.remote, self.work = bench.repository(root)
        for number in range(count):
            self.write(number)
        commit(self.work, "policy: all builders")
        push(self.work)

    def write(self, number: int, days: int = 30) -> None:
        """Write the manifest of a builder. The time after which its images expire is what rows change."""
        (self.work / "builders" / f"node-{number:04}.yaml").write_text(bench.manifest(number, days))

    def change(self, message: str) -> str:
        """Commit and push the work tree on top of what the agent has pushed."""
        git("pull", "--quiet", "--rebase", "--autostash", "origin", "main", where=self.work)
        tip = commit(self.work, message)
        push(self.work)
        return tip

    def environment(self, repository: str | Path | None = None, **more: str) -> dict[str, str]:
        """Return the environment of an agent that looks for commits only when it is notified."""
        return agent.environment(repository or self.remote, self.state, **{"OPSY_INTERVAL": "1h", **self.aws, **more})

    def objects(self) -> dict[str, dict]:
        """Return the objects of the state directory by name."""
        command = [OPSY, "status", "--state", str(self.state), "--namespace", bench.NAMESPACE, "--output", "json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"opsy status: {done.stderr[-300:]}")
        return {item["name"]: item for item in json.loads(done.stdout)}

    def published(self) -> int:
        """Return the number of status files in the repository."""
        listed = git("ls-tree", "-r", "--name-only", "main", "status/", where=self.remote).stdout
        return sum("/packerbuilders/" in line for line in listed.splitlines())

    def missing(self) -> str:
        """Return what differs from the expected state: all objects are reconciled, suspended and published."""
        objects = self.objects()
        wrong = [name for name, item in objects.items() if not is_reconciled(item)]
        if len(objects) != self.count or wrong:
            return f"{len(objects)} of {self.count} objects exist, and {len(wrong)} of them are not reconciled"
        if (files := self.published()) != self.count:
            return f"{files} of {self.count} status files are published"
        return ""

    def check(self) -> None:
        if missing := self.missing():
            raise Failure(missing)


def is_reconciled(item: dict) -> bool:
    """Check that the status is that of a suspended builder in its current generation."""
    status = item.get("status") or {}
    ready = [entry for entry in status.get("conditions", []) if entry["type"] == "Ready"]
    return (
        status.get("observedGeneration") == item["generation"]
        and len(ready) == 1
        and ready[0]["reason"] == "Suspended"
    )


class Settled:
    """A fleet, and the running agent that has applied and published all of it, from an empty state directory."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.log = fleet.root / "agent.log"
        self._stack = contextlib.ExitStack()
        self._pid: int | None = None
        self._failure: Failure | None = None

    @property
    def pid(self) -> int:
        """Start the agent if necessary, and return its process ID. A failed start is not repeated."""
        if self._failure:
            raise self._failure
        if self._pid is None:
            process = self._stack.enter_context(agent.run_agent(self.fleet.environment(), self.log))
            self._pid = process.pid
            try:
                settle(self.fleet, process.pid)
            except Failure as failure:
                self._failure = failure
                self.stop()
                raise
        return self._pid

    def stop(self) -> None:
        """End the agent. The state directory and the repository remain."""
        self._stack.close()


def settle(fleet: Fleet, pid: int) -> None:
    """Wait until the agent has applied and published everything, and has nothing left to do."""
    deadline = time.monotonic() + LIMIT
    while fleet.published() != fleet.count:
        if not is_running(pid):
            raise Failure("the agent ended early")
        if time.monotonic() > deadline:
            raise Failure(f"the first run took longer than {LIMIT:g} s: {fleet.missing()}")
        time.sleep(PAUSE)
    until_quiet(pid, 0.0)
    # Each status gets the condition Published in the reconcile after the first push, so not before another commit.
    (fleet.work / "README.md").write_text("Builders.\n")
    fleet.change("docs: readme")
    until_quiet(pid, 0.0)
    fleet.check()


@contextlib.contextmanager
def settled(root: Path, count: int, endpoint: str) -> Iterator[Settled]:
    """Return a context with an agent that starts when a row needs it."""
    subject = Settled(Fleet(root, count, endpoint))
    try:
        yield subject
    finally:
        subject.stop()


@contextlib.contextmanager
def fresh(root: Path, count: int, endpoint: str) -> Iterator[Fleet]:
    """Return a context with a fleet that no agent has seen."""
    yield Fleet(root, count, endpoint)
