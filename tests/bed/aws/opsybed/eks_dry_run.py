"""The launch that EKS tries with the caller's permissions before it updates a node group."""

from moto.ec2.models import ec2_backends

from .launch_rules import check, check_imds
from .wire import AwsError
from .world import world


def try_launch(account: str, region: str, group, version) -> None:
    """EKS returns the message of EC2's refusal under its own error code."""
    if version is None:
        return
    backend, settings = ec2_backends[account][region], world.account(account).settings
    own = version.data.get("InstanceType")
    types = [own] if own else group.instance_types or []
    try:
        if settings.imds_required:
            check_imds(backend, version.data)
        check(backend, version.data, types)
    except AwsError as refusal:
        raise AwsError(
            "InvalidRequestException",
            refusal.message,
            400,
            clusterName=group.cluster_name,
            nodegroupName=group.nodegroup_name,
        ) from None
