"""Measures how the costs of a standalone agent grow, from a tenth of the objects to all of them.

Run by `make scale`. ROWS selects rows by name. OPSY_SCALE_COUNT is the number of builders, OPSY_SCALE_COMMITS that of
commits in the large repository, OPSY_SCALE_REFS that of pull requests, OPSY_SCALE_FETCHES that of fetched commits,
OPSY_SCALE_GROUPS that of node groups, OPSY_SCALE_NODES that of nodes in each of them, OPSY_SCALE_MANIFESTS that of
manifests in a plan, and OPSY_SCALE_LIMIT the limit for any one step in seconds. Both figures of a row are from the
same run on the same machine.
"""

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from bedkit.failure import Failure, run
from scaling import fleet, objects, plans, repositories, rollouts
from scaling.cost import Skipped
from scaling.objects import Figures

Result = Figures | Failure | Skipped


def number(variable: str, default: int) -> int:
    return int(os.environ.get(f"OPSY_SCALE_{variable}", default))


class Group(NamedTuple):
    """Rows that share a subject: a fleet, or a repository. `open` makes it in a directory, for a number of
    things and the endpoint of an emulated AWS.
    """

    things: str
    count: int
    open: Callable
    rows: dict[str, Callable[..., Figures]]


COUNT = number("COUNT", 10_000)
GROUPS = (
    Group("builders", COUNT, fleet.fresh, {"first": objects.first}),
    Group(
        "builders",
        COUNT,
        fleet.settled,
        # In this order: the last two end the agent that the others share.
        {
            "memory": objects.memory,
            "change": objects.change,
            "readme": objects.readme,
            "again": objects.again,
            "refused": objects.refused,
        },
    ),
    Group("builders", COUNT, fleet.fresh, {"writes": objects.writes}),
    Group("node groups", number("GROUPS", 50), rollouts.cluster, {"rollout": rollouts.rollout}),
    Group(
        "manifests",
        number("MANIFESTS", 1_000),
        plans.repository,
        {"plan-offline": plans.offline, "plan-live": plans.live},
    ),
    Group(
        "commits of 100 KB",
        number("COMMITS", 4_900),
        repositories.large,
        {"clone-path": repositories.clone_by_path, "clone-http": repositories.clone_by_http},
    ),
    Group(
        "pull requests",
        number("REFS", 20_000),
        repositories.many_refs,
        {"poll-path": repositories.poll_by_path, "poll-http": repositories.poll_by_http},
    ),
)
FETCHES = "fetches"
NAMES = [name for group in GROUPS for name in group.rows] + [FETCHES]


def main() -> None:
    wanted = selected(os.environ.get("ROWS", "").split())
    print(f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}\n")
    failed = []
    with tempfile.TemporaryDirectory() as scratch, fleet.emulated_aws(Path(scratch)) as endpoint:
        for group in GROUPS:
            rows = [name for name in group.rows if name in wanted]
            if rows:
                results = both(Path(scratch), group, rows, endpoint)
                failed += report(group.things, (group.count // 10, group.count), results)
        if FETCHES in wanted:
            failed += fetches(Path(scratch), endpoint)
    if failed:
        raise Failure(f"failed: {', '.join(failed)}")


def selected(words: list[str]) -> list[str]:
    """Return the rows that the words name, or all. A word also names the rows that begin with it."""
    for word in words:
        if not any(name.startswith(word) for name in NAMES):
            raise Failure(f"no row {word}; rows: {' '.join(NAMES)}")
    return [name for name in NAMES if not words or any(name.startswith(word) for word in words)]


def both(scratch: Path, group: Group, rows: list[str], endpoint: str) -> dict[str, list[Result]]:
    """Measure the rows of a group with a tenth of its things, and with all of them.

    Their files remain until all rows are measured: after many files were deleted, ext4 uses much CPU time to create others.
    """
    results: dict[str, list[Result]] = {name: [] for name in rows}
    for count in (group.count // 10, group.count):
        root = scratch / f"{rows[0]}-{count}"
        with group.open(root, count, endpoint) as subject:
            for name in rows:
                print(f"measuring {name}, {count:,} {group.things}", file=sys.stderr, flush=True)
                results[name].append(result := attempt(group.rows[name], subject))
                print(f"  {brief(result)}", file=sys.stderr, flush=True)
    return results


def attempt(measure: Callable[..., Figures], subject) -> Result:
    try:
        return measure(subject)
    except (Failure, Skipped) as reason:
        return reason


def brief(result: Result) -> str:
    """Return a result on one line, which shows the progress of a long run."""
    if isinstance(result, Exception):
        return str(result)
    return ", ".join(f"{name} {shown(value)}" for name, value in result.items())


def report(things: str, counts: tuple[int, int], results: dict[str, list[Result]]) -> list[str]:
    """Print rows, and return the names of those that failed."""
    for name, (small, large) in results.items():
        print(f"{name:42} {counts[0]:>12,} {counts[1]:>12,} {things}")
        for line in lines(small, large):
            print(f"  {line}")
        print(flush=True)
    return [name for name, pair in results.items() if any(isinstance(result, Failure) for result in pair)]


def lines(small: Result, large: Result) -> Iterable[str]:
    """Return one line per figure, with the growth, and the messages of failures in place of figures."""
    for result in (small, large):
        if isinstance(result, Exception):
            yield f"{'skipped' if isinstance(result, Skipped) else 'FAILED'}: {result}"
    names = next((list(result) for result in (large, small) if isinstance(result, dict)), [])
    for name in names:
        values = [result[name] if isinstance(result, dict) else None for result in (small, large)]
        growth = f"{values[1] / values[0]:6.1f} times" if all(values) else ""
        yield f"{name:40} {shown(values[0]):>12} {shown(values[1]):>12} {growth}".rstrip()


def shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def fetches(scratch: Path, endpoint: str) -> list[str]:
    count = number("FETCHES", 1_000)
    if count < 2 * repositories.RANGE:
        raise Failure(f"OPSY_SCALE_FETCHES must be at least {2 * repositories.RANGE}")
    print(f"measuring {FETCHES}", file=sys.stderr, flush=True)
    try:
        results: list[Result] = list(repositories.fetches(scratch / FETCHES, count, endpoint))
    except Failure as failure:
        results = [failure, failure]
    return report("commits fetched; the cost of the last 100", (repositories.RANGE, count), {FETCHES: results})


if __name__ == "__main__":
    run(main)
