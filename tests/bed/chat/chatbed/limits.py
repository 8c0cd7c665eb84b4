"""Rate limits: how long a request has to wait, 0 if it may pass. What is refused does not count."""

import math
from collections import deque


class Limits:
    def __init__(self) -> None:
        self._full_again: dict[tuple, float] = {}
        self._passed: dict[tuple, deque[float]] = {}

    def steady(self, key: tuple, interval: float, burst: int, now: float) -> float:
        """One per `interval` on average, `burst` of them at once at most."""
        full_again = max(self._full_again.get(key, now), now)
        wait = full_again - (burst - 1) * interval - now
        if wait > 0:
            return wait
        self._full_again[key] = full_again + interval
        return 0

    def window(self, key: tuple, count: int, seconds: float, now: float) -> float:
        """At most `count` in any `seconds`."""
        passed = self._passed.setdefault(key, deque())
        while passed and passed[0] <= now - seconds:
            passed.popleft()
        if len(passed) >= count:
            return passed[0] + seconds - now
        passed.append(now)
        return 0

    def left(self, key: tuple, count: int, seconds: float, now: float) -> tuple[int, float]:
        """Of a window: how many more may pass now, and when it is empty again."""
        passed = self._passed.get(key, deque())
        return count - len(passed), (passed[-1] + seconds - now if passed else 0)


def retry_after(wait: float) -> str:
    """Whole seconds, as the header has them."""
    return str(max(1, math.ceil(wait)))
