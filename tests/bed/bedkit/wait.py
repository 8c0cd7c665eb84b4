"""Waiting for a state."""

import time

from .failure import Failure


def until(what: str, look, seconds: float = 60, pause: float = 0.05, errors: tuple[type[Exception], ...] = ()):
    """Return the first result of `look` that is true.

    The exceptions `errors` mean "not yet". After `seconds`, the message of the failure contains the last of them, or
    the standard error of a program that failed.
    """
    deadline, last = time.monotonic() + seconds, ""
    while True:
        try:
            if found := look():
                return found
        except errors as error:
            last = f": {getattr(error, 'stderr', None) or error}"
        if time.monotonic() > deadline:
            raise Failure(f"{what}: timed out after {seconds:g} s{last}")
        time.sleep(pause)
