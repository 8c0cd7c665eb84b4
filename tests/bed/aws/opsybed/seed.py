"""The seed of an account: base images, a cluster, its node groups and their launch templates.

Idempotent: a second call for the same cluster returns what the first one created.
"""

from datetime import datetime

from moto.autoscaling.models import autoscaling_backends
from moto.core.types import Base64EncodedString
from moto.ec2.models import ec2_backends
from moto.eks.models import eks_backends

from . import asg_seed, eks, nodes
from .families import FAMILIES, INSTANCE_TYPES, architecture_of, family_of
from .seed_images import add_image, base_image, own_image
from .world import world

BASE_VERSIONS = ("20260604", "20260702", "20260801")
ARM_VERSION = "20260801"
INITIAL_IMAGE = ("platform-eks-node-2026-05-12", datetime(2026, 5, 12, 8, 30))
# node group -> (instance type, nodes)
MANAGED = {"system": ("m6i.large", 2), "web": ("m6i.xlarge", 2), "batch": ("c6i.2xlarge", 1)}


def seed(account: str, region: str, cluster: str, kubernetes: str = "1.31") -> dict:
    seeded = world.account(account).seeded
    if (region, cluster) not in seeded:
        seeded[(region, cluster)] = _make(account, region, cluster, kubernetes)
    return seeded[(region, cluster)]


def _make(account: str, region: str, cluster: str, kubernetes: str) -> dict:
    bases = {
        f"v{version}": base_image(
            account,
            region,
            {"version": version, "created": _date(version), "kubernetes": kubernetes},
        )["id"]
        for version in BASE_VERSIONS
    }
    arm = base_image(
        account,
        region,
        {
            "version": ARM_VERSION,
            "created": _date(ARM_VERSION),
            "arch": "arm64",
            "kubernetes": kubernetes,
        },
    )
    backend = ec2_backends[account][region]
    initial = next((i for i in backend.amis.values() if i.name == INITIAL_IMAGE[0]), None)
    if initial is None:
        initial = add_image(
            backend, *(INITIAL_IMAGE[0], account, INITIAL_IMAGE[1]), "x86_64", FAMILIES["al2023"]
        )
        initial.add_tags({"Name": INITIAL_IMAGE[0], "team": "platform"})
    made = _make_cluster(account, region, cluster, kubernetes)
    groups = {
        name: _managed_group(account, region, made, name, initial.id, shape)
        for name, shape in MANAGED.items()
    }
    groups["legacy"] = _plain_group(account, region, made)
    return {
        "account": account,
        "region": region,
        "cluster": cluster,
        "kubernetes": kubernetes,
        "base_images": bases,
        "base_images_arm64": {f"v{ARM_VERSION}": arm["id"]},
        "initial_image": initial.id,
        "node_groups": groups,
        "self_managed": _self_managed(account, region, made, initial.id),
        "subnets": made.resources_vpc_config["subnetIds"],
        "vpc": made.resources_vpc_config["vpcId"],
    }


def _date(version: str) -> str:
    return datetime.strptime(version, "%Y%m%d").replace(hour=6).isoformat()


def _make_cluster(account: str, region: str, name: str, kubernetes: str):
    ec2 = ec2_backends[account][region]
    subnets = sorted(ec2.get_default_subnets().values(), key=lambda s: s.availability_zone)[:3]
    cluster = eks_backends[account][region].create_cluster(
        name=name,
        role_arn=f"arn:aws:iam::{account}:role/{name}-cluster",
        resources_vpc_config={"subnetIds": [s.id for s in subnets], "vpcId": subnets[0].vpc_id},
        version=kubernetes,
    )
    cluster.created_at = world.account(account).clock.now()
    return cluster


def _template(
    account: str,
    region: str,
    cluster,
    group: str,
    image_id: str,
    instance_type: str,
    further: dict | None = None,
):
    ec2, family = ec2_backends[account][region], family_of(further or {})
    data = {
        "ImageId": image_id,
        "InstanceType": instance_type,
        "UserData": Base64EncodedString(family.encoded_user_data(cluster, group)),
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [
            {
                "DeviceName": family.root_device_name,
                "Ebs": {
                    "VolumeSize": 60,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "TagSpecifications": [
            {
                "ResourceType": "instance",
                "Tags": [{"Key": "Name", "Value": f"{cluster.name}-{group}"}],
            }
        ],
    }
    data = {k: v for k, v in {**data, **(further or {}).get("template", {})}.items() if v}
    template = ec2.create_launch_template(
        f"{cluster.name}-{group}",
        "initial",
        data,
        {"launch-template": {"team": "platform", "opsy.dev/roll": "true"}},
    )
    template.create_time = template.versions[0].create_time = world.account(account).clock.now()
    return template


def _group_request(cluster, name: str, count: int) -> dict:
    return {
        "nodegroupName": name,
        "nodeRole": f"arn:aws:iam::{cluster.arn.split(':')[4]}:role/{cluster.name}-node",
        "subnets": cluster.resources_vpc_config["subnetIds"],
        "scalingConfig": {"minSize": 1, "maxSize": count + 2, "desiredSize": count},
        "labels": {"pool": name},
        "tags": {"team": "platform"},
    }


def _create_group(account: str, region: str, cluster, asked: dict, version):
    group = eks_backends[account][region].create_nodegroup(
        cluster_name=cluster.name,
        node_role=asked["nodeRole"],
        nodegroup_name=asked["nodegroupName"],
        subnets=asked["subnets"],
        scaling_config=asked["scalingConfig"],
        labels=asked["labels"],
        tags=asked["tags"],
        version=cluster.version,
    )
    eks.shape_group(group, asked, version, custom=version is not None)
    nodes.create(account, region, group, version)
    group.created_at = group.modified_at = world.account(account).clock.now()
    return group


def add_group(account: str, region: str, wanted: dict) -> dict:
    """Add a CUSTOM group of any family and architecture, with an image of the account."""
    cluster = eks_backends[account][region].clusters[wanted.get("cluster", "demo")]
    name, architecture = wanted["name"], architecture_of(wanted)
    if name in cluster.nodegroups:
        raise ValueError(f"node group {name!r} already exists")
    image_id = wanted.get("image")
    if not image_id:
        named = {"name": f"platform-{name}-2026-05-12", "created": INITIAL_IMAGE[1].isoformat()}
        image_id = own_image(account, region, {**_of_image(wanted), **named})["id"]
    shape = (wanted.get("instance_type", INSTANCE_TYPES[architecture]), wanted.get("count", 1))
    return _managed_group(account, region, cluster, name, image_id, shape, wanted)


def _of_image(wanted: dict) -> dict:
    of_group = ("account", "region", "cluster", "name", "image", "tags", "made_by")
    return {k: v for k, v in wanted.items() if k not in of_group}


def _managed_group(
    account: str,
    region: str,
    cluster,
    name: str,
    image_id: str,
    shape: tuple[str, int],
    further: dict | None = None,
) -> dict:
    """Create a managed group; `shape` is the instance type and the number of nodes."""
    further = further or {}
    template = _template(account, region, cluster, name, image_id, shape[0], further)
    asked = _group_request(cluster, name, shape[1])
    if further.get("update_config"):
        asked["updateConfig"] = further["update_config"]
    asked["tags"] |= made_by(cluster, name, further.get("made_by")) | further.get("tags", {})
    group = _create_group(account, region, cluster, asked, template.versions[0])
    return {
        "name": name,
        "launch_template": {"id": template.id, "name": template.name, "version": "1"},
        "ami_type": group.ami_type,
        "image": image_id,
        "auto_scaling_group": nodes.name_of(group),
    }


def add_auto_scaling_group(account: str, region: str, wanted: dict) -> dict:
    """Add a self-managed group of any family and architecture, with an image of the account."""

    def template_of(cluster, name: str, image_id: str, instance_type: str):
        return _template(account, region, cluster, name, image_id, instance_type, wanted)

    return asg_seed.add(account, region, template_of, wanted)


def made_by(cluster, group: str, tool: str | None) -> dict[str, str]:
    """Return the tags that show which tool manages a group."""
    stack = f"eksctl-{cluster.name}-nodegroup-{group}"
    tags = {
        None: {},
        "eksctl": {
            "alpha.eksctl.io/nodegroup-name": group,
            "alpha.eksctl.io/cluster-name": cluster.name,
            "aws:cloudformation:stack-name": stack,
        },
        "cloudformation": {"aws:cloudformation:stack-name": f"{cluster.name}-nodes"},
        "terraform": {"Terraform": "true", "ManagedBy": "terraform"},
    }
    if tool not in tags:
        raise ValueError(f"made_by must be one of {sorted(t for t in tags if t)}")
    return tags[tool]


def _plain_group(account: str, region: str, cluster) -> dict:
    asked = {**_group_request(cluster, "legacy", 1), "amiType": "AL2023_x86_64_STANDARD"}
    group = _create_group(account, region, cluster, asked, None)
    return {
        "name": "legacy",
        "launch_template": None,
        "ami_type": group.ami_type,
        "release_version": group.release_version,
        "auto_scaling_group": nodes.name_of(group),
    }


def _self_managed(account: str, region: str, cluster, image_id: str) -> dict:
    name = "self-managed"
    template = _template(account, region, cluster, name, image_id, "m6i.large")
    tag = {
        "Key": f"kubernetes.io/cluster/{cluster.name}",
        "Value": "owned",
        "PropagateAtLaunch": True,
    }
    asg = (
        name
        if name not in autoscaling_backends[account][region].autoscaling_groups
        else f"{cluster.name}-{name}"
    )
    configuration = {"LaunchTemplate": {"LaunchTemplateId": template.id, "Version": "1"}}
    nodes.auto_scaling_group(account, region, asg, configuration, (1, 1, 3), [tag])
    return {
        "auto_scaling_group": asg,
        "launch_template": {"id": template.id, "name": template.name, "version": "1"},
    }
