"""Rows about many objects: first and second run, memory, one change, no change, a refused push, and state writes."""

import shutil
import time
from pathlib import Path

import bench
from bedkit import agent, launch
from bedkit.failure import Failure
from bedkit.process import memory_mib
from bedkit.wait import until

from .cost import LIMIT, PAUSE, Skipped, cpu, once, until_quiet
from .fleet import OPSY, WAITING, Fleet, Settled

IDLE = 30  # seconds before the resident size counts as idle
SYNCS = ("fsync", "fdatasync", "syncfs", "sync", "msync", "sync_file_range")
# Rejects and records what comes over HTTP, and accepts what the benchmark itself pushes by path. The current directory is
# that of the repository.
HOOK = """#!/bin/sh
[ -z "$REMOTE_ADDR" ] && exit 0
touch rejected
echo "this branch is protected" >&2
exit 1
"""
CHANGED = 7  # the number of the builder that is changed
ONCE = [OPSY, "run", "--once"]

Figures = dict[str, float]


def first(fleet: Fleet) -> Figures:
    """`opsy run --once` with an empty state directory."""
    cost = once(ONCE, fleet.environment(), WAITING)
    fleet.check()
    return {"CPU s": cost.cpu, "kernel CPU s": cost.kernel, "wall s": cost.wall, "peak RSS MiB": cost.peak_mib}


def writes(fleet: Fleet) -> Figures:
    """The calls that make files durable in the same run, per object."""
    if not shutil.which("strace"):
        raise Skipped("strace is not installed")
    counts = fleet.root / "strace"
    once(["strace", "-f", "-c", "-o", counts, "-e", "trace=" + ",".join(SYNCS), *ONCE], fleet.environment(), WAITING)
    fleet.check()
    calls = sync_calls(counts.read_text())
    return {"sync calls": float(calls), "sync calls per object": calls / fleet.count}


def sync_calls(summary: str) -> int:
    """Return the number of calls in a summary of strace, without its last line, which is the total."""
    lines = [line.split() for line in summary.splitlines()]
    return sum(int(fields[3]) for fields in lines if len(fields) > 4 and fields[-1] in SYNCS)


def again(settled: Settled) -> Figures:
    """`opsy run --once` when there is nothing to do."""
    _ = settled.pid
    settled.stop()
    before = published_tip(settled.fleet)
    cost = once(ONCE, settled.fleet.environment(), WAITING)
    settled.fleet.check()
    if published_tip(settled.fleet) != before:
        raise Failure("there was something to publish")
    return {"CPU s": cost.cpu, "wall s": cost.wall, "peak RSS MiB": cost.peak_mib}


def published_tip(fleet: Fleet) -> str:
    return (fleet.remote / "refs" / "heads" / "main").read_text()


def memory(settled: Settled) -> Figures:
    """The memory of an agent that has done the first run, and its CPU time while nothing happens."""
    pid = settled.pid
    before = cpu(pid)
    time.sleep(IDLE)
    idle, peak = memory_mib(pid), memory_mib(pid, "VmHWM")
    return {
        "peak RSS MiB": peak,
        "idle RSS MiB": idle,
        "idle KiB per object": idle * 1024 / settled.fleet.count,
        f"idle CPU ms in {IDLE} s": (cpu(pid) - before) * 1000,
    }


def change(settled: Settled) -> Figures:
    """One manifest of many changes: until its status is current, and nothing is left to do."""
    pid, fleet, name = settled.pid, settled.fleet, f"node-{CHANGED:04}"
    generation = fleet.objects()[name]["generation"]
    fleet.write(CHANGED, days=30 + generation)
    before, started = cpu(pid), time.monotonic()
    fleet.change("policy: one change")
    seen = until(name, lambda: observed(fleet, name) > generation and time.monotonic(), LIMIT, PAUSE)
    used = until_quiet(pid, before)
    fleet.check()
    generations = [item["generation"] for item in fleet.objects().values()]
    if generations.count(generation) != fleet.count - 1:
        raise Failure("another object has a new generation")
    return {"CPU s": used, "wall s": seen - started}


def observed(fleet: Fleet, name: str) -> int:
    return fleet.objects()[name]["status"]["observedGeneration"]


def readme(settled: Settled) -> Figures:
    """A commit that concerns no object: until the agent has followed it, and nothing is left to do."""
    pid, fleet = settled.pid, settled.fleet
    (fleet.work / "README.md").write_text(f"This file does not affect any manifest. {time.time()}\n")
    before, objects = cpu(pid), fleet.objects()
    tip = fleet.change("docs: readme")
    until("the commit", lambda: tip in settled.log.read_text(), LIMIT, PAUSE)
    used = until_quiet(pid, before)
    if fleet.objects() != objects:
        raise Failure("the commit changed objects")
    return {"CPU s": used}


def refused(settled: Settled) -> Figures:
    """The server refuses a push of status, because the branch is protected."""
    _ = settled.pid
    settled.stop()
    fleet = settled.fleet
    with launch.bed("git", fleet.root / "git.json", "--root", fleet.root) as server:
        url = f"{server['url']}/{fleet.remote.name}"
        with agent.run_agent(fleet.environment(url, OPSY_INTERVAL="3s"), fleet.root / "refused.log") as process:
            return refuse(fleet, process.pid, fleet.root / "refused.log")


def refuse(fleet: Fleet, pid: int, log: Path) -> Figures:
    until("the first sync", lambda: '"synced"' in log.read_text(), LIMIT, PAUSE)
    until_quiet(pid, 0.0)
    hook = fleet.remote / "hooks" / "pre-receive"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    objects, written, before = fleet.objects(), bytes_written(pid), cpu(pid)
    # The status file of a deleted builder is deleted, so there is something to push.
    (fleet.work / "builders" / f"node-{CHANGED:04}.yaml").unlink()
    fleet.change("policy: one builder less")
    until("the refusal", (fleet.remote / "rejected").exists, LIMIT, PAUSE)
    used = until_quiet(pid, before)
    hook.unlink()
    after = fleet.objects()
    if set(objects) - set(after) != {f"node-{CHANGED:04}"}:
        raise Failure("the builder is not deleted")
    return {
        "CPU s": used,
        "objects with changed state": float(sum(after[name] != objects[name] for name in after)),
        "KiB written": (bytes_written(pid) - written) / 1024,
    }


def bytes_written(pid: int) -> int:
    """Return how many bytes a process has written to files, pipes and sockets."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))
