"""The resources of an account as JSON, for people and tests."""

from moto.autoscaling.models import autoscaling_backends
from moto.core.base_backend import BackendDict
from moto.ec2.models import ec2_backends
from moto.eks.models import eks_backends

from . import asg_show
from .ec2_templates import live_versions
from .filters import tags_of
from .world import world

GROUP_TAG = "aws:autoscaling:groupName"


def describe(account: str, region: str) -> dict:
    """Return the state. A lookup creates no backends: an unused account or region is empty."""
    known = _backend(ec2_backends, account, region)
    clusters = _backend(eks_backends, account, region)
    state = {
        "account": account,
        "region": region,
        "clock": world.account(account).clock.describe(),
        "settings": world.account(account).settings.describe(),
        **(_ec2(known, account) if known else EMPTY),
    }
    state["node_groups"] = _groups(clusters) if clusters else []
    scaling = _backend(autoscaling_backends, account, region)
    state["auto_scaling_groups"] = [
        asg_show.summary(g) for g in (scaling.autoscaling_groups.values() if scaling else [])
    ]
    state["updates"] = [
        {"cluster": k[1], "node_group": k[2], **u, "createdAt": u["createdAt"].isoformat() + "Z"}
        for k, u in world.account(account).updates.items()
        if k[0] == region
    ]
    return state


EMPTY: dict = {
    "images": [],
    "launch_templates": [],
    "instances": [],
    "key_pairs": [],
    "security_groups": [],
    "volumes": [],
    "snapshots": [],
    "leftovers": {},
}


def _backend(backends: BackendDict, account: str, region: str):
    if account not in dict.keys(backends):
        return None
    regions = backends[account]
    return regions[region] if region in dict.keys(regions) else None


def _ec2(ec2, account: str) -> dict:
    images = [_image(i) for i in ec2.amis.values()]
    instances = [_instance(i) for i in ec2.all_instances()]
    state = {
        "images": sorted(images, key=lambda i: (i["created"], i["name"] or "")),
        "launch_templates": [_template(t) for t in ec2.launch_templates.values()],
        "instances": instances,
        "key_pairs": [
            {"name": k.key_name, "id": k.id, "tags": tags_of(k)} for k in ec2.key_pairs.values()
        ],
        "security_groups": [
            {"id": g.id, "name": g.name, "tags": tags_of(g)}
            for groups in ec2.groups.values()
            for g in groups.values()
        ],
        "volumes": [
            {
                "id": v.id,
                "state": v.status,
                "instance": v.attachment.instance.id if v.attachment else None,
                "tags": tags_of(v),
            }
            for v in ec2.volumes.values()
        ],
        "snapshots": [
            {"id": s.id, "image": s.from_ami, "state": s.status, "tags": tags_of(s)}
            for s in ec2.snapshots.values()
            if s.owner_id == account
        ],
    }
    state["leftovers"] = _leftovers(state)
    return state


def _leftovers(state: dict) -> dict:
    """Return what a build must not leave behind; the lists are empty after a complete cleanup."""
    instances = [i for i in state["instances"] if i["state"] != "terminated" and not i["group"]]
    group_members = {i["id"] for i in state["instances"] if i["group"]}
    images = {i["id"] for i in state["images"]}
    return {
        "instances": [i["id"] for i in instances],
        "key_pairs": [k["name"] for k in state["key_pairs"]],
        "security_groups": [g["id"] for g in state["security_groups"] if g["name"] != "default"],
        "volumes": [v["id"] for v in state["volumes"] if v["instance"] not in group_members],
        "snapshots": [s["id"] for s in state["snapshots"] if s["image"] not in images],
    }


def _image(ami) -> dict:
    return {
        "id": ami.id,
        "name": ami.name,
        "owner": ami.owner_id,
        "state": ami.state,
        "architecture": ami.architecture,
        "created": ami.creation_date.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "deprecation_time": getattr(ami, "deprecation_time", None),
        "source_image": getattr(ami, "source_image_id", None),
        "snapshot": ami.ebs_snapshot.id,
        "tags": tags_of(ami),
    }


def _instance(instance) -> dict:
    tags = tags_of(instance)
    return {
        "id": instance.id,
        "name": instance.private_dns_name,
        "state": instance.state,
        "image": instance.image_id,
        "key": instance.key_name,
        "group": tags.get(GROUP_TAG),
        "node_group": tags.get("eks:nodegroup-name"),
        "tags": tags,
    }


def _template(template) -> dict:
    return {
        "id": template.id,
        "name": template.name,
        "default": template.default_version_number,
        "latest": template.latest_version_number,
        "tags": tags_of(template),
        "versions": [
            {
                "number": v.number,
                "image": v.data.get("ImageId"),
                "description": v.description,
                "created": v.create_time.isoformat() + "Z",
            }
            for v in live_versions(template)
        ],
    }


def _groups(eks) -> list[dict]:
    return [
        {
            "cluster": cluster.name,
            "name": group.nodegroup_name,
            "status": group.status,
            "ami_type": group.ami_type,
            "version": group.version,
            "release_version": group.release_version,
            "launch_template": group.launch_template,
            "update_config": group.update_config,
            "health": group.health,
            "auto_scaling_group": group.resources["autoScalingGroups"][0]["name"],
        }
        for cluster in eks.clusters.values()
        for group in cluster.nodegroups.values()
    ]
