"""EC2 snapshots: hides those that are not visible yet, and returns AWS's errors for missing ones."""

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response

from .ec2_images import not_found
from .staleness import visible
from .wire import AwsError


def snapshot_not_found(snapshot_id: str) -> AwsError:
    return AwsError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")


class SnapshotOperations(EC2Response):
    def describe_snapshots(self):
        for snapshot_id in self._get_param("SnapshotIds", []):
            self._must_be_there(snapshot_id)
        found = super().describe_snapshots().result["Snapshots"]
        return ActionResult({"Snapshots": [s for s in found if visible("snapshots", s.id)]})

    def delete_snapshot(self):
        self._must_be_there(self._get_param("SnapshotId"))
        return super().delete_snapshot()

    def modify_snapshot_attribute(self):
        self._must_be_there(self._get_param("SnapshotId"))
        return super().modify_snapshot_attribute()

    def create_tags(self):
        """moto tags IDs that no longer exist; here, images and snapshots must exist."""
        for resource in self._get_param("Resources", []):
            if resource.startswith("snap-"):
                self._must_be_there(resource)
            if resource.startswith("ami-") and not (
                resource in self.ec2_backend.amis and visible("images", resource)
            ):
                raise not_found([resource])
        return super().create_tags()

    def _must_be_there(self, snapshot_id: str) -> None:
        there = snapshot_id in self.ec2_backend.snapshots
        if not (there and visible("snapshots", snapshot_id)):
            raise snapshot_not_found(snapshot_id)
