"""The course of a node group update in a connected cluster, whose nodes join, are drained and end.

`advance` does what is possible now, by the phases that AWS documents: scale up, upgrade, scale
down. The bridge runs it after every change in the cluster and whenever emulated time passes.
"""

import math
import time
from dataclasses import dataclass, field

from . import asg_instances, nodes
from .kube_drains import Drain
from .world import world

# AWS's limits, in emulated seconds: for a node to join, and to drain a node
JOIN_SECONDS = EVICT_SECONDS = 900
# how long a drained node stays, so that load balancers stop using it
SETTLE_SECONDS = 60
MOST_UNAVAILABLE = 100
# Real seconds for which the API server may lag behind a node that has joined in emulated time.
LAG_SECONDS = 60


@dataclass
class Course:
    bridge: object
    group: object
    force: bool
    # called at the end: without arguments, or with the code and the resources of a failure
    succeed: object
    fail: object
    before: str
    # sizes of the Auto Scaling group before the update: desired, maximum
    base: tuple[int, int]
    limit: int
    surge: int
    # its Auto Scaling group
    asg: object
    phase: str = "scale up"
    began: float = 0.0
    # instance -> emulated timestamp at which a drained node is terminated
    waits: dict[str, float] = field(default_factory=dict)
    # instance that is not Ready -> emulated timestamp and real time since then
    absent: dict[str, tuple[float, float]] = field(default_factory=dict)
    # instances that were Ready
    joined: set[str] = field(default_factory=set)
    # timestamp since which the group has too few instances
    short_since: float | None = None

    @property
    def clock(self):
        return world.account(self.bridge.account).clock


def begin(bridge, group, version, force: bool, succeed, fail) -> None:
    """Start the update: EKS's own template gets a version, and the Auto Scaling group grows."""
    where = (bridge.account, bridge.region, group)
    asg = nodes.asg_of(*where)
    # An earlier update that failed may still be scaling down: what it had to restore is restored now.
    earlier = bridge.courses.get(group.arn)
    base = earlier.base if earlier else (asg.desired_capacity, asg.max_size)
    limit = limit_of(group, base[0])
    minimal = (group.update_config or {}).get("updateStrategy") == "MINIMAL"
    surge = 0 if minimal or not base[0] else max(2 * len(asg.availability_zones), limit)
    before = nodes.prepare(*where, version)
    course = Course(bridge, group, force, succeed, fail, before, base, limit, surge, asg)
    course.began = course.clock.timestamp()
    course.phase = "scale up" if surge else "upgrade"
    bridge.courses[group.arn] = course
    for drain in _drains(course):
        bridge.drains.pop(drain.member.instance, None)
    _uncordon(course, new_of(course))
    _resize(course, base[0] + surge, base[1] + surge)
    bridge.wake_after(JOIN_SECONDS)
    if not base[0]:
        seconds = world.account(bridge.account).settings.nodegroup_update_seconds
        course.began += seconds
        bridge.wake_after(seconds)


def limit_of(group, size: int) -> int:
    """Return how many nodes may be unavailable at once."""
    config = group.update_config or {}
    percentage = config.get("maxUnavailablePercentage")
    most = config.get("maxUnavailable") or 1
    if percentage:
        most = math.floor(size * percentage / 100)
    return min(MOST_UNAVAILABLE, max(1, most))


def new_of(course: Course) -> list:
    return [m for m in _serving(course) if _is_current(course.asg, m)]


def old_of(course: Course) -> list:
    return [m for m in _serving(course) if not _is_current(course.asg, m)]


def _is_current(asg, member) -> bool:
    """Whether a node has the version of the group; nodes that a failed update left behind may have it, too."""
    current = asg.launch_template_version
    own = str(member.launch_template["Version"])
    return own == current or nodes.source_of(asg, member) == asg.sources.get(current, "unknown")


def _serving(course: Course) -> list:
    return asg_instances.serving(course.asg)


def advance(bridge) -> None:
    for key, course in list(bridge.courses.items()):
        if nodes.asg_of(bridge.account, bridge.region, course.group) is not course.asg:  # the group is deleted
            bridge.courses.pop(key, None)
            continue
        while _step(course):
            pass


def _step(course: Course) -> bool:
    """Do what the phase allows. Return whether a new phase began."""
    if course.clock.timestamp() < course.began:
        return False
    if course.phase == "undo":
        return _scale_down(course)
    failure = _failure(course)
    if failure:
        _undo(course)
        course.fail(*failure)
        return True
    phases = {"scale up": _scale_up, "upgrade": _upgrade, "scale down": _scale_down}
    return phases[course.phase](course)


def _failure(course: Course) -> tuple[str, list[str]] | None:
    stuck = [d for d in _drains(course) if d.failed]
    if stuck and course.phase == "upgrade":
        return "PodEvictionFailure", [d.member.name for d in stuck]
    now, limit = course.clock.timestamp(), JOIN_SECONDS - asg_instances.ROUNDING
    _observe(course, now)
    since = [course.absent[m.instance][0] for m in _known(course, _unready(course)) if not _lags(course, m, now)]
    if len(_serving(course)) >= course.asg.desired_capacity:
        course.short_since = None
    elif course.short_since is None:
        course.short_since = now
        course.bridge.wake_after(JOIN_SECONDS)
    if course.short_since is not None:
        since.append(course.short_since)
    if course.phase == "scale down":
        return None
    if since and now - min(since) >= limit:
        return "NodeCreationFailure", [course.group.nodegroup_name]
    return None


def _observe(course: Course, now: float) -> None:
    """Remember since when new nodes are not Ready: since their launch, if they never were."""
    for member in _known(course, new_of(course)):
        instance = member.instance
        if course.bridge.is_ready(instance):
            course.joined.add(instance)
            course.absent.pop(instance, None)
        elif instance not in course.absent:
            since = now if instance in course.joined else max(member.launched, course.began)
            course.absent[instance] = (since, time.monotonic())
            course.bridge.wake_at(since + JOIN_SECONDS)


def _lags(course: Course, member, now: float) -> bool:
    """Whether a node is Ready as far as its instance is concerned, and the API server needs more real time."""
    if member.joins is None or member.joins > now or not (member.ready and member.heartbeat):
        return False
    return time.monotonic() < course.absent[member.instance][1] + LAG_SECONDS


def _drains(course: Course) -> list[Drain]:
    ours = (course.bridge.drains.get(m.instance.id) for m in _serving(course))
    return [d for d in ours if d is not None]


def _unready(course: Course) -> list:
    return [m for m in new_of(course) if not course.bridge.is_ready(m.instance.id)]


def _scale_up(course: Course) -> bool:
    if _unready(course) or len(_serving(course)) < course.asg.desired_capacity:
        return False
    for member in _known(course, old_of(course)):
        member.cordon = member.excluded = True
    course.phase = "upgrade"
    return True


def _known(course: Course, states: list) -> list:
    known = course.bridge.members.all
    return [known[m.instance.id] for m in states if m.instance.id in known]


def _upgrade(course: Course) -> bool:
    """Drain old nodes within the limit, and terminate those that are drained and have settled."""
    bridge, now = course.bridge, course.clock.timestamp()
    for member in _known(course, old_of(course)):
        drain = bridge.drains.get(member.instance)
        if drain is not None and drain.done:
            _terminate_later(course, member.instance, now)
    old = _known(course, old_of(course))
    missing = max(0, course.asg.desired_capacity - len(_serving(course)))
    busy = [m for m in old if m.instance in bridge.drains]
    free = course.limit - len(busy) - len(_unready(course)) - missing
    for member in [m for m in old if m.instance not in bridge.drains][: max(0, free)]:
        bridge.drains[member.instance] = Drain(member, now + EVICT_SECONDS, course.force)
        bridge.wake_after(EVICT_SECONDS)
    if old or missing or _unready(course):
        return False
    course.phase = "scale down"
    return True


def _terminate_later(course: Course, instance: str, now: float) -> None:
    bridge = course.bridge
    if instance not in course.waits:
        course.waits[instance] = now + SETTLE_SECONDS
        bridge.wake_after(SETTLE_SECONDS)
    elif now + asg_instances.ROUNDING >= course.waits[instance]:
        del course.waits[instance], bridge.drains[instance]
        nodes.replace(bridge.account, bridge.region, course.group, instance)
        bridge.refresh()


def _scale_down(course: Course) -> bool:
    """Return to the size before the update, one drained node at a time."""
    bridge, asg = course.bridge, course.asg
    desired = course.base[0]
    if asg.desired_capacity <= desired:
        _end(course)
        return False
    surplus = _known(course, _surplus(course))
    if not surplus:
        _resize(course, *course.base)
        return True
    drained = next((m for m in surplus if m.instance in bridge.drains), surplus[0])
    drain = bridge.drains.get(drained.instance)
    if drain is None and bridge.node(drained.instance) is not None:
        undoing = course.phase == "undo"
        deadline = None if undoing else course.clock.timestamp() + EVICT_SECONDS
        bridge.drains[drained.instance] = Drain(drained, deadline)
        bridge.wake_after(EVICT_SECONDS)
        return False
    if drain is not None and drain.open:
        return False
    bridge.drains.pop(drained.instance, None)
    asg.desired_capacity, asg.max_size = asg.desired_capacity - 1, asg.max_size - 1
    nodes.replace(bridge.account, bridge.region, course.group, drained.instance)
    bridge.refresh()
    return True


def _surplus(course: Course) -> list:
    """Return the nodes of which one may go: what this update launched, and first what has not joined."""
    found = old_of(course) if course.phase == "undo" else new_of(course)
    return sorted(reversed(found), key=lambda m: course.bridge.is_ready(m.instance.id))


def _undo(course: Course) -> None:
    """After a failure, the group launches what it launched before, and nodes that were added go as far as they drain."""
    bridge = course.bridge
    for drain in _drains(course):
        bridge.drains.pop(drain.member.instance, None)
    _uncordon(course, old_of(course))
    nodes.back(bridge.account, bridge.region, course.group, course.before)
    course.waits.clear()
    course.phase = "undo"


def _uncordon(course: Course, states: list) -> None:
    for member in _known(course, states):
        course.bridge.drains.pop(member.instance, None)
        member.cordon = member.excluded = False


def _resize(course: Course, desired: int, most: int) -> None:
    asg = course.asg
    asg.max_size, asg.desired_capacity = max(most, desired), desired
    asg_instances.settle(asg)
    course.bridge.refresh()


def _end(course: Course) -> None:
    course.asg.max_size = course.base[1]
    course.bridge.courses.pop(course.group.arn, None)
    if course.phase != "undo":
        course.succeed()
