"""What an account starts with: base images, a cluster, its node groups, their launch templates.

Idempotent: the second call for the same cluster answers what the first one made.
"""

import base64
from datetime import datetime

from moto.autoscaling.models import autoscaling_backends
from moto.core.types import Base64EncodedString
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id
from moto.eks.models import eks_backends

from . import eks, nodes
from .ssm import put_public
from .world import world

# The account that publishes the EKS-optimised images.
EKS_OWNER = "602401143452"
BASE_VERSIONS = ("20260604", "20260702", "20260801")
ARM_VERSION = "20260801"
INITIAL_IMAGE = ("platform-eks-node-2026-05-12", datetime(2026, 5, 12, 8, 30))
# node group -> (instance type, nodes)
MANAGED = {"system": ("m6i.large", 2), "web": ("m6i.xlarge", 2), "batch": ("c6i.2xlarge", 1)}
ARCHITECTURES = ("x86_64", "arm64")
NODE_CONFIG = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="BOUNDARY"

--BOUNDARY
Content-Type: application/node.eks.aws

---
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: {cluster}
    apiServerEndpoint: {endpoint}
    certificateAuthority: {ca}
    cidr: 172.20.0.0/16
  kubelet:
    flags:
      - "--node-labels=pool={group}"

--BOUNDARY--
"""


def base_image(account: str, region: str, wanted: dict) -> dict:
    """Publish one EKS-optimised image; `recommended` (default) moves the SSM parameters to it."""
    clock = world.account(account).clock
    kubernetes = wanted.get("kubernetes", "1.31")
    architecture = wanted.get("arch") or wanted.get("architecture") or "x86_64"
    if architecture not in ARCHITECTURES:
        raise ValueError(f"arch must be one of {ARCHITECTURES}")
    created = _moment(wanted.get("created")) or clock.now()
    version = str(wanted.get("version") or created.strftime("%Y%m%d"))
    name = wanted.get("name") or (
        f"amazon-eks-node-al2023-{architecture}-standard-{kubernetes}-v{version}"
    )
    backend = ec2_backends[account][region]
    ami = next(
        (i for i in backend.amis.values() if i.name == name and i.owner_id == EKS_OWNER), None
    )
    if ami is None:
        ami = add_image(backend, name, EKS_OWNER, created, architecture)
    if wanted.get("deprecate_at"):
        ami.deprecates_at = _moment(wanted["deprecate_at"])
        ami.deprecation_time = ami.deprecates_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    if wanted.get("recommended", True):
        tree = nodes.RECOMMENDED.format(version=kubernetes, architecture=architecture)
        put_public(account, region, f"{tree}/image_id", ami.id)
        put_public(account, region, f"{tree}/image_name", name)
        put_public(account, region, f"{tree}/release_version", f"{kubernetes}.0-{version}")
    return {"id": ami.id, "name": name, "created": created.isoformat() + "Z"}


def _moment(text: str | None) -> datetime | None:
    return (
        datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=None) if text else None
    )


def add_image(backend, name: str, owner: str, created: datetime, architecture: str) -> Ami:
    amazon = owner == EKS_OWNER
    ami = Ami(
        backend,
        random_ami_id(),
        name=name,
        description="EKS-optimized Kubernetes node based on Amazon Linux 2023" if amazon else name,
        owner_id=owner,
        owner_alias="amazon" if amazon else None,
        public=amazon,
        virtualization_type="hvm",
        architecture=architecture,
        hypervisor="xen",
        creation_date=created,
        image_location=f"{'amazon' if amazon else owner}/{name}",
        root_device_type="ebs",
        root_device_name="/dev/xvda",
        region_name=f"{backend.region_name}a",
    )
    backend.amis[ami.id] = ami
    return ami


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
        initial = add_image(backend, INITIAL_IMAGE[0], account, INITIAL_IMAGE[1], "x86_64")
        initial.add_tags({"Name": INITIAL_IMAGE[0], "team": "platform"})
    made = _make_cluster(account, region, cluster, kubernetes)
    groups = {name: _managed_group(account, region, made, name, initial.id) for name in MANAGED}
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


def _template(account: str, region: str, cluster, group: str, image_id: str, instance_type: str):
    text = NODE_CONFIG.format(
        cluster=cluster.name,
        endpoint=cluster.endpoint,
        ca=base64.b64encode(cluster.certificate_authority["data"].encode()).decode(),
        group=group,
    )
    ec2 = ec2_backends[account][region]
    data = {
        "ImageId": image_id,
        "InstanceType": instance_type,
        "UserData": Base64EncodedString(base64.b64encode(text.encode()).decode()),
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
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
    template = ec2.create_launch_template(
        f"{cluster.name}-{group}", "initial", data, {"launch-template": {"team": "platform"}}
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


def _managed_group(account: str, region: str, cluster, name: str, image_id: str) -> dict:
    instance_type, count = MANAGED[name]
    template = _template(account, region, cluster, name, image_id, instance_type)
    asked = _group_request(cluster, name, count)
    group = _create_group(account, region, cluster, asked, template.versions[0])
    return {
        "name": name,
        "launch_template": {"id": template.id, "name": template.name, "version": "1"},
        "ami_type": group.ami_type,
        "image": image_id,
        "auto_scaling_group": nodes.name_of(group),
    }


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
    nodes.auto_scaling_group(
        account, region, asg, {"LaunchTemplateId": template.id, "Version": "1"}, (1, 1, 3), [tag]
    )
    return {
        "auto_scaling_group": asg,
        "launch_template": {"id": template.id, "name": template.name, "version": "1"},
    }
