"""IAM policy documents: parsed strictly, then matched against one check.

Anything that IAM would accept but the bed cannot evaluate (an unknown action, operator
or condition key, a policy variable other than the caller's ID) is refused when the
policy is set. Otherwise a typing error would look like a policy that allows less, or
like a test that passes.
"""

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache

import botocore.session
from botocore.exceptions import UnknownServiceError

from .iam_conditions import Condition, PolicyError, conditions_of

# IAM's limit for a managed policy, without white space.
LARGEST = 6144
MEMBERS = {
    "Sid",
    "Effect",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
}
SID = re.compile(r"[A-Za-z0-9]*")
ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov|\*):[^:]*:[^:]*:[^:]*:.+")
# IAM's prefix -> services of the botocore model
MODELS = {"ses": ("sesv2", "ses"), "logs": ("logs",)}
# The only policy variable that the bed supports: the ID of the caller.
USER_ID = "${aws:userid}"
# actions that are not names of operations
PERMISSION_ONLY = {
    "iam:passrole",
    "kms:reencryptfrom",
    "kms:reencryptto",
    "ssmmessages:createcontrolchannel",
    "ssmmessages:createdatachannel",
    "ssmmessages:opencontrolchannel",
    "ssmmessages:opendatachannel",
}


@dataclass(frozen=True)
class Statement:
    """One statement. `actions` and `resources` are patterns, which `not_actions` and `not_resources` invert."""

    sid: str
    allows: bool
    actions: tuple[re.Pattern, ...]
    not_actions: bool
    resources: tuple[re.Pattern, ...]
    not_resources: bool
    conditions: tuple[Condition, ...]
    source: dict = field(compare=False)

    def matches(self, check) -> bool:
        named = any(p.fullmatch(check.action.lower()) for p in self.actions)
        covered = any(p.fullmatch(check.resource) for p in self.resources)
        return (
            named != self.not_actions
            and covered != self.not_resources
            and all(condition.holds(check.context) for condition in self.conditions)
        )


@dataclass(frozen=True)
class Policy:
    """The statements attached to one access key, and the user it belongs to."""

    statements: tuple[Statement, ...]
    user: str

    def decide(self, check) -> tuple[bool, Statement | None]:
        """Return whether the check passes, and the statement that decided (None: no statement matches)."""
        matching = [s for s in self.statements if s.matches(check)]
        denying = next((s for s in matching if not s.allows), None)
        if denying:
            return False, denying
        return bool(matching), matching[0] if matching else None


def policy_of(documents: list[dict], user: str = "opsy") -> Policy:
    """Combine the statements of all documents; IAM's limits apply to each document separately."""
    statements = []
    for document in documents:
        statements += _statements(document, user)
    return Policy(tuple(statements), user)


def user_id(user: str) -> str:
    """Return the unique ID of a user, which replaces the policy variable."""
    return f"AIDA{user.upper()}"


def _statements(document: dict, user: str) -> list[Statement]:
    if not isinstance(document, dict):
        raise PolicyError("a policy document must be a JSON object")
    size = len(re.sub(r"\s", "", json.dumps(document, separators=(",", ":"))))
    if size > LARGEST:
        raise PolicyError(f"the policy has {size} characters; IAM allows at most {LARGEST}")
    unknown = set(document) - {"Version", "Id", "Statement"}
    if unknown:
        raise PolicyError(f"unknown members of the policy: {sorted(unknown)}")
    if document.get("Version") != "2012-10-17":
        raise PolicyError("Version must be 2012-10-17")
    text = json.dumps(document.get("Statement")).replace(USER_ID, user_id(user))
    given = _list(json.loads(text))
    statements = [_statement(one) for one in given]
    sids = [s.sid for s in statements if s.sid]
    if len(sids) != len(set(sids)):
        raise PolicyError("a Sid occurs twice")
    return statements


def _statement(given: dict) -> Statement:
    sid = given.get("Sid", "")
    unknown = set(given) - MEMBERS
    if unknown:
        raise PolicyError(f"statement {sid!r}: unknown members {sorted(unknown)}")
    if not SID.fullmatch(sid):
        raise PolicyError(f"statement {sid!r}: a Sid must contain only letters and digits")
    if given.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError(f"statement {sid!r}: Effect must be Allow or Deny")
    for one, other in (("Action", "NotAction"), ("Resource", "NotResource")):
        if (one in given) == (other in given):
            raise PolicyError(f"statement {sid!r}: needs {one} or {other}")
    actions = _list(given.get("Action", given.get("NotAction")))
    resources = _list(given.get("Resource", given.get("NotResource")))
    for action in actions:
        _refuse_action(sid, action)
    for resource in resources:
        _refuse_resource(sid, resource)
    return Statement(
        sid,
        given["Effect"] == "Allow",
        tuple(wildcards(a.lower()) for a in actions),
        "NotAction" in given,
        tuple(wildcards(r) for r in resources),
        "NotResource" in given,
        conditions_of(sid, given.get("Condition", {})),
        given,
    )


def _list(value) -> list:
    found = value if isinstance(value, list) else [value]
    if not found or any(v is None for v in found):
        raise PolicyError("Statement, Action and Resource must not be empty")
    return found


def wildcards(text: str) -> re.Pattern:
    """`*` matches any text and `?` one character; nothing else is special."""
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in text), re.DOTALL)


def _refuse_action(sid: str, action: str) -> None:
    if action == "*":
        return
    vendor, _, name = action.partition(":")
    known = _operations(vendor.lower())
    if not known:
        raise PolicyError(f"statement {sid!r}: there is no service {vendor!r} ({action})")
    pattern = wildcards(name.lower())
    if not any(pattern.fullmatch(one) for one in known):
        raise PolicyError(f"statement {sid!r}: there is no action {action!r}")


@lru_cache
def _operations(vendor: str) -> frozenset[str]:
    """Return the actions of a service in lower case, from the botocore model; empty for an unknown service."""
    names = {a.partition(":")[2] for a in PERMISSION_ONLY if a.startswith(f"{vendor}:")}
    for service in MODELS.get(vendor, (vendor,)):
        try:
            model = botocore.session.get_session().get_service_model(service)
        except UnknownServiceError:
            continue
        names.update(name.lower() for name in model.operation_names)
    return frozenset(names)


def _refuse_resource(sid: str, resource: str) -> None:
    if "${" in resource:
        raise PolicyError(f"statement {sid!r}: the test bed supports no policy variable except {USER_ID}: {resource}")
    if resource != "*" and not ARN.fullmatch(resource):
        raise PolicyError(f"statement {sid!r}: {resource!r} is not an ARN")
