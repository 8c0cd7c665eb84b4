"""State that is not moto's: one Account per account id, and the call in progress.

Resources live in moto's backends; an Account adds the clock, the settings and
the idempotency records that moto lacks. `world.call` is the call being executed:
the application runs one at a time under one lock.
"""

from dataclasses import asdict, dataclass, field, fields

from .clock import Clock

DEFAULT_ACCOUNT = "123456789012"


@dataclass
class Settings:
    """How an account behaves: durations in emulated seconds, limits, and unpleasantness, off."""

    nodegroup_update_seconds: float = 60
    nodegroup_config_seconds: float = 5
    nodegroup_create_seconds: float = 0
    nodegroup_delete_seconds: float = 30
    image_pending_seconds: float = 0
    # UpdateNodegroupVersion and UpdateNodegroupConfig of a DEGRADED group are accepted
    degraded_accepts_updates: bool = False
    # eventual consistency: what is newer is not seen yet, by EC2 and EKS; and by EKS alone
    stale_tags_seconds: float = 0
    stale_images_seconds: float = 0
    stale_snapshots_seconds: float = 0
    stale_versions_seconds: float = 0
    stale_eks_seconds: float = 0
    # instances must be launched with HttpTokens=required, as where httpTokensEnforced is on
    imds_required: bool = False
    default_vpc: bool = True
    # images of other providers (account ids or aliases) are hidden; empty: of none
    allowed_image_providers: list = field(default_factory=list)
    # UpdateNodegroupConfig sets what its updateConfig leaves out back to EKS's default
    config_update_resets: bool = False
    # EKS's refusals end in their own request id
    request_ids_in_messages: bool = False
    # AWS's own limit; lowered to meet VersionLimitExceeded
    template_versions_limit: float = 10_000

    def change(self, wanted: dict) -> None:
        known = {f.name: f.type for f in fields(self)}
        unknown = set(wanted) - set(known)
        if unknown:
            raise ValueError(f"unknown settings {sorted(unknown)}; known: {sorted(known)}")
        for name, value in wanted.items():
            if known[name] in (bool, list) and not isinstance(value, known[name]):
                raise ValueError(f"{name} must be of type {known[name].__name__}")
            setattr(self, name, known[name](value))

    def describe(self) -> dict:
        return asdict(self)


@dataclass
class Account:
    id: str
    clock: Clock
    settings: Settings = field(default_factory=Settings)
    # client token -> (fingerprint of the request, remembered answer)
    tokens: dict[tuple[str, str], tuple[str, object]] = field(default_factory=dict)
    # (region, cluster) -> what seeding made
    seeded: dict[tuple[str, str], dict] = field(default_factory=dict)
    # (region, cluster, node group, update id) -> update
    updates: dict[tuple[str, str, str, str], dict] = field(default_factory=dict)
    # when what was made and tagged (staleness)
    writes: object = None
    # what was published to topics and mailed, in order
    sent: list[dict] = field(default_factory=list)
    # access key -> what IAM allows it; a key that is not here may do everything
    policies: dict[str, object] = field(default_factory=dict)
    # access key -> what IAM was asked and granted, each once
    granted: dict[str, dict] = field(default_factory=dict)

    def send(self, **message) -> None:
        self.sent.append({"time": self.clock.now().isoformat() + "Z", **message})


class World:
    """Every account the bed has seen."""

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

    def forget(self, account_id: str) -> None:
        from moto.core.base_backend import BackendDict

        self._accounts.pop(account_id, None)
        for backends in BackendDict._instances:
            backends.pop(account_id, None)

    def effect(self, kind: str):
        """The behavioural fault of this kind that hit the call in progress, if any."""
        return next((fault for fault in self.effects if fault.kind == kind), None)


world = World()
