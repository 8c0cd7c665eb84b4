"""Emulated time of one account, and what becomes due as it passes.

Nothing runs by itself: transitions that are due run at the start of the
account's next request, in order of their due times, each seeing its own due
time as now. A node-group update of ten minutes is thus tested in milliseconds.
"""

import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime


class Clock:
    """now = start + (real time since start) * speed + what was advanced."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.frozen = False
        self._emulated = time.time()
        self._real = time.monotonic()
        self._pinned: float | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def timestamp(self) -> float:
        if self._pinned is not None:
            return self._pinned
        passed = 0.0 if self.frozen else (time.monotonic() - self._real) * self.speed
        return self._emulated + passed

    def now(self) -> datetime:
        """Naive UTC, the form moto's serialisers expect."""
        moment = datetime.fromtimestamp(self.timestamp(), UTC)
        return moment.replace(tzinfo=None)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        if seconds <= 0:
            action()
            return
        due = self.timestamp() + seconds
        heapq.heappush(self._due, (due, next(self._order), action))

    def run_due(self) -> None:
        horizon = self.timestamp()
        while self._due and self._due[0][0] <= horizon:
            due, _, action = heapq.heappop(self._due)
            self._pinned = due
            try:
                action()
            finally:
                self._pinned = None

    def advance(self, seconds: float) -> None:
        self._rebase(self.timestamp() + seconds)
        self.run_due()

    def freeze(self, frozen: bool) -> None:
        self._rebase(self.timestamp())
        self.frozen = frozen

    def set_speed(self, speed: float) -> None:
        self._rebase(self.timestamp())
        self.speed = speed

    def _rebase(self, emulated: float) -> None:
        self._emulated = emulated
        self._real = time.monotonic()

    def describe(self) -> dict:
        return {
            "now": self.now().isoformat() + "Z",
            "speed": self.speed,
            "frozen": self.frozen,
            "pending_transitions": len(self._due),
        }
