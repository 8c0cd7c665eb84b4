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
            self._pinned = due
            try:
                action()
            finally:
                self._pinned = None

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.run_due()

    def describe(self) -> dict:
        return {
            "now": self.now().isoformat() + "Z",
            "speed": self.speed,
            "frozen": self.frozen,
            "pending_transitions": len(self._due),
        }
