"""The instances of Auto Scaling groups: their launch, health, lifecycle states and termination.

moto launches and terminates at once, and does not know from which version an instance was
launched; its methods are replaced by those of this file. Listeners hear of every change.
"""

from collections.abc import Callable
from dataclasses import dataclass

from moto.autoscaling.models import (
    ASG_NAME_TAG,
    AutoScalingBackend,
    FakeAutoScalingGroup,
    InstanceState,
)

from . import asg_activities, asg_config, asg_hooks
from .asg_config import Launch
from .wire import AwsError
from .world import world

TERMINATING = ("Terminating", "Terminating:Wait", "Terminating:Proceed")
# the causes of activities outside of an instance refresh
DIFFERENCE = "in response to a difference between desired and actual capacity."
CAPACITY = f"an instance was started {DIFFERENCE}"
SHRINKING = f"an instance was taken out of service {DIFFERENCE}"

# Times are sums of floating point numbers.
ROUNDING = 0.001

# Called with the group after every change of its instances.
listeners: list[Callable] = []
# Return the configuration that a group launches from now.
configurations: list[Callable] = []


class LaunchFailed(Exception):
    """EC2's reason for refusing a launch."""


class Member(InstanceState):
    """An instance of a group, with the launch that made it."""

    def __init__(self, group, instance, launch: Launch) -> None:
        protected = group.new_instances_protected_from_scale_in
        super().__init__(instance, protected_from_scale_in=protected, autoscaling_group=group)
        self.launch = launch
        self.image_id = launch.override_image
        self.entered_at = self.warm_at = 0.0
        self.actions: dict[str, asg_hooks.Action] = {}
        self.activity: dict | None = None

    @property
    def launch_template(self) -> dict:
        return {
            "LaunchTemplateId": self.launch.template_id,
            "LaunchTemplateName": self.launch.template_name,
            "Version": self.launch.version,
        }


def serving(group) -> list[InstanceState]:
    """Return the instances that count as capacity: also those that are pending or unhealthy."""
    return [
        m for m in group.instance_states if m.lifecycle_state not in (*TERMINATING, "Standby")
    ]


def terminating(group) -> list[InstanceState]:
    return [m for m in group.instance_states if m.lifecycle_state in TERMINATING]


def is_ready(group, member) -> bool:
    """Whether an instance is in service, healthy and warmed up."""
    now = world.account(group.account_id).clock.timestamp()
    healthy = member.lifecycle_state == "InService" and member.health_status == "Healthy"
    return healthy and getattr(member, "warm_at", 0.0) <= now + ROUNDING


def _changed(group) -> None:
    for listener in listeners:
        listener(group)


@dataclass(frozen=True)
class Course:
    """How a launch goes on: seconds until it is in service and warmed up, and whether it is then healthy."""

    cause: str = CAPACITY
    seconds: float = 0
    warmup: float = 0
    heals: Callable[[str], bool] = lambda image_id: True


def launch(group, config: dict, course: Course = Course()) -> Member:
    """Launch one instance. Raise LaunchFailed if its template or image does not exist."""
    try:
        kind = _choose(group, config)
    except LaunchFailed as refusal:
        activity = asg_activities.begin(group, "Launching a new EC2 instance.", course.cause)
        asg_activities.end(group, activity, "Failed", str(refusal))
        raise
    member = _run(group, kind)
    text = f"Launching a new EC2 instance: {member.instance.id}"
    member.activity = asg_activities.begin(group, text, course.cause)
    member.lifecycle_state = "Pending"
    member.health_status = "Healthy" if course.heals(kind.image_id) else "Unhealthy"
    group.instance_states.append(member)
    clock = world.account(group.account_id).clock
    clock.after(course.seconds, lambda: started(group, member, course.warmup))
    return member


def _choose(group, config: dict) -> Launch:
    """Return the kind of which the group has the fewest instances."""
    try:
        kinds = asg_config.launches(group, config)
    except AwsError as refusal:
        raise LaunchFailed(f"{refusal.message}. Launching EC2 instance failed.") from None
    counts = [sum(kind.matches(_launch_of(m)) for m in serving(group)) for kind in kinds]
    kind = kinds[counts.index(min(counts))]
    problem = asg_config.image_problem(group.ec2_backend, kind.image_id)
    if problem:
        raise LaunchFailed(f"{problem}. Launching EC2 instance failed.")
    return kind


def _launch_of(member) -> Launch | None:
    return getattr(member, "launch", None)


def matches(member, kinds: list[Launch]) -> bool:
    """Whether an instance is what a configuration launches."""
    return any(kind.matches(_launch_of(member)) for kind in kinds)


def _run(group, kind: Launch) -> Member:
    ec2 = group.ec2_backend
    named = {"LaunchTemplateId": kind.template_id, "Version": kind.version}
    version = asg_config.version_of(ec2, named)
    tags = {**group.get_propagated_tags(), ASG_NAME_TAG: group.name, **version.instance_tags}
    subnets = group.vpc_zone_identifier.split(",") if group.vpc_zone_identifier else [None]
    place = len(group.instance_states)
    made = ec2.run_instances(
        kind.image_id,
        1,
        version.user_data,
        version.security_groups,
        instance_type=kind.instance_type,
        tags={"instance": tags},
        placement=group.availability_zones[place % len(group.availability_zones)],
        launch_config=None,
        launch_template=named,
        is_instance_type_default=False,
        associate_public_ip=None,
        subnet_id=subnets[place % len(subnets)],
    )
    instance = made.instances[0]
    instance.launch_time = world.account(group.account_id).clock.now()
    instance.autoscaling_group = group
    return Member(group, instance, kind)


def started(group, member, warmup: float) -> None:
    if member not in group.instance_states or member.lifecycle_state != "Pending":
        return

    def proceed(result: str) -> None:
        if member.lifecycle_state != "Pending:Wait":
            return
        if result == "ABANDON":
            terminate(group, member, "an instance was abandoned by a lifecycle hook.")
            return
        member.lifecycle_state = "Pending:Proceed"
        in_service(group, member, warmup)

    if asg_hooks.hooks_of(group, asg_hooks.LAUNCHING):
        member.lifecycle_state = "Pending:Wait"
        asg_hooks.begin(group, member, asg_hooks.LAUNCHING, proceed)
        _changed(group)
    else:
        in_service(group, member, warmup)


def in_service(group, member, warmup: float) -> None:
    account = world.account(group.account_id)
    member.lifecycle_state = "InService"
    member.entered_at = account.clock.timestamp()
    member.warm_at = member.entered_at + warmup
    if member.activity:
        asg_activities.end(group, member.activity)
    if member.health_status != "Healthy":
        account.clock.after(patience(group), lambda: _changed(group))
    elif warmup > 0:
        account.clock.after(warmup, lambda: _changed(group))
    _changed(group)


def patience(group) -> float:
    """Return how long health checks tolerate an unhealthy instance; at least a second, so that time passes."""
    return max(1.0, world.account(group.account_id).settings.instance_unhealthy_seconds)


def is_overdue(group, member) -> bool:
    """Whether health checks have found an instance unhealthy for long enough to replace it."""
    if member.lifecycle_state != "InService" or member.health_status == "Healthy":
        return False
    now = world.account(group.account_id).clock.timestamp()
    return now + ROUNDING >= getattr(member, "entered_at", 0.0) + patience(group)


def terminate(group, member, cause: str = SHRINKING, seconds: float = 0) -> None:
    """Take an instance out of service; it ends after its lifecycle hooks and `seconds`."""
    if member.lifecycle_state in TERMINATING or member not in group.instance_states:
        return
    asg_hooks.actions_of(member).clear()
    text = f"Terminating EC2 instance: {member.instance.id}"
    activity = asg_activities.begin(group, text, cause)
    clock = world.account(group.account_id).clock
    member.lifecycle_state = "Terminating"

    def gone() -> None:
        asg_activities.end(group, activity)
        remove(group, [member])
        _changed(group)

    def proceed(_result: str) -> None:
        member.lifecycle_state = "Terminating:Proceed"
        clock.after(seconds, gone)

    if asg_hooks.hooks_of(group, asg_hooks.TERMINATING):
        member.lifecycle_state = "Terminating:Wait"
        asg_hooks.begin(group, member, asg_hooks.TERMINATING, proceed)
        _changed(group)
    else:
        clock.after(seconds, gone)


def remove(group, members: list) -> None:
    """Terminate instances at once, without lifecycle hooks."""
    for member in members:
        if member.instance.state != "terminated":
            member.instance.terminate()
    group.instance_states = [m for m in group.instance_states if m not in members]


def settle(group, allowed: int | None = None) -> None:
    """Launch or terminate the difference to the desired capacity; `allowed` is a surplus that stays."""
    want = group.desired_capacity or 0
    # A listener may launch, too, so the instances are counted again each time.
    while len(serving(group)) < want:
        try:
            launch(group, configuration(group))
        except LaunchFailed:
            return
    surplus = len(serving(group)) - want - (allowed or 0)
    free = sorted((m for m in serving(group) if not m.protected_from_scale_in), key=_version)
    for member in free[: max(0, surplus)]:
        terminate(group, member)


def _version(member) -> int:
    """Instances of the oldest version are terminated first."""
    kind = _launch_of(member)
    return int(kind.version) if kind else 0


def configuration(group) -> dict:
    for known in configurations:
        config = known(group)
        if config:
            return config
    return asg_config.config_of(group)


def patch() -> None:
    """Replace moto's launches and terminations, except for groups with a launch configuration."""
    resize = FakeAutoScalingGroup.set_desired_capacity
    delete = AutoScalingBackend.delete_auto_scaling_group

    def set_desired_capacity(self, new_capacity):
        if self.ec2_launch_template is None:
            resize(self, new_capacity)
            return
        before = getattr(self, "desired_capacity", None)
        self.desired_capacity = self.min_size if new_capacity is None else new_capacity
        surplus = max(0, len(serving(self)) - (before or 0)) if before is not None else 0
        settle(self, surplus)

    def notify_terminate_instances(self, instance_ids):
        for group in self.autoscaling_groups.values():
            gone = [m for m in group.instance_states if m.instance.id in instance_ids]
            if not gone:
                continue
            group.instance_states = [m for m in group.instance_states if m not in gone]
            if group.ec2_launch_template is None:
                group.replace_autoscaling_group_instances(len(gone), group.get_propagated_tags())
            else:
                settle(group, len(serving(group)))
            _changed(group)

    def delete_auto_scaling_group(self, group_name):
        group = self.autoscaling_groups.get(group_name)
        if group is not None:
            remove(group, list(group.instance_states))
        return delete(self, group_name)

    FakeAutoScalingGroup.set_desired_capacity = set_desired_capacity
    FakeAutoScalingGroup.active_instances = serving
    AutoScalingBackend.notify_terminate_instances = notify_terminate_instances
    AutoScalingBackend.delete_auto_scaling_group = delete_auto_scaling_group
