"""What an Auto Scaling group launches: the configuration in the format of the API, resolved to launches.

A configuration is a launch template or a mixed instances policy. It is that of the group,
or the desired configuration of an instance refresh.
"""

import copy
from dataclasses import dataclass

from moto.ec2.exceptions import EC2ClientError
from moto.ssm.models import ssm_backends

from . import launch_rules
from .wire import AwsError
from .world import world

FULLY_FORMED = "You must use a valid fully-formed launch template. "
ONE_NAME = "Valid requests must contain either launchTemplateId or LaunchTemplateName"
FLOATING = ("$Latest", "$Default")
ALIAS = "resolve:ssm:"
# for overrides with instance requirements, whose choice of instance types is not emulated
ANY_TYPE = "m6i.large"


def invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message)


@dataclass(frozen=True)
class Launch:
    """One kind of instance that a configuration launches."""

    template_id: str
    template_name: str
    version: str
    instance_type: str
    image_id: str
    # whether the policy names the type, so that instances of other types do not match
    typed: bool = False
    # the image of an override, which replaces that of the template
    override_image: str | None = None

    def matches(self, other: "Launch | None") -> bool:
        if other is None or (self.template_id, self.version) != (other.template_id, other.version):
            return False
        if self.typed and self.instance_type != other.instance_type:
            return False
        return self.override_image is None or self.override_image == other.image_id


def config_of(group) -> dict:
    """Return the configuration of a group; empty for a launch configuration."""
    if group.mixed_instances_policy:
        return {"MixedInstancesPolicy": copy.deepcopy(group.mixed_instances_policy)}
    if group.ec2_launch_template is None:
        return {}
    named = {
        "LaunchTemplateId": group.ec2_launch_template.id,
        "LaunchTemplateName": group.ec2_launch_template.name,
    }
    version = getattr(group, "provided_launch_template_version", None)
    return {"LaunchTemplate": {**named, "Version": version} if version else named}


def apply(group, config: dict) -> None:
    """Make a configuration that of the group."""
    policy = copy.deepcopy(config.get("MixedInstancesPolicy"))
    group.mixed_instances_policy = policy
    group._set_launch_configuration("", strict(config.get("LaunchTemplate")), strict_policy(policy))


def strict(spec: dict | None) -> dict:
    """Return a specification with one of the two names, as requests must have it."""
    spec = dict(spec or {})
    if spec.get("LaunchTemplateId"):
        spec.pop("LaunchTemplateName", None)
    return spec


def strict_policy(policy: dict | None) -> dict | None:
    if policy:
        template = policy["LaunchTemplate"]
        template["LaunchTemplateSpecification"] = strict(template["LaunchTemplateSpecification"])
    return policy


def specs(config: dict) -> list[dict]:
    """Return every launch template specification of a configuration."""
    if config.get("LaunchTemplate"):
        return [config["LaunchTemplate"]]
    template = (config.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
    own = [o.get("LaunchTemplateSpecification") for o in template.get("Overrides") or []]
    return [s for s in [template.get("LaunchTemplateSpecification"), *own] if s]


def with_names(group, config: dict) -> dict:
    """Return a configuration as AWS shows it: specifications have the ID and the name of their template."""
    named = copy.deepcopy(config)
    for spec in specs(named):
        template = version_of(group.ec2_backend, spec).template
        spec |= {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name}
    return named


def overrides(config: dict) -> list[dict]:
    policy = config.get("MixedInstancesPolicy") or {}
    return (policy.get("LaunchTemplate") or {}).get("Overrides") or []


def floating(config: dict) -> bool:
    """Whether a specification leaves its version open: `$Latest`, `$Default`, or none."""
    return any(s.get("Version") in (None, *FLOATING) for s in specs(config))


def by_alias(group, config: dict) -> bool:
    """Whether a template names its image by a Systems Manager parameter."""
    versions = [version_of(group.ec2_backend, s) for s in specs(config)]
    return any(str(v.data.get("ImageId", "")).startswith(ALIAS) for v in versions)


def check_names(config: dict) -> None:
    for spec in specs(config):
        if bool(spec.get("LaunchTemplateId")) == bool(spec.get("LaunchTemplateName")):
            raise invalid(ONE_NAME)


def version_of(ec2, spec: dict):
    """Resolve a specification to the version that it names now."""
    try:
        if spec.get("LaunchTemplateId"):
            template = ec2.get_launch_template(spec["LaunchTemplateId"])
        else:
            template = ec2.get_launch_template_by_name(spec.get("LaunchTemplateName"))
        return template.get_version(spec.get("Version") or "$Default")
    except EC2ClientError as error:
        raise invalid(FULLY_FORMED + error.message) from None


def launches(group, config: dict) -> list[Launch]:
    """Return the kinds of instances that a configuration launches now: one, or one per override."""
    ec2 = group.ec2_backend
    if config.get("LaunchTemplate"):
        return [_launch(group, version_of(ec2, config["LaunchTemplate"]), {})]
    main = config["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
    return [
        _launch(group, version_of(ec2, one.get("LaunchTemplateSpecification") or main), one)
        for one in overrides(config) or [{}]
    ]


def _launch(group, version, override: dict) -> Launch:
    fallback = ANY_TYPE if override.get("InstanceRequirements") else version.data.get("InstanceType")
    image = override.get("ImageId") or version.data.get("ImageId") or ""
    return Launch(
        template_id=version.template.id,
        template_name=version.template.name,
        version=str(version.number),
        instance_type=override.get("InstanceType") or fallback or "m1.small",
        image_id=_resolved(group, image),
        typed=bool(override.get("InstanceType")),
        override_image=override.get("ImageId"),
    )


def _resolved(group, image: str) -> str:
    if not image.startswith(ALIAS):
        return image
    name = image.removeprefix(ALIAS)
    found = ssm_backends[group.account_id][group.region].get_parameters([name])
    return found[name].value if name in found else image


def check(group, config: dict) -> None:
    """Refuse a configuration from which no instance can be launched, with EC2's reason."""
    ec2, settings = group.ec2_backend, world.account(group.account_id).settings
    for one in launches(group, config):
        data = {**version_of(ec2, _spec(one)).data, "ImageId": one.image_id}
        if not one.image_id:
            raise invalid(f"{FULLY_FORMED}The request must contain the parameter ImageId")
        missing = image_problem(ec2, one.image_id)
        if missing:
            raise invalid(FULLY_FORMED + missing)
        try:
            if settings.imds_required:
                launch_rules.check_imds(ec2, data)
            launch_rules.check(ec2, data, [one.instance_type])
        except AwsError as refusal:
            raise invalid(FULLY_FORMED + refusal.message) from None


def _spec(one: Launch) -> dict:
    return {"LaunchTemplateId": one.template_id, "Version": one.version}


def image_problem(ec2, image_id: str) -> str | None:
    """Return why no instance can be launched from an image, in EC2's words."""
    ami = ec2.amis.get(image_id)
    if ami is not None and ami.state == "available":
        return None
    return f"The image id '[{image_id}]' does not exist"
