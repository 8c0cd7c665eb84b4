"""A stand-in for aws-node-termination-handler: it drains instances that wait for a terminating lifecycle hook.

When a node is drained, its lifecycle actions are completed. A drain that is not done when the
hook times out ends with the instance, as with the real handler.
"""

from . import asg_hooks
from .kube_drains import Drain


def advance(bridge) -> None:
    """Begin and collect drains. It runs under the application's lock."""
    for group in bridge.members.groups():
        for state in list(group.instance_states):
            if state.lifecycle_state == "Terminating:Wait":
                _handle(bridge, state)


def _handle(bridge, state) -> None:
    member = bridge.members.all.get(state.instance.id)
    if member is None:
        return
    drain = bridge.drains.get(member.instance)
    if drain is None:
        bridge.drains[member.instance] = Drain(member, None)
    elif drain.done:
        for action in list(asg_hooks.actions_of(state).values()):
            asg_hooks.finish(state, action, "CONTINUE")
        bridge.refresh()
