"""Faults: the calls that they match, and their effects.

Wire faults replace or delay the response. Behavioral faults (BEHAVIOURS) change
what an operation does; its handler finds them through world.effect.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

import bedkit.faults

from .staleness import CLASSES
from .wire import AwsError, Call
from .world import world

WIRE = {
    "throttle",
    "error",
    "raw",
    "slow",
    "slow_after",
    "reset",
    "lost",
    "deny",
    "expired",
}
# kind -> default (service, operation) to which the fault applies
BEHAVIOURS = {
    "nodegroup-update-fails": ("eks", "UpdateNodegroupVersion"),
    "image-fails": ("ec2", "CreateImage"),
    "image-pending": ("ec2", "CreateImage"),
    "stale": ("ec2|eks", None),
    "refresh-fails": ("autoscaling", "StartInstanceRefresh"),
    "refresh-hangs": ("autoscaling", "StartInstanceRefresh"),
    "instances-unhealthy": ("autoscaling", "StartInstanceRefresh"),
    "rollback-fails": ("autoscaling", "StartInstanceRefresh|RollbackInstanceRefresh"),
    "cancel-slow": ("autoscaling", "CancelInstanceRefresh"),
    # of nodes of connected clusters, with the parameters group, image, instance and node
    "node-never-joins": ("nodes", "Join"),
    "node-joins-late": ("nodes", "Join"),
    "node-not-ready": ("nodes", "Join"),
}
MATCHERS = {"service", "operation", "params", "access_key", "account", "skip", "count"}
# emulated seconds from now, or a time; they require an account, because they use its clock
WINDOW = {"after", "lasting", "until"}

THROTTLES = {
    "ec2": ("RequestLimitExceeded", "Request limit exceeded.", 503),
    "autoscaling": ("Throttling", "Rate exceeded", 400),
    "eks": ("ThrottlingException", "Rate exceeded", 429),
    "ssm": ("ThrottlingException", "Rate exceeded", 400),
    "sesv2": ("TooManyRequestsException", "Maximum sending rate exceeded.", 429),
    "sns": ("Throttling", "Rate exceeded", 400),
    "sts": ("Throttling", "Rate exceeded", 400),
}
# IAM's prefixes of services, where they differ from the API
IAM_PREFIXES = {"sesv2": "ses", "sns": "SNS"}
EXPIRED = {
    "ec2": ("RequestExpired", "Request has expired.", 400),
    "query": ("ExpiredToken", "The security token included in the request is expired", 403),
    "rest-json": (
        "ExpiredTokenException",
        "The security token included in the request is expired",
        403,
    ),
    "json": (
        "ExpiredTokenException",
        "The security token included in the request is expired",
        400,
    ),
}
GATEWAY_PAGE = (
    b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
)


@dataclass
class Fault(bedkit.faults.Fault):
    """One rule. The first `skip` matching calls pass; `count` None means no limit."""

    id: int
    kind: str
    service: str | None = None
    operation: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    access_key: str | None = None
    account: str | None = None
    skip: int = 0
    count: int | None = None
    hits: int = 0
    # emulated timestamps of the account
    begins: float | None = None
    ends: float | None = None
    options: dict = field(default_factory=dict)

    def matches(self, call: Call) -> bool:
        pairs = (
            (self.service, call.service),
            (self.operation, call.operation),
            (self.access_key, call.access_key),
            (self.account, call.account),
        )
        if any(want and not re.fullmatch(want, have) for want, have in pairs):
            return False
        now = world.account(call.account).clock.timestamp()
        if (self.begins or now) > now or (self.ends or now) < now:
            return False
        return all(
            re.search(pattern, str(call.params.get(name, "")))
            for name, pattern in self.params.items()
        )


class Faults(bedkit.faults.Faults):
    def add(self, wanted: dict) -> Fault:
        kind = wanted.get("kind")
        if kind not in WIRE and kind not in BEHAVIOURS:
            raise ValueError(
                f"unknown fault kind {kind!r}; known: {sorted(WIRE | set(BEHAVIOURS))}"
            )
        given = {k: v for k, v in wanted.items() if k in MATCHERS and v is not None}
        options = {k: v for k, v in wanted.items() if k not in MATCHERS | WINDOW | {"kind"}}
        given |= _window(wanted)
        if kind in BEHAVIOURS:
            given.setdefault("service", BEHAVIOURS[kind][0])
            given.setdefault("operation", BEHAVIOURS[kind][1])
        if kind == "stale":
            unknown = set(options.get("what", CLASSES)) - set(CLASSES)
            if unknown or "operation" not in wanted:
                raise ValueError(f"stale requires `operation`; `what` must be a subset of {CLASSES}")
        for pattern in [*given.get("params", {}).values(), given.get("operation") or ""]:
            re.compile(pattern)
        fault = Fault(next(self._ids), kind, options=options, **given)
        self._rules.append(fault)
        return fault

    def hit(self, call: Call) -> tuple[Fault | None, list[Fault]]:
        """Return the first wire fault and all behavioral faults that hit this call."""
        wire, effects = None, []
        for fault in list(self._rules):
            if not fault.matches(call) or (fault.kind in WIRE and wire):
                continue
            if not self.applies(fault):
                continue
            if fault.kind in WIRE:
                wire = fault
            else:
                effects.append(fault)
        return wire, effects

    def describe(self, account: str | None = None) -> list[dict]:
        return [f.describe() for f in self._rules if account in (None, f.account)]

    def clear(self, account: str | None = None, fault_id: int | None = None) -> int:
        return self.keep(
            lambda f: (account and f.account != account) or (fault_id and f.id != fault_id)
        )


def _window(wanted: dict) -> dict[str, float]:
    if not WINDOW & set(wanted):
        return {}
    if not re.fullmatch(r"\d{12}", str(wanted.get("account", ""))):
        raise ValueError(f"{sorted(WINDOW & set(wanted))} require one account, because they use its clock")
    begins = world.account(wanted["account"]).clock.timestamp() + float(wanted.get("after", 0))
    window = {"begins": begins}
    if "lasting" in wanted:
        window["ends"] = begins + float(wanted["lasting"])
    if "until" in wanted:
        moment = datetime.fromisoformat(wanted["until"].replace("Z", "+00:00"))
        window["ends"] = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    return window


def refusal(fault: Fault, call: Call) -> AwsError:
    """Return the error of a throttle, error, deny or expired fault."""
    options = fault.options
    if fault.kind == "throttle":
        code, message, status = THROTTLES.get(call.service, ("Throttling", "Rate exceeded", 400))
    elif fault.kind == "expired":
        code, message, status = EXPIRED[call.protocol]
    elif fault.kind == "deny":
        code, message, status = _denial(call)
    else:
        code, message, status = "InternalError", "An internal error has occurred", 500
    return AwsError(
        options.get("code", code),
        options.get("message", message),
        int(options.get("status", status)),
    )


def _denial(call: Call) -> tuple[str, str, int]:
    action = f"{IAM_PREFIXES.get(call.service, call.service)}:{call.operation}"
    user = f"arn:aws:iam::{call.account}:user/opsy"
    why = (
        f"User: {user} is not authorized to perform: {action} because no "
        f"identity-based policy allows the {action} action"
    )
    if call.protocol == "ec2":
        return (
            "UnauthorizedOperation",
            f"You are not authorized to perform this operation. {why}",
            403,
        )
    if call.service == "sns":
        return "AuthorizationError", why, 403
    if call.protocol == "query":
        return "AccessDenied", why, 403
    return "AccessDeniedException", why, 403 if call.protocol == "rest-json" else 400
