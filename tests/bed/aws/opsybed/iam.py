"""IAM: whether the policies of an access key allow a call, and AWS's error if they do not.

A key without a policy may do everything. For other keys, a call is checked as IAM
does it: once per action and resource that it implies, and all checks must pass.
"""

import base64
import json
import uuid
import zlib

from . import iam_ec2, iam_services
from .iam_launch import group_launch, node_group_launch
from .iam_policy import Policy, Statement, policy_of
from .iam_scope import Check, Scope
from .wire import AwsError, Call
from .world import world

# Stands for every key of the account that has no policy of its own.
ANY_KEY = "*"


def attach(account_id: str, access_key: str | None, documents: list[dict], user: str) -> Policy:
    policy = policy_of(documents, user)
    world.account(account_id).policies[access_key or ANY_KEY] = policy
    return policy


def policy_for(call: Call) -> Policy | None:
    policies = world.account(call.account).policies
    return policies.get(call.access_key) or policies.get(ANY_KEY)


def user_of(call: Call) -> str:
    """Return the ARN of the caller."""
    policy = policy_for(call)
    return Scope(call.account, call.region).principal(policy.user if policy else "opsy")


def authorize(call: Call) -> None:
    """Raise AWS's error if the call is not allowed."""
    policy = policy_for(call)
    if policy is None:
        return
    for check in checks_of(call):
        allowed, statement = policy.decide(check)
        if not allowed:
            raise denial(call, check, statement)
        _remember(call, check)


def _remember(call: Call, check: Check) -> None:
    known = world.account(call.account).granted.setdefault(call.access_key, {})
    known[check.action, check.resource, str(sorted(check.context.items()))] = check


def needed(account_id: str, access_key: str) -> dict[str, list[str]]:
    """Return, per statement of a key's policy, the checks granted so far that would be denied without it."""
    account = world.account(account_id)
    policy = account.policies[access_key]
    granted = account.granted.get(access_key, {}).values()
    found = {}
    for statement in policy.statements:
        others = Policy(tuple(s for s in policy.statements if s is not statement), policy.user)
        denied = [c for c in granted if not others.decide(c)[0]]
        found[statement.sid] = sorted({f"{c.action} on {c.resource}" for c in denied})
    return found


def checks_of(call: Call) -> list[Check]:
    scope = Scope(call.account, call.region)
    if call.service == "ec2":
        found = iam_ec2.checks(scope, call.operation, call.params)
    else:
        found = iam_services.checks(scope, call.service, call.operation, call.params)
    if found is None:
        raise AwsError(
            "UnsupportedOperation",
            f"The test bed does not know which resources IAM authorizes {call.service} "
            f"{call.operation} on: add it to opsybed/iam_ec2.py or iam_services.py.",
        )
    return found


def may_all(call: Call, checks: list[Check]) -> bool:
    """Whether all checks pass; for actions that a service does later on behalf of the caller."""
    policy = policy_for(call)
    for check in checks if policy else []:
        if not policy.decide(check)[0]:
            return False
        _remember(call, check)
    return True


def may(call: Call, action: str, kind: str, name: str) -> bool:
    """Whether the caller may do this; for optional parts of an operation."""
    policy = policy_for(call)
    scope = Scope(call.account, call.region)
    return policy is None or policy.decide(scope.existing(action, kind, name))[0]


def try_launch(call: Call, group, version) -> None:
    """Check the launch with the caller's permissions, as EKS does with a dry run."""
    policy = policy_for(call)
    if policy is None or version is None:
        return
    for check in node_group_launch(Scope(call.account, call.region), group, version):
        allowed, statement = policy.decide(check)
        if allowed:
            _remember(call, check)
        else:
            raise AwsError(
                "InvalidRequestException",
                "You are not authorized to launch instances with this launch template. Encoded "
                f"authorization failure message: {_encoded(call, check, statement)}",
                400,
                clusterName=group.cluster_name,
                nodegroupName=group.nodegroup_name,
            )


def try_group_launch(call: Call, group, specs: list[dict]) -> None:
    """Check the launches of an Auto Scaling group with the caller's permissions, as EC2 Auto Scaling does."""
    policy = policy_for(call)
    for spec in specs if policy else []:
        for check in group_launch(Scope(call.account, call.region), group, spec):
            if not policy.decide(check)[0]:
                named = spec.get("LaunchTemplateId") or spec.get("LaunchTemplateName")
                message = f"You are not authorized to use launch template: {named}"
                raise AwsError("AccessDenied", message, 403)
            _remember(call, check)


def denial(call: Call, check: Check, statement: Statement | None) -> AwsError:
    """Return the error with the code and message of the service."""
    about = "" if check.resource == "*" else f" on resource: {check.resource}"
    why = (
        "with an explicit deny in an identity-based policy"
        if statement
        else f"because no identity-based policy allows the {check.action} action"
    )
    text = f"User: {user_of(call)} is not authorized to perform: {check.action}{about} {why}"
    if call.service == "ec2":
        text = f"You are not authorized to perform this operation. {text}"
        if about:
            encoded = _encoded(call, check, statement)
            text = f"{text}. Encoded authorization failure message: {encoded}"
        return AwsError("UnauthorizedOperation", text, 403)
    if call.service == "sns":
        return AwsError("AuthorizationError", text, 403)
    if call.protocol == "query":
        return AwsError("AccessDenied", text, 403)
    return AwsError("AccessDeniedException", text, 403 if call.protocol == "rest-json" else 400)


def _encoded(call: Call, check: Check, statement: Statement | None) -> str:
    """Return an opaque string that differs each time; sts:DecodeAuthorizationMessage decodes it."""
    items = [
        {"key": key, "values": {"items": [{"value": value} for value in values]}}
        for key, values in sorted(check.context.items())
    ]
    decoded = {
        "allowed": False,
        "explicitDeny": statement is not None,
        "matchedStatements": {"items": [statement.source] if statement else []},
        "failures": {"items": []},
        "context": {
            "principal": {"id": call.access_key, "arn": user_of(call)},
            "action": check.action,
            "resource": check.resource,
            "conditions": {"items": items},
        },
    }
    text = json.dumps({"nonce": str(uuid.uuid4()), "decoded": decoded})
    return base64.urlsafe_b64encode(zlib.compress(text.encode())).decode().rstrip("=")


def decode(message: str) -> str:
    try:
        padded = message + "=" * (-len(message) % 4)
        text = zlib.decompress(base64.urlsafe_b64decode(padded.encode()))
        return json.dumps(json.loads(text)["decoded"])
    except (ValueError, KeyError, zlib.error):
        raise AwsError(
            "InvalidAuthorizationMessageException",
            "Message is not valid. The message was not encoded by this service.",
        ) from None
