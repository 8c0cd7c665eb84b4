"""Every call the bed received, in order, for tests to assert on."""

import itertools
import json
from collections import deque

# Enough for hours of one agent; the oldest entries go first and are counted.
LIMIT = 100_000


class Journal:
    def __init__(self) -> None:
        self._entries: deque[dict] = deque()
        self._numbers = itertools.count(1)
        self.dropped = 0

    def add(self, entry: dict) -> None:
        self._entries.append({"number": next(self._numbers), **entry})
        if len(self._entries) > LIMIT:
            self._entries.popleft()
            self.dropped += 1

    def read(self, account: str | None = None) -> list[dict]:
        chosen = [e for e in self._entries if account in (None, e["account"])]
        return json.loads(json.dumps(chosen, default=str))

    def clear(self, account: str | None = None) -> list[dict]:
        gone = self.read(account)
        self._entries = deque(e for e in self._entries if account not in (None, e["account"]))
        return gone
