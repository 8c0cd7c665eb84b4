"""The journal of all requests that a bed received, in order, for assertions of tests."""

import itertools
import threading
from collections import deque


class Journal:
    """A list of entries. Threads may share it."""

    def __init__(self) -> None:
        self._entries: deque[dict] = deque()
        self._lock = threading.Lock()

    def add(self, entry: dict) -> None:
        with self._lock:
            self._entries.append(entry)

    def read(self) -> list[dict]:
        with self._lock:
            return list(self._entries)

    def clear(self) -> list[dict]:
        """Remove all entries and return them."""
        return self.remove(lambda entry: True)

    def remove(self, chosen) -> list[dict]:
        """Remove the entries for which `chosen` returns true, and return them."""
        with self._lock:
            gone = [entry for entry in self._entries if chosen(entry)]
            self._entries = deque(entry for entry in self._entries if not chosen(entry))
        return gone


class NumberedJournal(Journal):
    """A journal whose entries have a `number`. Beyond the limit, the oldest entries are dropped and counted."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.dropped = 0
        self._numbers = itertools.count(1)

    def add(self, entry: dict) -> None:
        with self._lock:
            self._entries.append({"number": next(self._numbers), **entry})
            if len(self._entries) > self.limit:
                self._entries.popleft()
                self.dropped += 1


def read_journal(owner, asked: dict) -> list:
    """Return the journal of a server or an application."""
    return owner.journal.read()


def clear_journal(owner, asked: dict) -> list:
    """Return and clear the journal of a server or an application."""
    return owner.journal.clear()


# The control endpoints of a journal.
CONTROLS = {("GET", "journal"): read_journal, ("DELETE", "journal"): clear_journal}
