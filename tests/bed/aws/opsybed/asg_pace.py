"""The pace of an instance refresh: which instances may be replaced and launched now, and when it is done."""

import math
from collections.abc import Callable

from .asg_instances import is_ready, serving, terminating
from .asg_refresh import Refresh


def bounds(refresh: Refresh) -> tuple[int, int]:
    """Return how many instances must be ready at least, and how many may run at most.

    Without MaxHealthyPercentage, an instance ends while its replacement starts, at least one
    at a time. With it, a replacement starts first if the bounds leave no room.
    """
    size, preferences = refresh.group.desired_capacity or 0, refresh.preferences
    low = math.ceil(size * preferences["MinHealthyPercentage"] / 100)
    explicit = preferences.get("MaxHealthyPercentage")
    high = size if explicit is None else math.floor(size * explicit / 100)
    if low == size == high:
        low, high = (size - 1, size) if explicit is None else (size, size + 1)
    return max(0, low), high


def step(refresh: Refresh, replace: Callable, launch: Callable) -> bool:
    """Replace and launch what the bounds and the next checkpoint allow. Return whether anything began."""
    group, began = refresh.group, False
    low, high = bounds(refresh)
    ready = [m for m in serving(group) if is_ready(group, m)]
    room, allowed = len(ready) - low, _allowance(refresh)
    for member in _eligible(refresh):
        if allowed <= 0:
            break
        if member in ready:
            if room <= 0:
                continue
            room -= 1
        replace(refresh, member)
        allowed, began = allowed - 1, True
    for _ in range(_missing(refresh, high)):
        if not launch(refresh):
            break
        began = True
    return began


def _eligible(refresh: Refresh) -> list:
    """Return the instances that may be replaced; a rollback does not respect protection."""
    preferences, found = refresh.preferences, []
    for member in refresh.old():
        if member.lifecycle_state == "Standby":
            if preferences["StandbyInstances"] == "Terminate":
                found.append(member)
        elif member.lifecycle_state == "InService":
            waits = preferences["ScaleInProtectedInstances"] == "Wait" and not refresh.rollback
            if not (member.protected_from_scale_in and waits):
                found.append(member)
    return found


def _goal(refresh: Refresh) -> int:
    """Return how many instances the next checkpoint wants replaced."""
    marks = refresh.preferences.get("CheckpointPercentages") or []
    if refresh.rollback or refresh.checkpoint >= len(marks):
        return refresh.total
    return math.ceil(refresh.total * marks[refresh.checkpoint] / 100)


def _allowance(refresh: Refresh) -> int:
    """Return how many replacements may still begin before the next checkpoint."""
    if refresh.rollback or not refresh.preferences.get("CheckpointPercentages"):
        return len(refresh.old())
    return _goal(refresh) - (refresh.total - len(refresh.old()))


def _missing(refresh: Refresh, high: int) -> int:
    """Return how many replacements to launch: what the group needs, within the bounds and the checkpoint."""
    group = refresh.group
    running, old = serving(group), {m.instance.id for m in refresh.old()}
    size = group.desired_capacity or 0
    wanted = size - sum(m.instance.id not in old for m in running)
    if refresh.preferences.get("CheckpointPercentages") and not refresh.rollback:
        wanted = min(wanted, max(_goal(refresh) - len(refresh.new()), size - len(running)))
    return min(wanted, high - len(running))


def is_done(refresh: Refresh) -> bool:
    """Whether everything up to the next checkpoint is replaced, ready and gone."""
    group = refresh.group
    if _allowance(refresh) > 0 or terminating(group):
        return False
    if len(serving(group)) < (group.desired_capacity or 0):
        return False
    return all(is_ready(group, m) for m in refresh.new())


def pass_checkpoint(refresh: Refresh) -> bool:
    """Pass all checkpoints that are reached, and return whether another one follows, for which to wait."""
    marks = refresh.preferences.get("CheckpointPercentages") or []
    before = refresh.checkpoint
    while refresh.checkpoint < len(marks) and _goal(refresh) <= refresh.total - len(refresh.old()):
        refresh.checkpoint += 1
    return before < refresh.checkpoint < len(marks)


def stops_early(refresh: Refresh) -> bool:
    """Whether the last checkpoint is below 100, so that the refresh ends with instances not replaced."""
    marks = refresh.preferences.get("CheckpointPercentages") or [100]
    return marks[-1] < 100
