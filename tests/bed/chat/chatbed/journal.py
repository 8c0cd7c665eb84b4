"""Every request the bed received, in order, for tests to assert on."""

import hashlib
import itertools
import json
from collections import deque

from .server import Request

# Enough for hours of one agent; the oldest entries go first and are counted.
LIMIT = 20_000


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

    def read(self) -> list[dict]:
        return list(self._entries)

    def clear(self) -> list[dict]:
        gone = self.read()
        self._entries.clear()
        return gone


def digest(authorization: str | None) -> str | None:
    """Tells credentials apart without holding them; of `Bearer TOKEN`, the token's."""
    if not authorization:
        return None
    secret = authorization.partition(" ")[2] or authorization
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


def body_of(request: Request):
    """JSON as such, other text as text."""
    try:
        return json.loads(request.body) if request.body else None
    except ValueError:
        return request.text
