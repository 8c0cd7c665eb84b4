"""Emulated time, used for the timestamps of messages and for rate limits."""

from datetime import UTC, datetime

import bedkit.clock


class Clock(bedkit.clock.Clock):
    def describe(self) -> dict:
        now = stamp(self.timestamp())
        return {"now": now, "speed": self.speed, "frozen": self.frozen}


def stamp(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
