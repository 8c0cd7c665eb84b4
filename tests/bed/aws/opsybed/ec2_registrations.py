"""RegisterImage: creates images from snapshots of volumes, as ebssurrogate builds do."""

from moto.core.responses import ActionResult
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id

from .devices import furnish
from .ec2_images import ImageOperations
from .ec2_snapshots import snapshot_not_found
from .staleness import visible
from .wire import AwsError
from .world import world


class RegisterOperations(ImageOperations):
    def register_image(self):
        """moto uses only the name and the description."""
        name = self._get_param("Name")
        self._check_image_name(name)
        root_name = self._get_param("RootDeviceName") or "/dev/sda1"
        mappings = self._get_param("BlockDeviceMappings", [])
        root = self._root_snapshot(root_name, mappings)
        tags = self._image_tags()
        self.error_on_dryrun()
        ami = Ami(
            self.ec2_backend,
            random_ami_id(),
            name=name,
            description=self._get_param("Description", ""),
            virtualization_type=self._get_param("VirtualizationType") or "paravirtual",
            architecture=self._get_param("Architecture") or "i386",
            creation_date=world.account(self.current_account).clock.now(),
            root_device_type="ebs",
            root_device_name=root_name,
            image_location=f"{self.current_account}/{name}",
            region_name=f"{self.region}a",
        )
        self.ec2_backend.delete_snapshot(ami.ebs_snapshot.id)
        ami.ebs_snapshot, root.from_ami = root, ami.id
        furnish(ami, root.volume.size, mappings)
        self._add_image(ami, tags)
        return ActionResult({"ImageId": ami.id})

    def _root_snapshot(self, root_name: str, mappings: list[dict]):
        found = [m.get("Ebs", {}) for m in mappings if m.get("DeviceName") == root_name]
        snapshot_id = found[0].get("SnapshotId") if found else None
        if snapshot_id is None:
            raise AwsError("InvalidBlockDeviceMapping", "No snapshot for the root device was given.")
        snapshot = self.ec2_backend.snapshots.get(snapshot_id)
        if snapshot is None or not visible("snapshots", snapshot_id):
            raise snapshot_not_found(snapshot_id)
        return snapshot
