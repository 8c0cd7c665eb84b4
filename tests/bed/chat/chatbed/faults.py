"""Faults: which requests they hit, and what those get instead of their answer."""

import itertools
import re
from dataclasses import dataclass, field

KINDS = {
    "status": "any HTTP status, without running",
    "error": "a Slack error in a 200, without running",
    "reset": "a connection reset, without running",
    "lost": "runs, and then a connection reset",
    "slow": "waits, then runs",
    "slow_after": "runs, then waits with the answer",
}
MATCHERS = {"place", "containing", "skip", "count"}


@dataclass
class Fault:
    """One rule. `count` None means for ever; `skip` requests pass unharmed first."""

    id: int
    kind: str
    place: str = ""
    containing: str = ""
    skip: int = 0
    count: int | None = None
    hits: int = 0
    options: dict = field(default_factory=dict)

    def matches(self, path: str, body: str) -> bool:
        return bool(re.search(self.place, path) and re.search(self.containing, body))

    @property
    def seconds(self) -> float:
        return float(self.options.get("seconds", 1))

    def describe(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "options"} | self.options


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, wanted: dict) -> Fault:
        kind = wanted.get("kind")
        if kind not in KINDS:
            raise ValueError(f"unknown fault kind {kind!r}; known: {sorted(KINDS)}")
        given = {k: v for k, v in wanted.items() if k in MATCHERS and v is not None}
        options = {k: v for k, v in wanted.items() if k not in MATCHERS | {"kind"}}
        for pattern in (given.get("place", ""), given.get("containing", "")):
            re.compile(pattern)
        fault = Fault(next(self._ids), kind, options=options, **given)
        self._rules.append(fault)
        return fault

    def hit(self, path: str, body: str) -> Fault | None:
        """The first that matches, counted."""
        for fault in self._rules:
            if not fault.matches(path, body):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.hits += 1
            if fault.count is not None and fault.hits >= fault.count:
                self._rules.remove(fault)
            return fault
        return None

    def describe(self) -> list[dict]:
        return [fault.describe() for fault in self._rules]

    def clear(self, fault_id: int | None = None) -> int:
        keep = [fault for fault in self._rules if fault_id and fault.id != fault_id]
        gone = len(self._rules) - len(keep)
        self._rules = keep
        return gone
