"""Scaling activities: the launches and terminations of each Auto Scaling group, with reasons of failures."""

import uuid

from .world import world


def begin(group, description: str, cause: str) -> dict:
    account = world.account(group.account_id)
    activity = {
        "ActivityId": str(uuid.uuid4()),
        "AutoScalingGroupName": group.name,
        "AutoScalingGroupARN": group.arn,
        "Description": description,
        "Cause": cause,
        "StartTime": account.clock.now(),
        "StatusCode": "InProgress",
        "Progress": 50,
        "Details": "{}",
    }
    account.activities.setdefault(group.arn, []).append(activity)
    return activity


def end(group, activity: dict, status: str = "Successful", message: str | None = None) -> None:
    activity["EndTime"] = world.account(group.account_id).clock.now()
    activity["StatusCode"], activity["Progress"] = status, 100
    if message:
        activity["StatusMessage"] = message


def of(group) -> list[dict]:
    """Return the activities of a group, newest first."""
    return list(reversed(world.account(group.account_id).activities.get(group.arn, [])))
