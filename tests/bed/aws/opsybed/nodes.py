"""The nodes of a managed group: an Auto Scaling group on EKS's own copy of the launch template."""

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.ssm.models import ssm_backends

from .ec2_templates import inherit
from .world import world

RECOMMENDED = (
    "/aws/service/eks/optimized-ami/{version}/amazon-linux-2023/{architecture}/standard/recommended"
)


def name_of(group) -> str:
    return group.resources["autoScalingGroups"][0]["name"]


def create(account: str, region: str, group, version) -> None:
    """Start the nodes as EKS does: from its own copy of the launch template version."""
    ec2 = ec2_backends[account][region]
    tags = {"eks:cluster-name": group.cluster_name, "eks:nodegroup-name": group.nodegroup_name}
    copy = ec2.create_launch_template(
        f"eks-{group.uuid}", "", _data(account, region, group, version), {"launch-template": tags}
    )
    asg_tags = {**tags, f"kubernetes.io/cluster/{group.cluster_name}": "owned"}
    asg_tags |= autoscaler_tags(group.cluster_name)
    sizes = group.scaling_config
    asg = auto_scaling_group(
        account,
        region,
        name_of(group),
        {"LaunchTemplate": {"LaunchTemplateId": copy.id, "Version": "1"}},
        (sizes.get("minSize", 1), sizes.get("desiredSize", 2), sizes.get("maxSize", 2)),
        [{"Key": k, "Value": v, "PropagateAtLaunch": True} for k, v in asg_tags.items()],
    )
    _remember(asg, "1", version)


def _remember(asg, number: str, version) -> None:
    """Store from which version of the group's template EKS made a version of its own template."""
    if not hasattr(asg, "sources"):
        asg.sources = {}
    if version is not None:
        asg.sources[number] = (version.template.id, str(version.number))


def source_of(asg, member) -> tuple[str, str] | None:
    """Return the template of the group, and its version, from which an instance was launched."""
    return getattr(asg, "sources", {}).get(str((member.launch_template or {}).get("Version")))


def autoscaler_tags(cluster: str) -> dict[str, str]:
    """Return the tags by which the cluster autoscaler finds groups; EKS sets them on its own."""
    found = "k8s.io/cluster-autoscaler"
    return {f"{found}/enabled": "true", f"{found}/{cluster}": "owned"}


def auto_scaling_group(
    account: str,
    region: str,
    name: str,
    configuration: dict,
    sizes: tuple[int, int, int],
    tags: list[dict],
):
    """Create an Auto Scaling group with its instances; `sizes` is minimum, desired, maximum."""
    group = autoscaling_backends[account][region].create_auto_scaling_group(
        name=name,
        availability_zones=[f"{region}a"],
        min_size=sizes[0],
        desired_capacity=sizes[1],
        max_size=sizes[2],
        launch_config_name="",
        launch_template=configuration.get("LaunchTemplate"),
        mixed_instances_policy=configuration.get("MixedInstancesPolicy"),
        vpc_zone_identifier=None,
        default_cooldown=None,
        health_check_period=None,
        health_check_type=None,
        load_balancers=[],
        target_group_arns=[],
        placement_group=None,
        termination_policies=[],
        tags=tags,
    )
    group.created_time = world.account(account).clock.now()
    return group


def _data(account: str, region: str, group, version) -> dict:
    data = inherit(version.data, {}) if version else {}
    data.setdefault("InstanceType", (group.instance_types or ["t3.medium"])[0])
    if not data.get("ImageId"):
        data["ImageId"] = recommended(account, region, group.version, "image_id")
    return data


def recommended(account: str, region: str, kubernetes: str, what: str) -> str:
    """Return `image_id` or `release_version` of the newest EKS-optimized image, or an empty string."""
    name = f"{RECOMMENDED.format(version=kubernetes, architecture='x86_64')}/{what}"
    found = ssm_backends[account][region].get_parameters([name])
    return found[name].value if name in found else ""


def asg_of(account: str, region: str, group):
    return autoscaling_backends[account][region].autoscaling_groups.get(name_of(group))


def prepare(account: str, region: str, group, version) -> str:
    """Point the Auto Scaling group at the new version, and return the version that it used before."""
    asg = asg_of(account, region, group)
    before = asg.launch_template_version
    new = asg.ec2_launch_template.create_version(_data(account, region, group, version), "")
    _remember(asg, str(new.number), version)
    _point(asg, str(new.number))
    return before


def back(account: str, region: str, group, before: str) -> None:
    asg = asg_of(account, region, group)
    if asg is not None:
        _point(asg, before)


def _point(asg, number: str) -> None:
    asg.launch_template_version = asg.provided_launch_template_version = number


def instances(account: str, region: str, group) -> list[str]:
    return [state.instance.id for state in asg_of(account, region, group).instance_states]


def replace(account: str, region: str, group, instance_id: str) -> None:
    if asg_of(account, region, group) is None:
        return
    ec2_backends[account][region].terminate_instances([instance_id])
    autoscaling_backends[account][region].notify_terminate_instances([instance_id])


def remove(account: str, region: str, group) -> None:
    asg = asg_of(account, region, group)
    if asg is None:
        return
    template = asg.ec2_launch_template
    autoscaling_backends[account][region].delete_auto_scaling_group(asg.name)
    ec2_backends[account][region].delete_launch_template(template.name, None)
