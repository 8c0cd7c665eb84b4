"""The checks of IAM when instances are launched: directly, by a fleet, or by EKS for a node group."""

from collections.abc import Iterator

from .iam_scope import Check, Scope, tag_lists

RUN = "ec2:RunInstances"
FLEET = "ec2:CreateFleet"
# The service to which the role of an instance profile is passed.
EC2_SERVICE = {"aws-cn": "ec2.amazonaws.com.cn"}


def launch(scope: Scope, params: dict, by: str = "RunInstances") -> Iterator[Check]:
    """Yield every resource of a launch, then the tags, then the role. `params` are those of RunInstances."""
    template = _template(scope, params.get("LaunchTemplate"))
    data = {**(_version(template, params["LaunchTemplate"]) if template else {})}
    data |= {k: v for k, v in params.items() if v not in (None, "", [])}
    tags = tag_lists(data)
    more = {}
    if template:
        more["ec2:launchtemplate"] = [scope.ec2_arn("launch-template", template.id)]
        yield scope.existing(RUN, "launch-template", template.id, **more)
    if data.get("ImageId"):
        yield scope.existing(RUN, "image", data["ImageId"], **more)
    yield scope.made(RUN, "instance", tags.get("instance"), **more, **_instance_keys(scope, data))
    yield scope.made(RUN, "volume", tags.get("volume"), **more)
    yield from _network(scope, data, tags, more)
    if data.get("KeyName"):
        yield scope.existing(RUN, "key-pair", data["KeyName"], **more)
    for disk in data.get("BlockDeviceMappings") or []:
        if (disk.get("Ebs") or {}).get("SnapshotId"):
            yield scope.existing(RUN, "snapshot", disk["Ebs"]["SnapshotId"], **more)
    yield from _placement(scope, data, more)
    for kind, pairs in tags.items():
        yield scope.made("ec2:CreateTags", kind, pairs, **{"ec2:createaction": [by]})
    profile = _profile(data)
    if profile:
        yield pass_role(scope, scope.role(profile))


def pass_role(scope: Scope, role: str, service: str | None = None) -> Check:
    service = service or EC2_SERVICE.get(scope.partition, "ec2.amazonaws.com")
    return Check("iam:PassRole", role, {**scope.everywhere(), "iam:passedtoservice": [service]})


def _template(scope: Scope, named: dict | None):
    if not named or scope.ec2 is None:
        return None
    template_id = named.get("LaunchTemplateId") or dict.get(
        scope.ec2.launch_template_name_to_ids, named.get("LaunchTemplateName"), ""
    )
    return dict.get(scope.ec2.launch_templates, template_id)


def _version(template, named: dict) -> dict:
    return template.get_version(named.get("Version") or "$Default").data


def _instance_keys(scope: Scope, data: dict) -> dict[str, list[str]]:
    keys = {}
    if data.get("InstanceType"):
        keys["ec2:instancetype"] = [data["InstanceType"]]
    profile = _profile(data)
    if profile:
        name = profile.rpartition("/")[2]
        keys["ec2:instanceprofile"] = [scope.arn("iam", f"instance-profile/{name}", region="")]
    return keys


def _profile(data: dict) -> str | None:
    profile = data.get("IamInstanceProfile") or {}
    return profile.get("Name") or profile.get("Arn")


def _network(scope: Scope, data: dict, tags: dict, more: dict) -> Iterator[Check]:
    cards = data.get("NetworkInterfaces") or []
    yield scope.made(RUN, "network-interface", tags.get("network-interface"), **more)
    for card in cards:
        if card.get("NetworkInterfaceId"):
            yield scope.existing(RUN, "network-interface", card["NetworkInterfaceId"], **more)
    subnets = [data.get("SubnetId"), *(card.get("SubnetId") for card in cards)]
    for subnet in filter(None, subnets if any(subnets) else [_default_subnet(scope)]):
        yield scope.existing(RUN, "subnet", subnet, **more)
    groups = [*(data.get("SecurityGroupIds") or []), *(data.get("SecurityGroups") or [])]
    groups += [group for card in cards for group in card.get("Groups") or []]
    for group in _group_ids(scope, groups or ["default"]):
        yield scope.existing(RUN, "security-group", group, **more)


def _default_subnet(scope: Scope) -> str | None:
    subnets = scope.ec2.get_default_subnets() if scope.ec2 else {}
    return min((subnet.id for subnet in subnets.values()), default=None)


def _group_ids(scope: Scope, named: list[str]) -> list[str]:
    if scope.ec2 is None:
        return named
    groups = [g for groups in scope.ec2.groups.values() for g in groups.values()]
    return [next((g.id for g in groups if g.name == n), n) for n in named]


def _placement(scope: Scope, data: dict, more: dict) -> Iterator[Check]:
    placement = data.get("Placement") or {}
    if placement.get("GroupName"):
        yield scope.existing(RUN, "placement-group", placement["GroupName"], **more)
    elsewhere = [placement.get("HostResourceGroupArn")]
    asked = data.get("CapacityReservationSpecification") or {}
    target = asked.get("CapacityReservationTarget") or {}
    if target.get("CapacityReservationId"):
        yield scope.existing(RUN, "capacity-reservation", target["CapacityReservationId"], **more)
    elsewhere.append(target.get("CapacityReservationResourceGroupArn"))
    licenses = data.get("LicenseSpecifications") or []
    elsewhere += [one.get("LicenseConfigurationArn") for one in licenses]
    for arn in filter(None, elsewhere):
        yield Check(RUN, arn, {**scope.everywhere(), **more})


def fleet(scope: Scope, params: dict) -> Iterator[Check]:
    """Yield the checks of the fleet, and for each of its templates those of a launch by the caller.

    The resources of a launch are also checked for the fleet.
    """
    tags = tag_lists(params)
    yield scope.made(FLEET, "fleet", tags.get("fleet"))
    asks = (params.get("TargetCapacitySpecification") or {}).get("DefaultTargetCapacityType")
    for action in (FLEET, RUN) if asks == "spot" else ():
        yield scope.made(action, "spot-instances-request", tags.get("spot-instances-request"))
    for config in params.get("LaunchTemplateConfigs") or []:
        named = config.get("LaunchTemplateSpecification") or {}
        for override in config.get("Overrides") or [{}]:
            asked = {k: override.get(k) for k in ("SubnetId", "InstanceType", "ImageId")}
            launched = {k: v for k, v in tags.items() if k != "fleet"}
            specs = [
                {"ResourceType": k, "Tags": [{"Key": t, "Value": x} for t, x in v.items()]}
                for k, v in launched.items()
            ]
            merged = {**asked, "LaunchTemplate": named}
            if specs:
                merged["TagSpecifications"] = specs
            for check in launch(scope, merged, by="CreateFleet"):
                if check.action == RUN:
                    yield Check(FLEET, check.resource, check.context)
                yield check
    for kind, pairs in tags.items():
        if kind == "fleet":
            yield scope.made("ec2:CreateTags", kind, pairs, **{"ec2:createaction": ["CreateFleet"]})


def node_group_launch(scope: Scope, group, version) -> Iterator[Check]:
    """Yield the checks of the launch that EKS tries before it updates a node group to a template version."""
    named = {"LaunchTemplateId": version.template.id, "Version": str(version.number)}
    subnets = group.subnets or [None]
    yield from launch(scope, {"LaunchTemplate": named, "SubnetId": subnets[0]})
    yield pass_role(scope, group.node_role)


def group_launch(scope: Scope, group, spec: dict) -> Iterator[Check]:
    """Yield the checks of the dry run that EC2 Auto Scaling makes of a launch template specification."""
    subnets = (group.vpc_zone_identifier or "").split(",")
    yield from launch(scope, {"LaunchTemplate": spec, "SubnetId": subnets[0] or None})
