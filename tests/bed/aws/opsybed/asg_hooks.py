"""Lifecycle hooks: an instance waits until each hook of its transition is completed or times out."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from moto.autoscaling.models import autoscaling_backends

from .asg_config import invalid
from .world import world

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
TRANSITIONS = (LAUNCHING, TERMINATING)
RESULTS = ("CONTINUE", "ABANDON")
# AWS's limits of a wait: 48 hours, and a hundred heartbeats
LONGEST_WAIT = 172_800
MOST_HEARTBEATS = 100


@dataclass
class Action:
    """The wait of one instance for one hook. `then` is called with the result of the last open action."""

    hook: object
    token: str
    expires: float
    limit: float
    then: Callable[[str], None]


def hooks_of(group, transition: str) -> list:
    known = autoscaling_backends[group.account_id][group.region].lifecycle_hooks.values()
    return [
        h
        for h in known
        if h.auto_scaling_group_name == group.name and h.lifecycle_transition == transition
    ]


def actions_of(member) -> dict[str, Action]:
    """Return the open actions of an instance by hook; attached instances get the list now."""
    if not hasattr(member, "actions"):
        member.actions = {}
    return member.actions


def begin(group, member, transition: str, then: Callable[[str], None]) -> None:
    """Start the waits of a transition, one per hook."""
    now = world.account(group.account_id).clock.timestamp()
    for hook in hooks_of(group, transition):
        expires, limit = now + hook.heartbeat_timeout, now + hook.global_timeout
        actions_of(member)[hook.name] = Action(hook, str(uuid.uuid4()), expires, limit, then)
    for action in list(actions_of(member).values()):
        _watch(group, member, action)
        _complete_later(group, member, action)


def _complete_later(group, member, action: Action) -> None:
    """Complete the action of a hook with `completes_after` after that time, as a drainer of nodes would."""
    after = getattr(action.hook, "completes_after", None)
    if after is None:
        return

    def end() -> None:
        if member.actions.get(action.hook.name) is action:
            finish(member, action, "CONTINUE")

    world.account(group.account_id).clock.after(max(1.0, after), end)


def _watch(group, member, action: Action) -> None:
    """Complete the action with its default result when it expires; a heartbeat may have postponed that."""
    clock = world.account(group.account_id).clock

    def expire() -> None:
        if member.actions.get(action.hook.name) is not action:
            return
        if clock.timestamp() < min(action.expires, action.limit):
            _watch(group, member, action)
            return
        finish(member, action, action.hook.default_result)

    clock.after(max(0.0, min(action.expires, action.limit) - clock.timestamp()), expire)


def finish(member, action: Action, result: str) -> None:
    """Complete an action. ABANDON ends the waits for all hooks of the instance."""
    member.actions.pop(action.hook.name, None)
    if result == "ABANDON":
        member.actions.clear()
    if not member.actions:
        action.then(result)


def complete(group, hook: str, asked: dict) -> None:
    result = asked.get("LifecycleActionResult")
    if result not in RESULTS:
        raise invalid(f"Lifecycle action result must be one of {', '.join(RESULTS)}.")
    member, action = _find(group, hook, asked)
    finish(member, action, result)


def complete_all(group, result: str) -> None:
    """Complete every open action of a group."""
    for member in list(group.instance_states):
        for action in list(actions_of(member).values()):
            if actions_of(member).get(action.hook.name) is action:
                finish(member, action, result)


def heartbeat(group, hook: str, asked: dict) -> None:
    _, action = _find(group, hook, asked)
    now = world.account(group.account_id).clock.timestamp()
    action.expires = now + action.hook.heartbeat_timeout


def _find(group, hook: str, asked: dict) -> tuple:
    token, instance_id = asked.get("LifecycleActionToken"), asked.get("InstanceId")
    for member in group.instance_states:
        action = actions_of(member).get(hook)
        if action and (action.token == token or (not token and member.instance.id == instance_id)):
            return member, action
    wanted = f"token {token}" if token else f"instance ID {instance_id}"
    raise invalid(f"No active Lifecycle Action found with {wanted}")
