"""The block devices of images: the root device with its size, and data volumes from snapshots.

moto gives every image one snapshot of a fixed size. Here, every image has its
own sizes and may map more devices, from its own snapshots or those of others.
"""

from moto.ec2.models.amis import Ami

# moto's size, which is also the default here
DEFAULT_SIZE = 15


def furnish(ami: Ami, size: int | None, mappings: list[dict]) -> None:
    """Set the size of the root in GiB, and the other devices of a list of mappings as in CreateImage."""
    ami.ebs_snapshot.volume.size = int(size or DEFAULT_SIZE)
    ami.data_devices = []
    for mapping in mappings:
        ebs, name = mapping.get("Ebs") or {}, mapping.get("DeviceName")
        if name == ami.root_device_name:
            ami.ebs_snapshot.volume.size = int(ebs.get("VolumeSize") or root_size(ami))
        elif ebs:
            snapshot_id = ebs.get("SnapshotId") or _snapshot(ami, ebs.get("VolumeSize")).id
            ami.data_devices.append((name, snapshot_id, ebs.get("VolumeSize")))


def _snapshot(ami: Ami, size: int | None):
    backend = ami.ec2_backend
    volume = backend.create_volume(size=int(size or 1), zone_name=f"{backend.region_name}a")
    made = backend.create_snapshot(
        volume.id, f"Created by CreateImage for {ami.id}", ami.owner_id, from_ami=ami.id
    )
    backend.delete_volume(volume.id)
    return made


def root_size(ami: Ami) -> int:
    return ami.ebs_snapshot.volume.size


def data_devices(ami: Ami) -> list[tuple[str, str, int | None]]:
    return getattr(ami, "data_devices", [])


def own_snapshots(ami: Ami) -> list:
    """Return the snapshots that were created for this image, without those that it only maps."""
    found = [ami.ec2_backend.snapshots.get(snapshot_id) for _, snapshot_id, _ in data_devices(ami)]
    return [ami.ebs_snapshot, *[s for s in found if s is not None and s.from_ami == ami.id]]


def device_mappings(ami: Ami) -> list[dict]:
    """Return the mappings in the form of DescribeImages."""
    devices = [(ami.root_device_name, ami.ebs_snapshot.id, root_size(ami)), *data_devices(ami)]
    return [
        {
            "DeviceName": name,
            "Ebs": {
                "SnapshotId": snapshot_id,
                "VolumeSize": size or _size_of(ami, snapshot_id),
                "DeleteOnTermination": True,
                "Encrypted": False,
                "VolumeType": "gp3",
            },
        }
        for name, snapshot_id, size in devices
    ]


def _size_of(ami: Ami, snapshot_id: str) -> int | None:
    snapshot = ami.ec2_backend.snapshots.get(snapshot_id)
    return snapshot.volume.size if snapshot else None


def patch() -> None:
    Ami.platform_details, Ami.imds_support = "Linux/UNIX", None
    Ami.block_device_mappings = property(device_mappings)
    Ami.usage_operation = property(
        lambda self: "RunInstances:0002" if self.platform == "windows" else "RunInstances"
    )
