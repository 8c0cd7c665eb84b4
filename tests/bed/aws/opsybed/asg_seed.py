"""Self-managed Auto Scaling groups that tests add, and what other writers do to groups."""

from moto.autoscaling.models import autoscaling_backends
from moto.eks.models import eks_backends

from . import asg, asg_config, asg_hooks, asg_instances, asg_rolling, nodes
from .families import INSTANCE_TYPES, architecture_of
from .seed_images import own_image
from .world import world

# the hook that `drain_seconds` adds, whose waits are completed as a drainer would
DRAIN = {"name": "drain", "transition": asg_hooks.TERMINATING, "timeout": 300, "result": "CONTINUE"}
OF_GROUP = ("account", "region", "cluster", "name", "image", "tags")


def add(account: str, region: str, template_of, wanted: dict) -> dict:
    """Create a group on a launch template of its own, which `template_of` makes."""
    cluster = eks_backends[account][region].clusters[wanted.get("cluster", "demo")]
    backend, name = autoscaling_backends[account][region], wanted["name"]
    if name in backend.autoscaling_groups:
        raise ValueError(f"Auto Scaling group {name!r} already exists")
    image = wanted.get("image") or _image(account, region, wanted)
    kind = wanted.get("instance_type", INSTANCE_TYPES[architecture_of(wanted)])
    template = template_of(cluster, name, image, kind)
    spec = {"LaunchTemplateId": template.id}
    if wanted.get("version", "1"):
        spec["Version"] = str(wanted.get("version", "1"))
    count = int(wanted.get("count", 1))
    sizes = (int(wanted.get("min", 0)), count, int(wanted.get("max", count + 2)))
    group = nodes.auto_scaling_group(
        account, region, name, _configuration(spec, wanted), sizes, _tags(cluster, name, wanted)
    )
    group.new_instances_protected_from_scale_in = bool(wanted.get("protected"))
    if "grace" in wanted:
        group.health_check_grace_period = int(wanted["grace"])
    if "warmup" in wanted:
        group.default_instance_warmup = int(wanted["warmup"])
    change(group, {k: wanted[k] for k in ("protected", "hooks", "drain_seconds") if k in wanted})
    return {
        "auto_scaling_group": name,
        "launch_template": {"id": template.id, "name": template.name, "version": spec.get("Version")},
        "image": image,
        "instances": [m.instance.id for m in group.instance_states],
    }


def _image(account: str, region: str, wanted: dict) -> str:
    of_image = {k: v for k, v in wanted.items() if k not in OF_GROUP}
    return own_image(account, region, {**of_image, "name": f"platform-{wanted['name']}-2026-05-12"})["id"]


def _configuration(spec: dict, wanted: dict) -> dict:
    """Return a launch template, or a mixed instances policy with the instance types in `mixed`."""
    if not wanted.get("mixed"):
        return {"LaunchTemplate": spec}
    types = [{"InstanceType": kind} for kind in wanted["mixed"]]
    template = {"LaunchTemplateSpecification": spec, "Overrides": types}
    return {"MixedInstancesPolicy": {"LaunchTemplate": template}}


def _tags(cluster, name: str, wanted: dict) -> list[dict]:
    """Return the tags by which tools find a group; `owned` and `autoscaler` select them."""
    tags = {"Name": f"{cluster.name}-{name}"}
    if wanted.get("owned", True):
        tags[f"kubernetes.io/cluster/{cluster.name}"] = "owned"
    if wanted.get("autoscaler"):
        tags |= nodes.autoscaler_tags(cluster.name)
    tags |= wanted.get("tags", {})
    return [{"Key": k, "Value": v, "PropagateAtLaunch": True} for k, v in tags.items()]


def change(group, wanted: dict) -> None:
    """Change a group as another writer would, without a call of its own in the journal."""
    backend = autoscaling_backends[group.account_id][group.region]
    if "version" in wanted:
        _point(group, str(wanted["version"]))
    if "desired" in wanted:
        group.set_desired_capacity(int(wanted["desired"]))
    if "protected" in wanted:
        for member in group.instance_states:
            member.protected_from_scale_in = bool(wanted["protected"])
    if "standby" in wanted:
        free = [m.instance.id for m in asg_instances.serving(group)][: int(wanted["standby"])]
        backend.enter_standby_instances(group.name, free, True)
    if wanted.get("tags"):
        tags = [{"Key": k, "Value": v, "ResourceId": group.name} for k, v in wanted["tags"].items()]
        backend.create_or_update_tags(tags)
    hooks = list(wanted.get("hooks", []))
    if "drain_seconds" in wanted:
        hooks.append({**DRAIN, "completes_after": wanted["drain_seconds"]})
    for hook in hooks:
        _put_hook(backend, group, hook)
    if "complete" in wanted:
        asg_hooks.complete_all(group, wanted["complete"])
    if "refresh" in wanted:
        asg.start(group, wanted["refresh"] or {}, {})
    asg_rolling.advance(group)


def _point(group, version: str) -> None:
    """Set the version of the launch template, in the policy if there is one."""
    config = asg_config.config_of(group)
    for spec in asg_config.specs(config):
        spec["Version"] = version
    asg_config.apply(group, config)


def _put_hook(backend, group, wanted: dict) -> None:
    made = backend.create_lifecycle_hook(
        wanted["name"],
        group.name,
        wanted.get("transition", asg_hooks.TERMINATING),
        int(wanted.get("timeout", 3600)),
        wanted.get("result", "ABANDON"),
    )
    made.role_arn = made.notification_target_arn = None
    if "completes_after" in wanted:
        made.completes_after = float(wanted["completes_after"])


def set_alarm(account: str, region: str, name: str, state: str) -> None:
    """Set the state of a CloudWatch alarm; ALARM fails the refreshes that watch it."""
    if state not in ("OK", "ALARM", "INSUFFICIENT_DATA"):
        raise ValueError("state must be OK, ALARM or INSUFFICIENT_DATA")
    world.account(account).alarms[name] = state
    for group in list(autoscaling_backends[account][region].autoscaling_groups.values()):
        if state == "ALARM":
            asg_rolling.alarm(group, name)
