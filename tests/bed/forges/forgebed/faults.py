"""Faults: the requests that they match, and their effects."""

import re
from dataclasses import dataclass, field

import bedkit.faults

KINDS = {
    "status": "responds with an HTTP status, without executing",
    "reset": "resets the connection, without executing",
    "lost": "executes, then resets the connection",
    "slow": "waits, then executes",
    "push": "executes, then somebody pushes to the branch of a pull request",
    "comment": "executes, then somebody comments on a pull request",
}
MATCHERS = {"method", "place", "containing", "skip", "count"}


@dataclass
class Fault(bedkit.faults.Fault):
    """One rule. The first `skip` matching requests pass; `count` None means no limit."""

    id: int
    kind: str
    method: str = ""
    place: str = ""
    containing: str = ""
    skip: int = 0
    count: int | None = None
    hits: int = 0
    options: dict = field(default_factory=dict)

    def matches(self, method: str, path: str, body: str) -> bool:
        named = not self.method or self.method == method
        return named and bool(re.search(self.place, path) and re.search(self.containing, body))


class Faults(bedkit.faults.Faults):
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

    def hit(self, method: str, path: str, body: str) -> Fault | None:
        """Return the first fault that hits this request, and count the hit."""
        for fault in self._rules:
            if fault.matches(method, path, body) and self.applies(fault):
                return fault
        return None

    def describe(self) -> list[dict]:
        return [fault.describe() for fault in self._rules]

    def clear(self, fault_id: int | None = None) -> int:
        return self.keep(lambda fault: fault_id and fault.id != fault_id)
