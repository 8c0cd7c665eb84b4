"""Emulated time of one account, and the transitions that become due as it passes.

Nothing runs in the background: due transitions run at the start of the
account's next request, in the order of their due times, and each one sees its
own due time as the current time. A node group update of ten minutes can thus
be tested in milliseconds.
"""

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import bedkit.clock


class Clock(bedkit.clock.Clock):
    """A clock with transitions."""

    def __init__(self, speed: float = 1.0) -> None:
        super().__init__(speed)
        self._pinned: float | None = None
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        # how many transitions have run
        self.ran = 0

    def timestamp(self) -> float:
        return super().timestamp() if self._pinned is None else self._pinned

    def now(self) -> datetime:
        """Returns naive UTC, which moto's serializers expect."""
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
            self._pinned, self.ran = due, self.ran + 1
            try:
                action()
            finally:
                self._pinned = None

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.run_due()

    def next_due(self) -> float | None:
        """Return the emulated timestamp of the next transition."""
        return self._due[0][0] if self._due else None

    def real_seconds_to_next(self) -> float | None:
        """Return after how many real seconds a transition is due, or None if none will be."""
        if not self._due or (self.frozen and self._due[0][0] > self.timestamp()) or self.speed <= 0:
            return None
        return (self._due[0][0] - self.timestamp()) / self.speed

    def describe(self) -> dict:
        return {
            "now": self.now().isoformat() + "Z",
            "speed": self.speed,
            "frozen": self.frozen,
            "pending_transitions": len(self._due),
        }
