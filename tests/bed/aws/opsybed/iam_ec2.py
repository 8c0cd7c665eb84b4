"""The resources that IAM checks for each EC2 operation.

The source is the Service Authorization Reference. An operation that is not listed
here is refused for every key that has a policy.
"""

from collections.abc import Callable, Iterator

from .iam_launch import fleet, launch
from .iam_scope import Check, Scope, tag_lists

# operation -> (kind of resource, parameters of which one names it, as a string or a list)
NAMED: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "AttachVolume": [("instance", ("InstanceId",)), ("volume", ("VolumeId",))],
    "AuthorizeSecurityGroupEgress": [("security-group", ("GroupId", "GroupName"))],
    "AuthorizeSecurityGroupIngress": [("security-group", ("GroupId", "GroupName"))],
    "CreateLaunchTemplateVersion": [("launch-template", ("LaunchTemplateId", "LaunchTemplateName"))],
    "DeleteKeyPair": [("key-pair", ("KeyName", "KeyPairId"))],
    "DeleteLaunchTemplate": [("launch-template", ("LaunchTemplateId", "LaunchTemplateName"))],
    "DeleteLaunchTemplateVersions": [("launch-template", ("LaunchTemplateId", "LaunchTemplateName"))],
    "DeleteSecurityGroup": [("security-group", ("GroupId", "GroupName"))],
    "DeleteSnapshot": [("snapshot", ("SnapshotId",))],
    "DeleteVolume": [("volume", ("VolumeId",))],
    "DeregisterImage": [("image", ("ImageId",))],
    "DescribeImageAttribute": [("image", ("ImageId",))],
    "DescribeInstanceAttribute": [("instance", ("InstanceId",))],
    "DescribeSnapshotAttribute": [("snapshot", ("SnapshotId",))],
    "DisableImage": [("image", ("ImageId",))],
    "DisableImageDeprecation": [("image", ("ImageId",))],
    "DisableImageDeregistrationProtection": [("image", ("ImageId",))],
    "EnableImage": [("image", ("ImageId",))],
    "EnableImageDeprecation": [("image", ("ImageId",))],
    "EnableImageDeregistrationProtection": [("image", ("ImageId",))],
    "GetConsoleOutput": [("instance", ("InstanceId",))],
    "GetPasswordData": [("instance", ("InstanceId",))],
    "ModifyLaunchTemplate": [("launch-template", ("LaunchTemplateId", "LaunchTemplateName"))],
    "RebootInstances": [("instance", ("InstanceIds",))],
    "RevokeSecurityGroupEgress": [("security-group", ("GroupId", "GroupName"))],
    "RevokeSecurityGroupIngress": [("security-group", ("GroupId", "GroupName"))],
    "StartInstances": [("instance", ("InstanceIds",))],
    "StopInstances": [("instance", ("InstanceIds",))],
    "TerminateInstances": [("instance", ("InstanceIds",))],
}
# Operations that change one attribute. Parameters that are objects with more than a Value have no condition key.
ATTRIBUTES: dict[str, tuple[str, str, set[str]]] = {
    "ModifyImageAttribute": ("image", "ImageId", {"LaunchPermission"}),
    "ModifyInstanceAttribute": ("instance", "InstanceId", {"BlockDeviceMappings", "Groups"}),
    "ModifySnapshotAttribute": ("snapshot", "SnapshotId", {"CreateVolumePermission"}),
}
NOT_ATTRIBUTES = {"Attribute", "DryRun", "OperationType", "UserIds", "UserGroups", "GroupNames"}


def checks(scope: Scope, operation: str, params: dict) -> list[Check] | None:
    """Return the checks of an operation, or None if it is unknown."""
    action = f"ec2:{operation}"
    if operation in NAMED:
        return [
            scope.existing(action, kind, name)
            for kind, members in NAMED[operation]
            for name in _names(scope, kind, params, members)
        ]
    if operation in ATTRIBUTES:
        return [_attribute(scope, operation, params)]
    if operation in MAKERS:
        return list(MAKERS[operation](scope, params))
    # All other Describe operations do not support resource-level permissions.
    return [Check(action, "*", scope.everywhere())] if operation.startswith("Describe") else None


def _names(scope: Scope, kind: str, params: dict, members: tuple[str, ...]) -> list[str]:
    for member in members:
        given = params.get(member)
        if given:
            names = given if isinstance(given, list) else [given]
            return [by_name(scope, kind, name) for name in names]
    return []


def by_name(scope: Scope, kind: str, name: str) -> str:
    """Return the ID of a security group or launch template that is given by name."""
    if scope.ec2 is None:
        return name
    if kind == "launch-template":
        return dict.get(scope.ec2.launch_template_name_to_ids, name, name)
    if kind == "security-group" and not name.startswith("sg-"):
        groups = (g for groups in scope.ec2.groups.values() for g in groups.values())
        return next((g.id for g in groups if g.name == name), name)
    return name


def _attribute(scope: Scope, operation: str, params: dict) -> Check:
    kind, named, objects = ATTRIBUTES[operation]
    more: dict[str, list[str]] = {}
    for member, value in params.items():
        if member in NOT_ATTRIBUTES | objects | {named}:
            continue
        value = value.get("Value", "") if isinstance(value, dict) else value
        more["ec2:attribute"] = [member]
        more[f"ec2:attribute/{member.lower()}"] = [str(value)]
    if params.get("Attribute"):
        more["ec2:attribute"] = [str(params["Attribute"])]
    return scope.existing(f"ec2:{operation}", kind, params[named], **more, **_added(params))


def _added(params: dict) -> dict[str, list[str]]:
    """Return the users and groups with which a snapshot is shared."""
    granted = (params.get("CreateVolumePermission") or {}).get("Add") or []
    users = [g["UserId"] for g in granted if g.get("UserId")]
    groups = [g["Group"] for g in granted if g.get("Group")]
    if params.get("OperationType") == "add":
        users += params.get("UserIds") or []
        groups += params.get("GroupNames") or []
    named = (("ec2:add/userid", users), ("ec2:add/group", groups))
    return {key: values for key, values in named if values}


def born(scope: Scope, operation: str, tags: dict[str, dict[str, str]]) -> Iterator[Check]:
    """Tagging on creation requires a separate authorization per kind of resource that gets tags."""
    for kind, pairs in tags.items():
        more = {"ec2:createaction": [operation]}
        yield scope.made("ec2:CreateTags", kind, pairs, **more)


def _create_tags(scope: Scope, params: dict, action: str = "ec2:CreateTags") -> Iterator[Check]:
    pairs = {t.get("Key", ""): t.get("Value") or "" for t in params.get("Tags") or []}
    for resource in params.get("Resources") or []:
        kind = scope.kind_of(resource)
        found = scope.existing(action, kind or "unknown", resource)
        asked = scope.made(action, kind or "unknown", pairs)
        yield Check(action, found.resource, {**asked.context, **found.context})


def _delete_tags(scope: Scope, params: dict) -> Iterator[Check]:
    return _create_tags(scope, params, "ec2:DeleteTags")


def _create_image(scope: Scope, params: dict) -> Iterator[Check]:
    tags, action = tag_lists(params), "ec2:CreateImage"
    yield scope.existing(action, "instance", params["InstanceId"])
    yield scope.made(action, "image", tags.get("image"))
    yield scope.made(action, "snapshot", tags.get("snapshot"))
    yield from born(scope, "CreateImage", tags)


def _copy_image(scope: Scope, params: dict) -> Iterator[Check]:
    """The source is in its own region. Copied tags count as tags that the caller sets."""
    tags, action = tag_lists(params), "ec2:CopyImage"
    source = scope.elsewhere(params["SourceRegion"])
    yield source.existing(action, "image", params["SourceImageId"])
    if params.get("CopyImageTags"):
        copied = source._tags("image", params["SourceImageId"])
        tags["image"] = {**copied, **tags.get("image", {})}
    yield scope.made(action, "image", tags.get("image"))
    yield scope.made(action, "snapshot", tags.get("snapshot"))
    yield from born(scope, "CopyImage", {k: v for k, v in tags.items() if v})


def _register_image(scope: Scope, params: dict) -> Iterator[Check]:
    tags, action = tag_lists(params), "ec2:RegisterImage"
    yield scope.made(action, "image", tags.get("image"))
    for snapshot in snapshots_in(params):
        yield scope.existing(action, "snapshot", snapshot)
    yield from born(scope, "RegisterImage", tags)


def snapshots_in(params: dict) -> list[str]:
    disks = params.get("BlockDeviceMappings") or []
    return [d["Ebs"]["SnapshotId"] for d in disks if (d.get("Ebs") or {}).get("SnapshotId")]


def _create_snapshot(scope: Scope, params: dict) -> Iterator[Check]:
    tags, action = tag_lists(params), "ec2:CreateSnapshot"
    yield scope.existing(action, "volume", params["VolumeId"])
    yield scope.made(action, "snapshot", tags.get("snapshot"))
    yield from born(scope, "CreateSnapshot", tags)


def _detach_volume(scope: Scope, params: dict) -> Iterator[Check]:
    """IAM checks the instance too, even if the request does not name it."""
    volume = scope.ec2.volumes.get(params["VolumeId"]) if scope.ec2 else None
    attached = volume.attachment.instance.id if volume and volume.attachment else None
    yield scope.existing("ec2:DetachVolume", "volume", params["VolumeId"])
    if params.get("InstanceId") or attached:
        yield scope.existing("ec2:DetachVolume", "instance", params.get("InstanceId") or attached)


def _create_volume(scope: Scope, params: dict) -> Iterator[Check]:
    tags, action = tag_lists(params), "ec2:CreateVolume"
    yield scope.made(action, "volume", tags.get("volume"))
    if params.get("SnapshotId"):
        yield scope.existing(action, "snapshot", params["SnapshotId"])
    yield from born(scope, "CreateVolume", tags)


def _create_key_pair(scope: Scope, params: dict) -> Iterator[Check]:
    tags = tag_lists(params)
    more = {"ec2:keypairname": [params["KeyName"]]}
    yield scope.made(
        "ec2:CreateKeyPair", "key-pair", tags.get("key-pair"), params["KeyName"], **more
    )
    for check in born(scope, "CreateKeyPair", tags):
        yield scope.made(
            check.action,
            "key-pair",
            tags["key-pair"],
            params["KeyName"],
            **{"ec2:createaction": ["CreateKeyPair"], **more},
        )


def _create_security_group(scope: Scope, params: dict) -> Iterator[Check]:
    tags, action = tag_lists(params), "ec2:CreateSecurityGroup"
    vpc = params.get("VpcId") or (scope.ec2.default_vpc.id if scope.ec2 else "*")
    more = {"ec2:vpc": [scope.ec2_arn("vpc", vpc)]}
    yield scope.made(action, "security-group", tags.get("security-group"), **more)
    yield scope.existing(action, "vpc", vpc)
    yield from born(scope, "CreateSecurityGroup", tags)


def _create_launch_template(scope: Scope, params: dict) -> Iterator[Check]:
    tags = tag_lists(params)
    yield scope.made("ec2:CreateLaunchTemplate", "launch-template", tags.get("launch-template"))
    yield from born(scope, "CreateLaunchTemplate", tags)


def _run_instances(scope: Scope, params: dict) -> Iterator[Check]:
    yield from launch(scope, params)


MAKERS: dict[str, Callable[[Scope, dict], Iterator[Check]]] = {
    "CopyImage": _copy_image,
    "CreateFleet": fleet,
    "CreateImage": _create_image,
    "CreateKeyPair": _create_key_pair,
    "CreateLaunchTemplate": _create_launch_template,
    "CreateSecurityGroup": _create_security_group,
    "CreateSnapshot": _create_snapshot,
    "CreateTags": _create_tags,
    "CreateVolume": _create_volume,
    "DeleteTags": _delete_tags,
    "DetachVolume": _detach_volume,
    "RegisterImage": _register_image,
    "RunInstances": _run_instances,
}
