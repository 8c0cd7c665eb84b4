"""State in addition to moto's: one Account per account ID, and the call in progress.

Resources are stored in moto's backends; an Account adds the clock, the settings and
the idempotency records that moto lacks. `world.call` is the call being executed:
the application runs one call at a time under one lock.
"""

from dataclasses import dataclass, field

import bedkit.settings

from .clock import Clock

DEFAULT_ACCOUNT = "123456789012"


@dataclass
class Settings(bedkit.settings.Settings):
    """The behavior of an account: durations in emulated seconds, limits, and restrictions, which are off by default."""

    nodegroup_update_seconds: float = 60
    nodegroup_config_seconds: float = 5
    nodegroup_create_seconds: float = 0
    nodegroup_delete_seconds: float = 30
    image_pending_seconds: float = 0
    # of instance refreshes: until one begins, turns back or is canceled, and per instance: until it is in
    # service, replaced because it is unhealthy, and gone
    refresh_pending_seconds: float = 5
    instance_launch_seconds: float = 30
    instance_unhealthy_seconds: float = 60
    instance_terminate_seconds: float = 10
    # of the nodes of connected clusters: from the launch until a node joins, and between attempts to evict a pod
    node_join_seconds: float = 60
    eviction_retry_seconds: float = 5
    # UpdateNodegroupVersion and UpdateNodegroupConfig of a DEGRADED group are accepted
    degraded_accepts_updates: bool = False
    # eventual consistency: newer writes are not visible yet to EC2 and EKS; the last one is for EKS only
    stale_tags_seconds: float = 0
    stale_images_seconds: float = 0
    stale_snapshots_seconds: float = 0
    stale_versions_seconds: float = 0
    stale_eks_seconds: float = 0
    # instances must be launched with HttpTokens=required, as with httpTokensEnforced
    imds_required: bool = False
    default_vpc: bool = True
    # images of other providers (account IDs or aliases) are hidden; an empty list hides none
    allowed_image_providers: list = field(default_factory=list)
    # UpdateNodegroupConfig resets what its updateConfig omits to EKS's default
    config_update_resets: bool = False
    # EKS's error messages end with their request ID
    request_ids_in_messages: bool = False
    # pages of DescribeAutoScalingGroups are filtered after they are cut, so that they can be short or empty
    short_pages: bool = False
    # AWS's own limit; tests lower it to get VersionLimitExceeded
    template_versions_limit: float = 10_000


@dataclass
class Account:
    id: str
    clock: Clock
    settings: Settings = field(default_factory=Settings)
    # client token -> (fingerprint of the request, stored response)
    tokens: dict[tuple[str, str], tuple[str, object]] = field(default_factory=dict)
    # (region, cluster) -> what seeding created
    seeded: dict[tuple[str, str], dict] = field(default_factory=dict)
    # (region, cluster, node group, update id) -> update
    updates: dict[tuple[str, str, str, str], dict] = field(default_factory=dict)
    # the times of writes (see staleness)
    writes: object = None
    # ARN of an Auto Scaling group -> its instance refreshes and its scaling activities, oldest first
    refreshes: dict[str, list] = field(default_factory=dict)
    activities: dict[str, list[dict]] = field(default_factory=dict)
    # name of a CloudWatch alarm -> OK, ALARM or INSUFFICIENT_DATA
    alarms: dict[str, str] = field(default_factory=dict)
    # messages published to topics and mails sent, in order
    sent: list[dict] = field(default_factory=list)
    # access key -> its policy; a key without an entry may do everything
    policies: dict[str, object] = field(default_factory=dict)
    # access key -> the checks that IAM granted, without duplicates
    granted: dict[str, dict] = field(default_factory=dict)
    # (region, cluster) -> the bridge to its real API server
    bridges: dict[tuple[str, str], object] = field(default_factory=dict)

    # how many calls may have changed something
    changes: int = 0

    def wake_bridges(self) -> None:
        self.changes += 1
        for bridge in list(self.bridges.values()):
            bridge.wake()

    def send(self, **message) -> None:
        self.sent.append({"time": self.clock.now().isoformat() + "Z", **message})


class World:
    """All accounts that the bed has seen."""

    def __init__(self) -> None:
        self.speed = 1.0
        self.ssh = None
        self.call = None
        self.effects: list = []
        self._accounts: dict[str, Account] = {}

    def account(self, account_id: str) -> Account:
        if account_id not in self._accounts:
            self._accounts[account_id] = Account(account_id, Clock(self.speed))
        return self._accounts[account_id]

    def accounts(self) -> list[Account]:
        return list(self._accounts.values())

    def wake_bridges(self) -> None:
        for account in self.accounts():
            account.wake_bridges()

    def forget(self, account_id: str) -> None:
        from moto.core.base_backend import BackendDict

        self._accounts.pop(account_id, None)
        for backends in BackendDict._instances:
            backends.pop(account_id, None)

    def effect(self, kind: str):
        """Return the behavioral fault of this kind that hit the call in progress, if any."""
        return next((fault for fault in self.effects if fault.kind == kind), None)


world = World()
