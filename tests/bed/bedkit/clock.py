"""Emulated time."""

import time
from datetime import UTC, datetime


class Clock:
    """now = start + (real time since start) * speed + advanced time."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.frozen = False
        self._emulated = time.time()
        self._real = time.monotonic()

    def timestamp(self) -> float:
        passed = 0.0 if self.frozen else (time.monotonic() - self._real) * self.speed
        return self._emulated + passed

    def advance(self, seconds: float) -> None:
        self._rebase(self.timestamp() + seconds)

    def freeze(self, frozen: bool) -> None:
        self._rebase(self.timestamp())
        self.frozen = frozen

    def set_speed(self, speed: float) -> None:
        self._rebase(self.timestamp())
        self.speed = speed

    def change(self, asked: dict) -> None:
        """Apply a control request: `speed` factor, `freeze` true or false, `advance` seconds."""
        if "speed" in asked:
            self.set_speed(float(asked["speed"]))
        if "freeze" in asked:
            self.freeze(bool(asked["freeze"]))
        if "advance" in asked:
            self.advance(float(asked["advance"]))

    def describe(self) -> dict:
        return {"now": stamp(self.timestamp()), "speed": self.speed, "frozen": self.frozen}

    def _rebase(self, emulated: float) -> None:
        self._emulated = emulated
        self._real = time.monotonic()


def stamp(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
