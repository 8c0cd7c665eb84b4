"""EKS's validation rules with its error messages, and how it resolves a launch template reference."""

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends

from .wire import AwsError

NEITHER_OR_BOTH = "Either provide launch template ID or launch template name in the request."
# Fields that the launch template of a node group must not contain.
PROHIBITED = (
    "IamInstanceProfile",
    "InstanceInitiatedShutdownBehavior",
    "InstanceMarketOptions",
    "HibernationOptions",
)


def invalid(message: str, **members) -> AwsError:
    return AwsError("InvalidParameterException", message, 400, **members)


def cluster_missing(name: str) -> AwsError:
    return AwsError(
        "ResourceNotFoundException", f"No cluster found for name: {name}.", 404, clusterName=name
    )


def group_missing(cluster: str, name: str) -> AwsError:
    return AwsError(
        "ResourceNotFoundException",
        f"No node group found for name: {name}.",
        404,
        clusterName=cluster,
        nodegroupName=name,
    )


def busy(cluster: str, name: str) -> AwsError:
    return AwsError(
        "ResourceInUseException",
        "Nodegroup cannot be updated as it is currently not in Active State",
        409,
        clusterName=cluster,
        nodegroupName=name,
    )


def update_config_of(given: dict | None) -> dict | None:
    """Check the update config: at most one of maxUnavailable and maxUnavailablePercentage, 1 to 100."""
    if not given:
        return None
    limits = [
        given[k] for k in ("maxUnavailable", "maxUnavailablePercentage") if given.get(k) is not None
    ]
    if len(limits) > 1:
        raise invalid("You cannot specify both maxUnavailable and maxUnavailablePercentage.")
    if any(not isinstance(limit, int) or not 1 <= limit <= 100 for limit in limits):
        raise invalid("maxUnavailable must be between 1 and 100.")
    return {k: v for k, v in given.items() if v is not None}


def resolve_template(account: str, region: str, asked: dict):
    """Resolve a reference, including `$Latest` and `$Default`, to the current version."""
    template_id, name = asked.get("id"), asked.get("name")
    if bool(template_id) == bool(name):
        raise invalid(NEITHER_OR_BOTH)
    backend = ec2_backends[account][region]
    try:
        template = (
            backend.get_launch_template(template_id)
            if template_id
            else backend.get_launch_template_by_name(name)
        )
        return template.get_version(asked.get("version") or "$Default")
    except EC2ClientError as error:
        raise invalid(error.message) from None


def check_template_data(version) -> None:
    present = [name for name in PROHIBITED if version.data.get(name)]
    if any(nic.get("SubnetId") for nic in version.data.get("NetworkInterfaces", [])):
        present.append("NetworkInterfaces.SubnetId")
    if present:
        raise invalid(
            f"Launch template {version.template.id} must not specify {', '.join(present)}."
        )
    if str(version.data.get("ImageId", "")).startswith("resolve:ssm:"):
        raise invalid("Launch template ImageId must be an AMI ID for a managed node group.")


def check_version_update(group, asked: dict, account: str, region: str):
    """Return the launch template version to roll out (None for an EKS AMI update of a group without template)."""
    template = asked.get("launchTemplate")
    custom = group.ami_type == "CUSTOM"
    if custom and asked.get("version"):
        raise invalid("You cannot specify the field kubernetesVersion when using custom AMIs.")
    if custom and asked.get("releaseVersion"):
        raise invalid("You cannot specify the field releaseVersion when using custom AMIs.")
    if custom and not template:
        raise invalid("Launch template details can't be null for Custom ami type node group")
    if not template:
        return None
    if not group.launch_template:
        raise invalid(
            "You cannot specify a launch template for a node group that was created without one."
        )
    version = resolve_template(account, region, template)
    if version.template.id != group.launch_template["id"]:
        raise invalid("You cannot change the launch template of a node group, only its version.")
    check_template_data(version)
    if bool(version.data.get("ImageId")) != custom:
        raise invalid(
            "You cannot switch between a launch template that specifies an image id "
            "and one that does not."
        )
    return version
