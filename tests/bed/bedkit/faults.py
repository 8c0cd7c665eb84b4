"""What all faults have in common: skipping and counting of matches, and the list of active faults.

Applications that emulate web services have faults of HTTP requests, which are the same in all of them.
"""

import itertools
import re
from dataclasses import dataclass, field


class Fault:
    """Base of a dataclass with at least `id`, `skip`, `count` (None: no limit), `hits` and `options`."""

    def describe(self) -> dict:
        """Return all members, and the options as members of their own."""
        return {name: value for name, value in self.__dict__.items() if name != "options"} | self.options


class Faults:
    """The active faults."""

    def __init__(self) -> None:
        self._rules: list = []
        self._ids = itertools.count(1)

    def applies(self, fault) -> bool:
        """Count a match. Return whether the fault applies to it: not to the first `skip`, and to `count` at most."""
        if fault.skip > 0:
            fault.skip -= 1
            return False
        fault.hits += 1
        if fault.count is not None and fault.hits >= fault.count:
            self._rules.remove(fault)
        return True

    def keep(self, keeps) -> int:
        """Remove all faults but those that `keeps` returns true for, and return the number of removed ones."""
        kept = [fault for fault in self._rules if keeps(fault)]
        gone = len(self._rules) - len(kept)
        self._rules = kept
        return gone


# The kinds that every application knows, with their effects.
REQUEST_KINDS = {
    "status": "responds with an HTTP status, without executing",
    "reset": "resets the connection, without executing",
    "lost": "executes, then resets the connection",
    "slow": "waits, then executes",
    "slow_after": "executes, then waits before the response",
}
MATCHERS = {"method", "place", "containing", "skip", "count"}


@dataclass
class RequestFault(Fault):
    """A fault of HTTP requests. The first `skip` matching requests pass; `count` None means no limit."""

    id: int
    kind: str
    method: str = ""
    place: str = ""
    containing: str = ""
    skip: int = 0
    count: int | None = None
    hits: int = 0
    options: dict = field(default_factory=dict)

    def matches(self, request) -> bool:
        named = not self.method or self.method == request.method
        return named and bool(re.search(self.place, request.path) and re.search(self.containing, request.text))

    @property
    def seconds(self) -> float:
        return float(self.options.get("seconds", 1))


class RequestFaults(Faults):
    """The active faults of HTTP requests."""

    def __init__(self, kinds: dict[str, str]) -> None:
        super().__init__()
        self._kinds = REQUEST_KINDS | kinds

    def add(self, wanted: dict) -> RequestFault:
        kind = wanted.get("kind")
        if kind not in self._kinds:
            raise ValueError(f"unknown fault kind {kind!r}; known: {sorted(self._kinds)}")
        given = {k: v for k, v in wanted.items() if k in MATCHERS and v is not None}
        options = {k: v for k, v in wanted.items() if k not in MATCHERS | {"kind"}}
        for pattern in (given.get("place", ""), given.get("containing", "")):
            re.compile(pattern)
        fault = RequestFault(next(self._ids), kind, options=options, **given)
        self._rules.append(fault)
        return fault

    def hit(self, request) -> RequestFault | None:
        """Return the first fault that hits this request, and count the hit."""
        for fault in self._rules:
            if fault.matches(request) and self.applies(fault):
                return fault
        return None

    def describe(self) -> list[dict]:
        return [fault.describe() for fault in self._rules]

    def clear(self, fault_id: int | None = None) -> int:
        return self.keep(lambda fault: fault_id and fault.id != fault_id)


def list_faults(app, asked: dict) -> list:
    return app.faults.describe()


def add_fault(app, asked: dict) -> dict:
    return app.faults.add(asked).describe()


def clear_faults(app, asked: dict) -> dict:
    return {"cleared": app.faults.clear(int(asked["id"]) if "id" in asked else None)}


# The control endpoints of the faults of an application.
CONTROLS = {
    ("GET", "faults"): list_faults,
    ("POST", "faults"): add_fault,
    ("DELETE", "faults"): clear_faults,
}
