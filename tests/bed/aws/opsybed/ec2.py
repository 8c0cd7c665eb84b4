"""The EC2 operations of the bed, combined in one class."""

from .ec2_copies import CopyOperations
from .ec2_instances import InstanceOperations
from .ec2_network import NetworkOperations
from .ec2_registrations import RegisterOperations
from .ec2_snapshots import SnapshotOperations
from .ec2_templates import TemplateOperations
from .ec2_volumes import VolumeOperations


class BedEC2(
    CopyOperations,
    InstanceOperations,
    NetworkOperations,
    RegisterOperations,
    SnapshotOperations,
    TemplateOperations,
    VolumeOperations,
):
    """moto's EC2 with the corrections of the bed."""
