"""Rows about the repository itself: its first clone, polls of many refs, and many fetches by one agent."""

import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import clones
from bedkit import agent, launch
from bedkit.failure import Failure
from bedkit.git import commit, git, make_bare, push
from bedkit.process import memory_mib
from bedkit.wait import until

from .cost import LIMIT, cpu, once
from .fleet import OPSY, WAITING, aws
from .wire import counted

POLLING = 20  # seconds
RANGE = 100  # fetches whose cost is averaged
BUILDER = clones.BUILDER.format(builder="{dir: packer}")

Figures = dict[str, float]


class Large(NamedTuple):
    """A repository with much incompressible history, by path and by HTTP."""

    root: Path
    path: Path
    url: str
    aws: dict[str, str]


@contextlib.contextmanager
def large(root: Path, commits: int, endpoint: str) -> Iterator[Large]:
    path = clones.make_repository(root / "served" / "large.git", commits)
    try:
        with launch.bed("git", root / "git.json", "--root", root / "served") as server:
            yield Large(root, path, f"{server['url']}/large.git", aws(endpoint))
    finally:
        shutil.rmtree(root)  # later rows need the space


def clone_by_path(repository: Large) -> Figures:
    """The first run of an agent beside clones of Git, for a path of this machine. For a path, Git makes hard links
    instead of reading the history, and ignores a depth.
    """
    path, url = str(repository.path), f"file://{repository.path}"
    return clone(repository, path, {"with links": [path], "": [url], "--depth=1": ["--depth=1", url]})


def clone_by_http(repository: Large) -> Figures:
    """The same for an HTTP address."""
    url = repository.url
    return clone(repository, url, {"": [url], "--depth=1": ["--depth=1", url]})


def clone(repository: Large, address: str, references: dict[str, list[str]]) -> Figures:
    target, state, seconds = repository.root / "clone.git", repository.root / "state", {}
    for name, arguments in references.items():
        label = f"git clone --bare {name}".strip()
        seconds[label] = once(["git", "clone", "--quiet", "--bare", *arguments, target]).wall
        shutil.rmtree(target)
    cost = once([OPSY, "run", "--once"], agent.environment(address, state, **repository.aws), WAITING)
    kept = clones.size(state) / 2**20
    if not (state / "clone").is_dir():
        raise Failure("there is no clone")
    shutil.rmtree(state)
    figures = {"CPU s": cost.cpu, "wall s": cost.wall, "peak RSS MiB": cost.peak_mib, "state MiB": kept}
    for label, wall in seconds.items():
        figures |= {f"{label}, s": wall, f"times {label}": cost.wall / wall}
    return figures


class Small(NamedTuple):
    """A repository with one suspended builder."""

    root: Path
    remote: Path
    work: Path
    aws: dict[str, str]


def small(root: Path, endpoint: str) -> Small:
    repository = Small(root, root / "served" / "small.git", root / "work", aws(endpoint))
    make_bare(repository.remote)
    git("clone", "--quiet", repository.remote, repository.work)
    (repository.work / "packer").mkdir()
    (repository.work / "packer" / "node.pkr.hcl").write_text("")
    (repository.work / "builder.yaml").write_text(BUILDER)
    # Without publishing, no commit of the agent interferes.
    (repository.work / "opsy.yaml").write_text("agentID: scale\npublish: {enabled: false}\n")
    commit(repository.work, "policy: first")
    push(repository.work)
    return repository


@contextlib.contextmanager
def many_refs(root: Path, count: int, endpoint: str) -> Iterator[Small]:
    """Return a context with a repository that has `count` pull requests, each with a commit of its own."""
    repository = small(root, endpoint)
    tip = git("rev-parse", "main", where=repository.remote).stdout.strip()
    text = "".join(
        f"commit refs/pull/{number}/head\ncommitter Ann <ann@test.invalid> {1_700_000_000 + number} +0000\n"
        f"data 1\nm\nfrom {tip}\n\n"
        for number in range(1, count + 1)
    )
    command = ["git", "fast-import", "--quiet"]
    subprocess.run(command, input=text.encode(), cwd=repository.remote, check=True)
    git("pack-refs", "--all", where=repository.remote)
    yield repository


def poll_by_http(repository: Small) -> Figures:
    """One poll when there is nothing new: bytes in both directions, and CPU time of the agent."""
    served = repository.remote.parent
    with launch.bed("git", repository.root / "git.json", "--root", served) as server, counted(server["port"]) as wire:
        url = f"http://127.0.0.1:{wire.port}/{repository.remote.name}"
        return {**poll(repository, url, lambda: wire.bytes)}


def poll_by_path(repository: Small) -> Figures:
    """The same for a path of this machine."""
    figures = poll(repository, str(repository.remote), lambda: 0)
    return {name: value for name, value in figures.items() if "bytes" not in name}


def poll(repository: Small, address: str, transferred) -> Figures:
    """Compare an agent that polls every second with one that never polls."""
    polling, idle = (polls(repository, address, interval, transferred) for interval in ("1s", "1h"))
    if polling.count < POLLING / 4 or idle.count:
        raise Failure(f"the agent polled {polling.count} times, and {idle.count} times with an interval of an hour")
    return {
        "bytes on the wire": (polling.bytes - idle.bytes) / polling.count,
        "CPU ms": (polling.cpu - idle.cpu) * 1000 / polling.count,
        "polls measured": float(polling.count),
    }


class Polls(NamedTuple):
    count: int
    cpu: float
    bytes: int


def polls(repository: Small, address: str, interval: str, transferred) -> Polls:
    """Run an agent, and count its successful syncs, of which there is at most one per second."""
    log, state = repository.root / "agent.log", repository.root / "state"
    environment = agent.environment(address, state, OPSY_INTERVAL=interval, OPSY_LISTEN="127.0.0.1:0", **repository.aws)
    with agent.run_agent(environment, log) as process:
        until("the first sync", lambda: '"synced"' in log.read_text(), LIMIT)
        listen = next(line["address"] for line in map(json.loads, log.open()) if "/metrics" in line["message"])
        time.sleep(3)  # until the effects of the start have ended
        before, sent, seen = cpu(process.pid), transferred(), {last_success(listen)}
        for _ in range(POLLING * 2):
            time.sleep(0.5)
            seen.add(last_success(listen))
        result = Polls(len(seen) - 1, cpu(process.pid) - before, transferred() - sent)
        if interval == "1s":
            follows(repository, log)
    shutil.rmtree(state)
    return result


def last_success(listen: str) -> int:
    """Return when an agent synced last, in seconds, from its metrics."""
    try:
        with urllib.request.urlopen(f"http://{listen}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    except OSError as error:
        raise Failure(f"the agent serves no metrics: {error}") from error
    return next(int(float(line.split()[1])) for line in lines if line.startswith("opsy_sync_last_success_timestamp"))


def follows(repository: Small, log: Path) -> None:
    """Check that the polls are real: a new commit is noticed."""
    (repository.work / "README").write_text(f"{time.time()}\n")
    tip = commit(repository.work, "docs: readme")
    push(repository.work)
    Log(log).until_synced(tip)


class Log:
    """The log of an agent, read from where the last look ended."""

    def __init__(self, path: Path) -> None:
        self._file = open(path)
        self._synced: set[str] = set()
        self._rest = ""

    def until_synced(self, tip: str) -> None:
        until(f"the sync of {tip}", lambda: tip in self._read(), LIMIT, pause=0.005)

    def _read(self) -> set[str]:
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        for line in lines:
            if '"synced' in line:
                self._synced.add(json.loads(line)["commit"])
        return self._synced


def fetches(root: Path, count: int, endpoint: str) -> tuple[Figures, Figures]:
    """The cost of the first and of the last of many commits that one agent fetches, each pushed on its own."""
    repository = small(root, endpoint)
    log = root / "agent.log"
    environment = agent.environment(repository.remote, root / "state", OPSY_INTERVAL="1h", **repository.aws)
    with agent.run_agent(environment, log) as process:
        until("the first sync", lambda: '"synced"' in log.read_text(), LIMIT)
        reading, sides = Log(log), []
        for start, end in ((0, RANGE), (RANGE, count - RANGE), (count - RANGE, count)):
            before, started = cpu(process.pid), time.monotonic()
            for number in range(start, end):
                fetch(repository, reading, number)
            sides.append(fetched(root, process.pid, cpu(process.pid) - before, time.monotonic() - started))
    return sides[0], sides[2]


def fetch(repository: Small, log: Log, number: int) -> None:
    (repository.work / "README.md").write_text(f"Commit {number} does not affect any manifest.\n")
    tip = commit(repository.work, f"docs: commit {number}")
    push(repository.work)
    log.until_synced(tip)


def fetched(root: Path, pid: int, used: float, wall: float) -> Figures:
    clone = root / "state" / "clone"
    return {
        "CPU ms per commit": used * 1000 / RANGE,
        "wall ms per commit, with the push": wall * 1000 / RANGE,
        "open files": float(len(os.listdir(f"/proc/{pid}/fd"))),
        "files of the clone": float(sum(path.is_file() for path in clone.rglob("*"))),
        "RSS MiB": memory_mib(pid),
    }
