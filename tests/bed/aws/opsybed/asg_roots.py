"""The strategy ReplaceRootVolume: an instance keeps its ID, and gets a root volume from another image."""

from collections.abc import Callable

from . import asg_config, asg_hooks, asg_instances
from .asg_refresh import Refresh
from .world import world


def replace(refresh: Refresh, member, heals: Callable[[str], bool]) -> None:
    """Replace the root volume, after the terminating hooks and before the launching ones."""
    group = refresh.group
    settings = world.account(group.account_id).settings
    clock = world.account(group.account_id).clock
    refresh.made.add(member.instance.id)
    member.lifecycle_state = "ReplacingRootVolume"

    def proceed(_result: str) -> None:
        member.lifecycle_state = "ReplacingRootVolume:Proceed"
        clock.after(settings.instance_launch_seconds, replaced)

    def replaced() -> None:
        if member.lifecycle_state != "ReplacingRootVolume:Proceed":
            return
        kinds = asg_config.launches(group, refresh.target())
        same = [k for k in kinds if k.instance_type == member.instance.instance_type]
        member.launch = (same or kinds)[0]
        member.image_id = member.instance.image_id = member.launch.image_id
        member.lifecycle_state = "Pending"
        member.health_status = "Healthy" if heals(member.image_id) else "Unhealthy"
        asg_instances.started(group, member, refresh.preferences["InstanceWarmup"])

    if asg_hooks.hooks_of(group, asg_hooks.TERMINATING):
        member.lifecycle_state = "ReplacingRootVolume:Wait"
        asg_hooks.begin(group, member, asg_hooks.TERMINATING, proceed)
    else:
        proceed("CONTINUE")
