"""The course of an instance refresh: batches of replacements, checkpoints, bake time, rollback, and its end.

`advance` does what is possible now. It runs after every change of the group's instances
and settings, and when a wait ends; nothing runs in the background.
"""

from moto.autoscaling.models import autoscaling_backends

from . import asg_config, asg_instances, asg_pace, asg_roots
from .asg_instances import ROUNDING, Course, LaunchFailed, is_ready, serving, terminating
from .asg_refresh import REPLACING, Refresh, active, all_of
from .wire import AwsError
from .world import world

# AWS's limits: without progress, and of active replacement
PATIENCE = 3600
LONGEST = 14 * 24 * 3600
# how long a failed launch waits for the next attempt
RETRY = 60
CANCELLED = "Cancelled due to user request."
CAUSE = "an instance refresh ({id}) replaced an instance."
UNHEALTHY = "an instance was taken out of service in response to an EC2 health check."
WARMING = "Waiting for instances to warm up before continuing. For example: {id} is warming up."
AVAILABLE = "Waiting for remaining instances to be available. For example: {id} {why}"
NO_HEALTH = "has insufficient data to evaluate its health with Amazon EC2."
PROTECTED = "is protected. Remove instance scale-in protection to continue."
STANDBY = "is in Standby. Return the instance to service to continue."
LEAVING = "is in {state}."


def clock_of(refresh: Refresh):
    return world.account(refresh.group.account_id).clock


def settings_of(refresh: Refresh):
    return world.account(refresh.group.account_id).settings


def schedule(refresh: Refresh) -> None:
    """Start a refresh that was just recorded."""
    clock = clock_of(refresh)

    def begin() -> None:
        if refresh.status != "Pending":
            return
        refresh.status, refresh.started = "InProgress", clock.now()
        _limit(refresh)
        failure, hang = (refresh.faults.get(k, {}) for k in ("refresh-fails", "refresh-hangs"))
        if "seconds" in failure:
            clock.after(float(failure["seconds"]), lambda: _fail_by_fault(refresh))
        if "seconds" in hang:
            clock.after(float(hang["seconds"]), lambda: _resume(refresh))
        advance(refresh.group)

    clock.after(settings_of(refresh).refresh_pending_seconds, begin)


def _resume(refresh: Refresh) -> None:
    refresh.faults.pop("refresh-hangs", None)
    advance(refresh.group)


def _limit(refresh: Refresh) -> None:
    """Fail the current direction, which just began, if it replaces instances for too long."""
    direction = refresh.rollback

    def give_up() -> None:
        if refresh.status in REPLACING and refresh.rollback is direction:
            fail(refresh, "The instance refresh exceeded its maximum duration of 14 days.")

    clock_of(refresh).after(LONGEST, give_up)


def advance(group) -> None:
    refresh = active(group)
    if refresh is None or refresh.busy:
        return
    if autoscaling_backends[group.account_id][group.region].autoscaling_groups.get(group.name) is not group:
        refresh.status = "Cancelled"  # the group is deleted
        return
    refresh.busy = True
    try:
        _advance(refresh)
    except AwsError as refusal:  # such as a deleted version of the launch template
        _block(refresh, refusal.message)
    finally:
        refresh.busy = False


def _advance(refresh: Refresh) -> None:
    if refresh.status == "Cancelling":
        _cancelled(refresh)
    if refresh.status not in REPLACING:
        return
    _replace_unhealthy(refresh)
    refresh.measure()
    if _by_fault(refresh) or _held(refresh):
        return
    progress = asg_pace.step(refresh, replace_one, launch_one)
    refresh.measure()
    if asg_pace.is_done(refresh):
        _complete(refresh)
    else:
        _wait(refresh, progress)


def _held(refresh: Refresh) -> bool:
    """Whether a checkpoint, a suspended process or a fault keeps the refresh from going on."""
    now = clock_of(refresh).timestamp()
    hang = refresh.faults.get("refresh-hangs")
    if hang is not None and not refresh.rolling_back and _ready_new(refresh) >= int(hang.get("instances", 0)):
        refresh.reason = hang.get("reason") or refresh.reason
        return True
    if "InstanceRefresh" in refresh.group._suspended_processes:
        return True
    return now + ROUNDING < refresh.paused_until


def _ready_new(refresh: Refresh) -> int:
    return sum(is_ready(refresh.group, m) for m in refresh.new())


def replace_one(refresh: Refresh, member) -> None:
    refresh.blocked_since = None
    if refresh.strategy == "ReplaceRootVolume":
        asg_roots.replace(refresh, member, _heals(refresh))
        return
    seconds = settings_of(refresh).instance_terminate_seconds
    asg_instances.terminate(refresh.group, member, CAUSE.format(id=refresh.id), seconds)


def launch_one(refresh: Refresh) -> bool:
    """Launch a replacement; return false if EC2 refuses, after which it is tried again later."""
    clock = clock_of(refresh)
    if clock.timestamp() < refresh.retry_at:
        return False
    course = Course(
        CAUSE.format(id=refresh.id),
        settings_of(refresh).instance_launch_seconds,
        refresh.preferences["InstanceWarmup"],
        _heals(refresh),
    )
    try:
        member = asg_instances.launch(refresh.group, refresh.target(), course)
    except LaunchFailed as refusal:
        refresh.retry_at = clock.timestamp() + RETRY
        clock.after(RETRY, lambda: advance(refresh.group))
        _block(refresh, str(refusal))
        return False
    refresh.made.add(member.instance.id)
    return True


def _heals(refresh: Refresh):
    """Return whether an instance of an image becomes healthy: not with a failing image, or as a fault says."""
    kind = "rollback-fails" if refresh.rollback else "instances-unhealthy"
    known = refresh.group.ec2_backend.amis

    def heals(image_id: str) -> bool:
        if not getattr(known.get(image_id), "healthy", True):
            return False
        fault = refresh.faults.get(kind)
        if fault is None or "instances" not in fault:
            return fault is None
        fault["instances"] = int(fault["instances"]) - 1
        return fault["instances"] < 0

    return heals


def _replace_unhealthy(refresh: Refresh) -> None:
    """Health checks terminate new instances that are not healthy in time, and they are launched again."""
    for member in refresh.new():
        if asg_instances.is_overdue(refresh.group, member):
            refresh.made.discard(member.instance.id)
            asg_instances.terminate(refresh.group, member, UNHEALTHY)


def _wait(refresh: Refresh, progress: bool) -> None:
    """Explain what the refresh waits for; what a person must change must change within an hour."""
    group = refresh.group
    sick = [m for m in refresh.new() if m.health_status != "Healthy"]
    warming = [m for m in refresh.new() if not is_ready(group, m) and m not in sick]
    if sick:
        _block(refresh, AVAILABLE.format(id=sick[0].instance.id, why=NO_HEALTH))
        return
    if warming:
        refresh.blocked_since = None
        refresh.reason = WARMING.format(id=warming[0].instance.id)
        return
    if len(serving(group)) < (group.desired_capacity or 0):
        return
    leaving = terminating(group)
    if leaving:
        why = LEAVING.format(state=leaving[0].lifecycle_state)
        refresh.reason = AVAILABLE.format(id=leaving[0].instance.id, why=why)
        return
    stuck = refresh.old()
    if stuck and not progress:
        _block(refresh, AVAILABLE.format(id=stuck[0].instance.id, why=_obstacle(stuck[0])))


def _obstacle(member) -> str:
    if member.lifecycle_state == "Standby":
        return STANDBY
    return PROTECTED if member.protected_from_scale_in else LEAVING.format(state=member.lifecycle_state)


def _block(refresh: Refresh, reason: str) -> None:
    clock = clock_of(refresh)
    refresh.reason = reason
    if refresh.blocked_since is None:
        since = refresh.blocked_since = clock.timestamp()
        clock.after(PATIENCE, lambda: _expire(refresh, since))


def _expire(refresh: Refresh, since: float) -> None:
    if refresh.blocked_since == since and refresh.status in REPLACING:
        fail(refresh, refresh.reason)


def _complete(refresh: Refresh) -> None:
    """All that the current checkpoint allows is replaced."""
    clock, preferences = clock_of(refresh), refresh.preferences
    refresh.blocked_since = None
    if refresh.rolling_back:
        refresh.percent = 0
        finish(refresh, "RollbackSuccessful", None)
        return
    if asg_pace.pass_checkpoint(refresh):
        delay = preferences["CheckpointDelay"]
        refresh.paused_until = clock.timestamp() + delay
        refresh.reason = f"Waiting for {delay} seconds at a checkpoint before continuing."
        clock.after(delay, lambda: advance(refresh.group))
        return
    bake = preferences.get("BakeTime") or 0
    if bake:
        refresh.status = "Baking"
        refresh.reason = f"Waiting for bake time to finish before continuing. There are {bake} seconds left."
        clock.after(bake, lambda: _baked(refresh))
        return
    finish(refresh, "Successful", None)


def _baked(refresh: Refresh) -> None:
    if refresh.status == "Baking":
        finish(refresh, "Successful", None)


def finish(refresh: Refresh, status: str, reason: str | None) -> None:
    refresh.status, refresh.reason = status, reason
    refresh.ended = clock_of(refresh).now()
    if status == "Successful" and refresh.config:
        asg_config.apply(refresh.group, refresh.config)
    if status == "Successful":
        refresh.remaining = refresh.remaining if asg_pace.stops_early(refresh) else 0
    _leave(refresh)


def _leave(refresh: Refresh) -> None:
    """After its end, the group replaces unhealthy instances and returns to its capacity by itself."""
    group = refresh.group
    for member in refresh.new():
        if member.health_status != "Healthy":
            asg_instances.terminate(group, member, UNHEALTHY)
    asg_instances.settle(group)


def fail(refresh: Refresh, reason: str) -> None:
    if refresh.rolling_back:
        finish(refresh, "RollbackFailed", reason)
    elif refresh.preferences["AutoRollback"]:
        start_rollback(refresh, f"Automatic rollback: {reason}")
    else:
        finish(refresh, "Failed", reason)


def start_rollback(refresh: Refresh, reason: str) -> None:
    clock, delay = clock_of(refresh), settings_of(refresh).refresh_pending_seconds
    refresh.measure()
    refresh.turn_back(reason)
    failure = refresh.faults.get("rollback-fails") or {}
    if "seconds" in failure:
        text = failure.get("reason") or "The rollback failed."
        clock.after(float(failure["seconds"]), lambda: _fail_rollback(refresh, text))
    _limit(refresh)
    refresh.paused_until = clock.timestamp() + delay
    clock.after(max(ROUNDING, delay), lambda: advance(refresh.group))


def _fail_rollback(refresh: Refresh, reason: str) -> None:
    if refresh.rolling_back:
        finish(refresh, "RollbackFailed", reason)


def _by_fault(refresh: Refresh) -> bool:
    failure = refresh.faults.get("refresh-fails")
    if failure is None or refresh.rollback or "seconds" in failure:
        return False
    if _ready_new(refresh) < int(failure.get("instances", 1)):
        return False
    _fail_by_fault(refresh)
    return True


def _fail_by_fault(refresh: Refresh) -> None:
    failure = refresh.faults["refresh-fails"]
    if refresh.status in ("InProgress", "Baking"):
        fail(refresh, failure.get("reason") or "The instance refresh failed.")


def cancel(refresh: Refresh, waits: bool) -> None:
    clock, fault = clock_of(refresh), refresh.faults.get("cancel-slow") or {}
    delay = float(fault.get("seconds", settings_of(refresh).refresh_pending_seconds))
    refresh.status, refresh.reason = "Cancelling", CANCELLED
    refresh.waits, refresh.cancel_at = waits, clock.timestamp() + delay
    clock.after(max(ROUNDING, delay), lambda: advance(refresh.group))


def _cancelled(refresh: Refresh) -> None:
    group = refresh.group
    pending = [m for m in serving(group) if m.lifecycle_state.startswith("Pending")]
    if refresh.waits and (pending or terminating(group)):
        return
    if clock_of(refresh).timestamp() + ROUNDING >= refresh.cancel_at:
        refresh.measure()
        finish(refresh, "Cancelled", CANCELLED)


def alarm(group, name: str) -> None:
    """Fail the active refresh that watches an alarm which is now in ALARM."""
    refresh = active(group)
    watched = (refresh.preferences.get("AlarmSpecification") or {}).get("Alarms") if refresh else None
    if name in (watched or []) and refresh.status in ("InProgress", "Baking"):
        fail(refresh, f"The CloudWatch alarm {name} is in the ALARM state.")


def configuration(group) -> dict | None:
    """Return the configuration from which an active refresh makes the group launch."""
    refresh = active(group) if all_of(group) else None
    return refresh.target() if refresh and refresh.status in (*REPLACING, "Pending", "Baking") else None
