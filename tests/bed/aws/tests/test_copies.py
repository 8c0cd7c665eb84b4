"""CopyImage between regions, and the origin of images."""

import boto3
from helpers import refused

ELSEWHERE = "eu-west-1"
TAGS = [{"Key": "team", "Value": "platform"}, {"Key": "opsy.dev/build", "Value": "b-1"}]


def in_region(bed, region: str):
    return boto3.client(
        "ec2",
        region_name=region,
        endpoint_url=bed.endpoint,
        aws_access_key_id=bed.access_key,
        aws_secret_access_key="secret",
    )


def copy(bed, image: str, **asked) -> str:
    asked = {"SourceImageId": image, "SourceRegion": "us-east-1", "Name": "copy", **asked}
    return in_region(bed, ELSEWHERE).copy_image(**asked)["ImageId"]


def look(bed, image: str) -> dict:
    return in_region(bed, ELSEWHERE).describe_images(ImageIds=[image])["Images"][0]


def test_a_copy_has_tags_only_as_asked(bed):
    image = bed.image("source", **{t["Key"]: t["Value"] for t in TAGS})
    assert not look(bed, copy(bed, image, Name="bare")).get("Tags")
    tagged = look(bed, copy(bed, image, Name="tagged", CopyImageTags=True))
    assert sorted(tagged["Tags"], key=str) == sorted(TAGS, key=str)
    specs = [
        {"ResourceType": "image", "Tags": [{"Key": "team", "Value": "other"}]},
        {"ResourceType": "snapshot", "Tags": [{"Key": "kind", "Value": "node"}]},
    ]
    both = look(bed, copy(bed, image, Name="both", CopyImageTags=True, TagSpecifications=specs))
    assert {t["Key"]: t["Value"] for t in both["Tags"]} == {
        "team": "other",
        "opsy.dev/build": "b-1",
    }
    snapshot = both["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    found = in_region(bed, ELSEWHERE).describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert found["Tags"] == [{"Key": "kind", "Value": "node"}]
    assert found["OwnerId"] == bed.account


def test_a_copy_is_pending_and_names_its_source(bed):
    image = bed.image("source")
    bed.control("POST", "settings", image_pending_seconds=300)
    copied = copy(bed, image)
    shown = look(bed, copied)
    assert (shown["State"], shown["SourceImageId"], shown["SourceImageRegion"]) == (
        "pending",
        image,
        "us-east-1",
    )
    assert "SourceInstanceId" not in shown
    bed.advance(300)
    assert look(bed, copied)["State"] == "available"
    with refused("InvalidAMIID.NotFound"):
        bed.client("ec2").describe_images(ImageIds=[copied])
    assert bed.control("GET", "state")["images"][-1]["id"] == image


def test_a_copy_can_fail(bed):
    image = bed.image("source")
    bed.fault("image-fails", operation="CopyImage", count=1)
    assert look(bed, copy(bed, image))["State"] == "failed"


def test_what_cannot_be_copied(bed):
    image = bed.image("source")
    with refused("InvalidAMIID.NotFound", "The image id '[ami-12345678]' does not exist"):
        copy(bed, "ami-12345678")
    with refused("InvalidAMIID.NotFound"):
        copy(bed, image, SourceRegion="us-west-2")
    with refused("InvalidRequest", "region 'mars-1'"):
        copy(bed, image, SourceRegion="mars-1")
    bed.control("POST", "settings", image_pending_seconds=300)
    copied = copy(bed, image)
    with refused("InvalidAMIName.Duplicate", copied):
        copy(bed, image)
    with refused("InvalidRequest", "not available"):
        copy(bed, copied, SourceRegion=ELSEWHERE, Name="again")


def test_a_token_copies_once(bed):
    image = bed.image("source")
    first = copy(bed, image, ClientToken="t-1")
    assert copy(bed, image, ClientToken="t-1") == first
    with refused("IdempotentParameterMismatch"):
        copy(bed, image, ClientToken="t-1", Name="other")


def test_an_image_of_an_instance_names_both_and_keeps_shape_and_size(bed):
    base = bed.control("POST", "base-image", family="windows", version="2026.09.01")["id"]
    ec2 = bed.client("ec2")
    instance = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    other = bed.image("other")
    foreign = ec2.describe_images(ImageIds=[other])["Images"][0]["BlockDeviceMappings"][0]["Ebs"]
    image = ec2.create_image(
        InstanceId=instance,
        Name="windows",
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 30}},
            {"DeviceName": "/dev/sdc", "Ebs": {"SnapshotId": foreign["SnapshotId"]}},
        ],
    )["ImageId"]
    shown = ec2.describe_images(ImageIds=[image])["Images"][0]
    assert (shown["SourceImageId"], shown["SourceInstanceId"]) == (base, instance)
    assert (shown["Platform"], shown["PlatformDetails"], shown["RootDeviceName"]) == (
        "windows",
        "Windows",
        "/dev/sda1",
    )
    mapped = {m["DeviceName"]: m["Ebs"] for m in shown["BlockDeviceMappings"]}
    assert [mapped[d]["VolumeSize"] for d in ("/dev/sda1", "/dev/sdb", "/dev/sdc")] == [50, 30, 15]
    answer = ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    assert {r["SnapshotId"]: r["ReturnCode"] for r in answer["DeleteSnapshotResults"]} == {
        mapped["/dev/sda1"]["SnapshotId"]: "success",
        mapped["/dev/sdb"]["SnapshotId"]: "success",
        foreign["SnapshotId"]: "skipped",
    }
    assert not bed.state()["leftovers"]["snapshots"]


def test_images_are_linux_on_xvda_unless_told(bed):
    bed.seed()
    shown = bed.client("ec2").describe_images(Owners=["amazon"])["Images"]
    assert {(i.get("Platform"), i["PlatformDetails"], i["RootDeviceName"]) for i in shown} == {
        (None, "Linux/UNIX", "/dev/xvda")
    }


def test_own_images_take_any_shape_and_can_be_changed(bed):
    made = bed.control(
        "POST", "image", name="golden", family="bottlerocket", arch="arm64", size=8,
        tags={"team": "x"}, created="2026-01-01T00:00:00Z",
    )  # fmt: skip
    ec2 = bed.client("ec2")
    shown = ec2.describe_images(Owners=["self"])["Images"][0]
    assert (shown["ImageId"], shown["Architecture"]) == (made["id"], "arm64")
    assert shown["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 8
    bed.control("POST", "image", id=made["id"], root_device_name="/dev/sda1", tags={"a": "b"})
    shown = ec2.describe_images(ImageIds=[made["id"]])["Images"][0]
    assert shown["RootDeviceName"] == "/dev/sda1"
    assert {t["Key"] for t in shown["Tags"]} == {"team", "a"}
