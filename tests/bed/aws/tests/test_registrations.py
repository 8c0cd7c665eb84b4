"""RegisterImage as ebssurrogate builds use it."""

from helpers import refused


def snapshot(bed) -> str:
    ec2 = bed.client("ec2")
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=9)["VolumeId"]
    made = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    ec2.delete_volume(VolumeId=volume)
    return made


def register(bed, name: str, snapshot_id: str) -> str:
    return bed.client("ec2").register_image(
        Name=name,
        Architecture="arm64",
        VirtualizationType="hvm",
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot_id, "VolumeSize": 9}}
        ],
        TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}],
    )["ImageId"]


def test_a_registered_image_is_what_was_asked_for(bed):
    bed.seed()
    made = snapshot(bed)
    assert made in bed.state()["leftovers"]["snapshots"]
    image = register(bed, "surrogate", made)
    shown = bed.client("ec2").describe_images(ImageIds=[image])["Images"][0]
    assert (shown["State"], shown["Architecture"], shown["RootDeviceName"], shown["RootDeviceType"]) == (
        "available",
        "arm64",
        "/dev/xvda",
        "ebs",
    )
    assert shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == made
    assert shown["Tags"] == [{"Key": "a", "Value": "b"}]
    assert "SourceInstanceId" not in shown
    assert not any(bed.state()["leftovers"].values())


def test_its_name_and_snapshot_are_checked(bed):
    bed.seed()
    made = snapshot(bed)
    register(bed, "surrogate", made)
    with refused("InvalidAMIName.Duplicate"):
        register(bed, "surrogate", made)
    with refused("InvalidSnapshot.NotFound"):
        register(bed, "other", "snap-00000000000000000")
