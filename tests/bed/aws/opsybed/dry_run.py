"""Calls to EC2 with DryRun. IAM comes first, then the resources that the call names; nothing is executed.

The order is the one of EC2: who may not make a call learns nothing of the resource,
and who may make it gets DryRunOperation only if the resource exists.
"""

from .iam_ec2 import NAMED
from .iam_scope import Scope
from .wire import AwsError, Call

DENIED_EXECUTION = "Request would have succeeded, but DryRun flag is set."
NOT_FOUND = {
    "image": "InvalidAMIID.NotFound",
    "instance": "InvalidInstanceID.NotFound",
    "launch-template": "InvalidLaunchTemplateId.NotFound",
    "security-group": "InvalidGroup.NotFound",
    "snapshot": "InvalidSnapshot.NotFound",
    "volume": "InvalidVolume.NotFound",
}


def is_dry(call: Call) -> bool:
    return call.service == "ec2" and bool(call.params.get("DryRun"))


def answer(call: Call) -> None:
    """Raise EC2's answer to a dry run that needs no further check of its parameters."""
    if not is_dry(call):
        return
    scope = Scope(call.account, call.region)
    for kind, name in _named(scope, call):
        if kind in NOT_FOUND and not _exists(scope, kind, name):
            raise AwsError(NOT_FOUND[kind], f"The {kind} '{name}' does not exist")
    if call.operation.startswith("Describe"):
        raise AwsError("DryRunOperation", DENIED_EXECUTION, 412)


def _named(scope: Scope, call: Call) -> list[tuple[str, str]]:
    if call.operation in ("CreateTags", "DeleteTags"):
        resources = call.params.get("Resources") or []
        return [(scope.kind_of(resource) or "", resource) for resource in resources]
    found = []
    for kind, members in NAMED.get(call.operation, []):
        for member in members:
            given = call.params.get(member) or []
            names = given if isinstance(given, list) else [given]
            # A name can also be given; the operation itself looks it up.
            found += [(kind, name) for name in names if scope.kind_of(name) == kind]
    return found


def _exists(scope: Scope, kind: str, name: str) -> bool:
    ec2 = scope.ec2
    if ec2 is None:
        return False
    if kind == "instance":
        return any(instance.id == name for instance in ec2.all_instances())
    if kind == "security-group":
        return any(name in groups for groups in ec2.groups.values())
    known = {
        "image": ec2.amis,
        "launch-template": ec2.launch_templates,
        "snapshot": ec2.snapshots,
        "volume": ec2.volumes,
    }
    return name in dict.keys(known[kind])
