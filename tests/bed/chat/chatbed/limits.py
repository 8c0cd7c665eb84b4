"""Rate limits. They return how long a request must wait, 0 if it may pass. Refused requests do not count."""

import math
from collections import deque


class Limits:
    def __init__(self) -> None:
        self._full_again: dict[tuple, float] = {}
        self._passed: dict[tuple, deque[float]] = {}

    def steady(self, key: tuple, interval: float, burst: int, now: float) -> float:
        """Allow one request per `interval` on average, and at most `burst` at once."""
        full_again = max(self._full_again.get(key, now), now)
        wait = full_again - (burst - 1) * interval - now
        if wait > 0:
            return wait
        self._full_again[key] = full_again + interval
        return 0

    def window(self, key: tuple, count: int, seconds: float, now: float) -> float:
        """Allow at most `count` requests in any period of `seconds`."""
        passed = self._passed.setdefault(key, deque())
        while passed and passed[0] <= now - seconds:
            passed.popleft()
        if len(passed) >= count:
            return passed[0] + seconds - now
        passed.append(now)
        return 0

    def left(self, key: tuple, count: int, seconds: float, now: float) -> tuple[int, float]:
        """Return how many more requests may pass in a window, and in how many seconds it will be empty."""
        passed = self._passed.get(key, deque())
        return count - len(passed), (passed[-1] + seconds - now if passed else 0)


def retry_after(wait: float) -> str:
    """Return whole seconds, the format of the header."""
    return str(max(1, math.ceil(wait)))
