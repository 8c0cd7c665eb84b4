"""Rate limits: requests in a period, per key. Refused requests do not count."""

import math
from collections import deque


class Rates:
    def __init__(self) -> None:
        self._passed: dict[tuple, deque[float]] = {}

    def wait(self, key: tuple, count: int, seconds: float, now: float) -> int:
        """Count a request if there are fewer than `count` in the last `seconds`, else return how long to wait."""
        passed = self._passed.setdefault(key, deque())
        while passed and passed[0] <= now - seconds:
            passed.popleft()
        if len(passed) >= count:
            return max(1, math.ceil(passed[0] + seconds - now))
        passed.append(now)
        return 0
