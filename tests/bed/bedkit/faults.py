"""What all faults have in common: skipping and counting of matches, and the list of active faults."""

import itertools


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
