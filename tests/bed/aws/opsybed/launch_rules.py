"""EC2's checks of a launch: image, instance type, volumes, key pair and security groups.

Used by RunInstances, and by the dry run that EKS makes of a launch template.
"""

from moto.ec2.models.instance_types import INSTANCE_TYPES

from .devices import device_mappings
from .wire import AwsError

IMDS = (
    "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled for this "
    "account. Either launch the instance with httpTokens=required or contact your account owner "
    "to disable httpTokensEnforced using the ModifyInstanceMetadataDefaults API or the account "
    "settings in the EC2 console."
)
ARCHITECTURE = (
    "The architecture '{type}' of the specified instance type does not match the architecture "
    "'{image}' of the specified AMI. Specify an instance type and an AMI that have matching "
    "architectures, and try again. You can use 'describe-instance-types' or 'describe-images' "
    "to discover the architecture of the instance type or AMI."
)


def check(backend, data: dict, instance_types: list[str]) -> None:
    """`data` has the members of a RunInstances request or of a launch template."""
    ami = backend.amis.get(data.get("ImageId"))
    for instance_type in instance_types:
        if ami is not None:
            _check_architecture(ami, instance_type)
    for mapping in data.get("BlockDeviceMappings") or []:
        _check_volume(backend, ami, mapping.get("DeviceName"), mapping.get("Ebs") or {})
    key = data.get("KeyName")
    if key and key not in backend.key_pairs:
        raise AwsError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
    for group in _groups(data):
        if backend.get_security_group_from_id(group) is None:
            raise AwsError(
                "InvalidGroup.NotFound", f"The security group '{group}' does not exist"
            )


def check_imds(backend, data: dict) -> None:
    """Without HttpTokens, the image's setting applies; a disabled endpoint needs no tokens."""
    ami, options = backend.amis.get(data.get("ImageId")), data.get("MetadataOptions") or {}
    by_image = "required" if getattr(ami, "imds_support", None) == "v2.0" else "optional"
    if options.get("HttpEndpoint") == "disabled":
        return
    if (options.get("HttpTokens") or by_image) != "required":
        raise AwsError("UnsupportedOperation", IMDS)


def _check_architecture(ami, instance_type: str) -> None:
    known = INSTANCE_TYPES.get(instance_type)
    if known is None:
        raise AwsError(
            "InvalidParameterValue", f"Invalid value '{instance_type}' for InstanceType."
        )
    supported = known["ProcessorInfo"]["SupportedArchitectures"]
    if ami.architecture not in supported:
        text = ARCHITECTURE.format(type=supported[0], image=ami.architecture)
        raise AwsError("InvalidParameterValue", text)


def _check_volume(backend, ami, device: str, ebs: dict) -> None:
    if ebs.get("VolumeType") == "gp2" and ebs.get("Iops"):
        raise AwsError(
            "InvalidParameterCombination", "The parameter iops is not supported for gp2 volumes."
        )
    mapped = {m["DeviceName"]: m["Ebs"]["SnapshotId"] for m in device_mappings(ami)} if ami else {}
    snapshot_id = ebs.get("SnapshotId") or mapped.get(device)
    if snapshot_id is None:
        return
    snapshot = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        raise AwsError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    if ebs.get("VolumeSize") and int(ebs["VolumeSize"]) < snapshot.volume.size:
        raise AwsError(
            "InvalidBlockDeviceMapping",
            f"Volume of size {ebs['VolumeSize']}GB is smaller than snapshot '{snapshot_id}', "
            f"expect size>= {snapshot.volume.size}GB",
        )


def _groups(data: dict) -> list[str]:
    nics = data.get("NetworkInterfaces") or []
    return [*(data.get("SecurityGroupIds") or []), *(g for n in nics for g in n.get("Groups", []))]
