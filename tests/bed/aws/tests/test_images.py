"""EC2 images."""

from datetime import UTC, datetime, timedelta

from helpers import refused

EKS_OWNER = "602401143452"


def names(images: list[dict]) -> list[str]:
    return [i["Name"] for i in images]


def test_base_images_are_found_by_owner_wildcard_and_date(bed):
    bed.seed()
    ec2 = bed.client("ec2")
    wanted = [{"Name": "name", "Values": ["amazon-eks-node-al2023-x86_64-standard-1.31-v*"]}]
    found = ec2.describe_images(Owners=[EKS_OWNER], Filters=wanted)["Images"]
    assert len(found) == 3
    assert max(found, key=lambda i: i["CreationDate"])["Name"].endswith("v20260801")
    assert {i["OwnerId"] for i in found} == {EKS_OWNER}
    assert {i["RootDeviceType"] for i in found} == {"ebs"}
    dated = [*wanted, {"Name": "creation-date", "Values": ["2026-07-*"]}]
    assert names(ec2.describe_images(Owners=["amazon"], Filters=dated)["Images"]) == [
        "amazon-eks-node-al2023-x86_64-standard-1.31-v20260702"
    ]
    arm = [{"Name": "architecture", "Values": ["arm64"]}]
    assert len(ec2.describe_images(Owners=[EKS_OWNER], Filters=arm)["Images"]) == 1
    assert ec2.describe_images(Owners=["self"], Filters=wanted)["Images"] == []


def test_ssm_names_the_newest_base_image_and_follows_a_new_one(bed):
    seeded = bed.seed()
    ssm = bed.client("ssm")
    name = (
        "/aws/service/eks/optimized-ami/1.31/amazon-linux-2023/x86_64/standard/recommended/image_id"
    )
    assert ssm.get_parameter(Name=name)["Parameter"]["Value"] == seeded["base_images"]["v20260801"]
    newer = bed.control("POST", "base-image", version="20260901", created="2026-09-01T06:00:00Z")
    assert ssm.get_parameters(Names=[name])["Parameters"][0]["Value"] == newer["id"]
    image = bed.client("ec2").describe_images(ImageIds=[newer["id"]])["Images"][0]
    assert image["CreationDate"] == "2026-09-01T06:00:00.000Z"
    ssm.put_parameter(Name=name, Value="ami-00000000000000000", Type="String", Overwrite=True)
    assert ssm.get_parameter(Name=name)["Parameter"]["Value"] == "ami-00000000000000000"


def test_images_come_in_pages(bed):
    bed.seed()
    ec2 = bed.client("ec2")
    pages = list(
        ec2.get_paginator("describe_images").paginate(
            Owners=[EKS_OWNER], PaginationConfig={"PageSize": 3}
        )
    )
    assert [len(p["Images"]) for p in pages] == [3, 1]
    assert len({i["ImageId"] for p in pages for i in p["Images"]}) == 4
    with refused("InvalidNextToken"):
        ec2.describe_images(MaxResults=5, NextToken="nonsense!")


def test_ids_are_malformed_unknown_or_lingering(bed):
    ec2 = bed.client("ec2")
    with refused("InvalidAMIID.Malformed"):
        ec2.describe_images(ImageIds=["nonsense"])
    with refused("InvalidAMIID.NotFound", "The image id '[ami-12345678]' does not exist"):
        ec2.describe_images(ImageIds=["ami-12345678"])
    image = bed.image("lingers")
    run = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ec2.deregister_image(ImageId=image)
    assert ec2.describe_images(ImageIds=[image])["Images"] == []
    ec2.terminate_instances(InstanceIds=[run])
    with refused("InvalidAMIID.NotFound"):
        ec2.describe_images(ImageIds=[image])


def test_an_unknown_filter_is_loud(bed):
    with refused("UnsupportedOperation", "free-tier-eligible"):
        bed.seed()
        bed.client("ec2").describe_images(
            Filters=[{"Name": "free-tier-eligible", "Values": ["true"]}]
        )


def test_create_image_tags_image_and_snapshot_and_becomes_available(bed):
    bed.control("POST", "settings", image_pending_seconds=300)
    ec2 = bed.client("ec2")
    base = bed.seed()["base_images"]["v20260801"]
    instance = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    tags = [{"Key": "opsy.dev/builder", "Value": "default/node"}]
    image = ec2.create_image(
        InstanceId=instance,
        Name="tagged",
        TagSpecifications=[{"ResourceType": k, "Tags": tags} for k in ("image", "snapshot")],
    )["ImageId"]
    described = ec2.describe_images(
        Owners=["self"], Filters=[{"Name": "name", "Values": ["tagged"]}]
    )
    assert described["Images"][0]["State"] == "pending"
    assert described["Images"][0]["Tags"] == tags
    assert described["Images"][0]["SourceImageId"] == base
    with refused("InvalidAMIID.Unavailable"):
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    bed.advance(299)
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "pending"
    bed.advance(1)
    found = ec2.describe_images(ImageIds=[image])["Images"][0]
    assert found["State"] == "available"
    snapshot = found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"] == tags


def test_a_name_is_taken_once_and_an_image_can_fail(bed):
    taken = bed.image("taken")
    with refused("InvalidAMIName.Duplicate", f"AMI name taken is already in use by AMI {taken}"):
        bed.image("taken")
    with refused("InvalidAMIName.Malformed"):
        bed.image("n" * 129)
    with refused("InvalidInstanceID.NotFound"):
        bed.client("ec2").create_image(InstanceId="i-12345678", Name="nothing")
    bed.fault("image-fails", count=1, message="Client.InternalError: the copy failed", seconds=10)
    failing = bed.image("failing")
    bed.advance(10)
    image = bed.client("ec2").describe_images(ImageIds=[failing])["Images"][0]
    assert (image["State"], image["StateReason"]["Message"]) == (
        "failed",
        "Client.InternalError: the copy failed",
    )


def test_deprecation_rounds_hides_from_others_only_and_can_be_lifted(bed):
    ec2 = bed.client("ec2")
    image = bed.image("old")
    now = datetime.now(UTC)
    with refused("InvalidParameterValue", "future"):
        ec2.enable_image_deprecation(ImageId=image, DeprecateAt=now - timedelta(hours=1))
    with refused("InvalidParameterValue", "too far"):
        ec2.enable_image_deprecation(ImageId=image, DeprecateAt=now + timedelta(days=4000))
    ec2.enable_image_deprecation(ImageId=image, DeprecateAt=datetime(2027, 5, 1, 12, 0, 40))
    assert (
        ec2.describe_images(ImageIds=[image])["Images"][0]["DeprecationTime"]
        == "2027-05-01T12:01:00Z"
    )
    bed.advance(86400 * 365)
    assert "old" in names(ec2.describe_images(Owners=["self"])["Images"])
    ec2.disable_image_deprecation(ImageId=image)
    assert "DeprecationTime" not in ec2.describe_images(ImageIds=[image])["Images"][0]


def test_a_disabled_image_is_hidden_and_cannot_start(bed):
    ec2 = bed.client("ec2")
    image = bed.image("off")
    ec2.disable_image(ImageId=image)
    assert ec2.describe_images(ImageIds=[image])["Images"] == []
    hidden = ec2.describe_images(ImageIds=[image], IncludeDisabled=True)["Images"]
    assert hidden[0]["State"] == "disabled"
    with refused("InvalidAMIID.Unavailable"):
        ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)
    ec2.enable_image(ImageId=image)
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available"


def test_deregistering_takes_the_snapshots_only_when_asked(bed):
    ec2 = bed.client("ec2")
    kept, dropped = bed.image("kept"), bed.image("dropped")
    ec2.deregister_image(ImageId=kept)
    assert len(bed.state()["leftovers"]["snapshots"]) == 1
    answer = ec2.deregister_image(ImageId=dropped, DeleteAssociatedSnapshots=True)
    assert [r["ReturnCode"] for r in answer["DeleteSnapshotResults"]] == ["success"]
    assert len(bed.state()["leftovers"]["snapshots"]) == 1
    with refused("InvalidAMIID.Unavailable"):
        ec2.deregister_image(ImageId=kept)


def test_images_of_another_owner_cannot_be_changed(bed):
    base = bed.seed()["base_images"]["v20260801"]
    with refused("AuthFailure", base):
        bed.client("ec2").deregister_image(ImageId=base)


def test_a_deprecated_base_image_is_hidden_unless_asked_for(bed):
    bed.seed()
    old = bed.control(
        "POST", "base-image", version="20260501", created="2026-05-01T06:00:00Z",
        deprecate_at="2026-06-01T00:00:00Z", recommended=False,
    )  # fmt: skip
    ec2 = bed.client("ec2")
    assert old["name"] not in names(ec2.describe_images(Owners=["amazon"])["Images"])
    every = ec2.describe_images(Owners=["amazon"], IncludeDeprecated=True)["Images"]
    assert old["name"] in names(every)
    assert names(ec2.describe_images(ImageIds=[old["id"]])["Images"]) == [old["name"]]
