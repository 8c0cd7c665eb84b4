"""One instance refresh: its state, its progress, and what DescribeInstanceRefreshes returns.

asg_rolling moves it through its statuses.
"""

import copy
import math
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from . import asg_config, asg_instances
from .wire import AwsError
from .world import world

ACTIVE = ("Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress")
REPLACING = ("InProgress", "RollbackInProgress")


@dataclass
class Refresh:
    group: object
    strategy: str
    # the desired configuration, or None
    config: dict | None
    preferences: dict
    created: datetime
    # IDs of the instances that the current direction replaces, and of those that it made
    due: set[str]
    made: set[str] = field(default_factory=set)
    # how many instances the refresh replaces
    total: int = 0
    # kind of fault -> its options
    faults: dict[str, dict] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "Pending"
    reason: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    percent: int = 0
    remaining: int = 0
    rollback: dict | None = None
    # index of the next checkpoint, and the timestamp until which a reached one lasts
    checkpoint: int = 0
    paused_until: float = 0.0
    # timestamp since which no instance could be replaced
    blocked_since: float | None = None
    # timestamp before which a refused launch is not tried again
    retry_at: float = 0.0
    # CancelInstanceRefresh waits for launches and terminations in progress, and not before this timestamp
    waits: bool = True
    cancel_at: float = 0.0
    # whether it is being advanced now: changes that it causes itself do not advance it again
    busy: bool = False

    @property
    def rolling_back(self) -> bool:
        return self.status == "RollbackInProgress"

    @property
    def skips(self) -> bool:
        return bool(self.preferences["SkipMatching"]) and self.rollback is None

    def target(self) -> dict:
        """Return the configuration of replacements."""
        own = asg_config.config_of(self.group)
        return own if self.rollback else self.config or own

    def old(self) -> list:
        """Return the instances that are still to be replaced and are not Terminating."""
        leaving = asg_instances.TERMINATING
        here = [m for m in self.group.instance_states if m.lifecycle_state not in leaving]
        if self.skips:
            kinds = asg_config.launches(self.group, self.target())
            found = [m for m in here if not asg_instances.matches(m, kinds)]
        else:
            found = [m for m in here if m.instance.id in self.due and m.instance.id not in self.made]
        return [m for m in found if not self.ignores(m)]

    def ignores(self, member) -> bool:
        """Whether the preferences exclude an instance; what a rollback replaces is never excluded."""
        if self.rollback:
            return False
        if member.lifecycle_state == "Standby":
            return self.preferences["StandbyInstances"] == "Ignore"
        return member.protected_from_scale_in and self.preferences["ScaleInProtectedInstances"] == "Ignore"

    def new(self) -> list:
        """Return the instances that this direction made and that are not Terminating."""
        return [m for m in asg_instances.serving(self.group) if m.instance.id in self.made]

    def measure(self) -> None:
        """Update the progress: an instance counts when its replacement has warmed up."""
        try:
            old = len(self.old())
        except AwsError:  # a version to compare with is deleted: the progress stays
            return
        if self.rollback:
            left = math.floor(100 * min(old, self.total) / self.total) if self.total else 0
            self.percent = min(self.percent, left)
            return
        unready = [m for m in self.new() if not asg_instances.is_ready(self.group, m)]
        missing = (self.group.desired_capacity or 0) - len(asg_instances.serving(self.group))
        open_ = min(self.total, old + len(unready) + max(0, missing))
        self.percent = math.floor(100 * (self.total - open_) / self.total) if self.total else 100
        self.remaining = old

    def turn_back(self, reason: str) -> None:
        """Change the direction: replace what was made, from the saved configuration of the group."""
        self.rollback = {
            "RollbackReason": reason,
            "RollbackStartTime": world.account(self.group.account_id).clock.now(),
            "PercentageCompleteOnRollback": self.percent,
            "InstancesToUpdateOnRollback": self.remaining,
        }
        if self.details():
            self.rollback["ProgressDetailsOnRollback"] = self.details()
        self.status, self.reason = "RollbackInProgress", reason
        self.due, self.made = set(self.made), set()
        self.blocked_since, self.paused_until = None, 0.0

    def details(self) -> dict | None:
        """Return the progress per pool for a group with a warm pool, whose instances are not emulated."""
        if self.group.warm_pool is None:
            return None
        live = {"PercentageComplete": self.percent, "InstancesToUpdate": self.remaining}
        warm = {"PercentageComplete": 100, "InstancesToUpdate": 0}
        return {"LivePoolProgress": live, "WarmPoolProgress": warm}

    def describe(self) -> dict:
        shown = {
            "InstanceRefreshId": self.id,
            "AutoScalingGroupName": self.group.name,
            "Status": self.status,
            "StatusReason": self.reason,
            "StartTime": self.started,
            "EndTime": self.ended,
            "PercentageComplete": self.percent,
            "InstancesToUpdate": self.remaining,
            "ProgressDetails": self.details(),
            "Preferences": copy.deepcopy(self.preferences),
            "DesiredConfiguration": copy.deepcopy(self.config),
            "RollbackDetails": self.rollback,
            "Strategy": self.strategy,
        }
        return {k: v for k, v in shown.items() if v is not None}


def all_of(group) -> list[Refresh]:
    return world.account(group.account_id).refreshes.get(group.arn, [])


def active(group) -> Refresh | None:
    return next((r for r in reversed(all_of(group)) if r.status in ACTIVE), None)
