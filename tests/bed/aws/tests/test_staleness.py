"""Eventual consistency, by setting and by fault; off by default."""

import pytest
from helpers import refused
from test_eks import describe, new_version, start


@pytest.fixture
def ec2(bed):
    bed.seed()
    bed.control("POST", "clock", freeze=True)
    return bed.client("ec2")


def tags(ec2, image: str) -> dict:
    shown = ec2.describe_images(ImageIds=[image])["Images"][0]
    return {t["Key"]: t["Value"] for t in shown.get("Tags", [])}


def tag(ec2, *resources: str, **values: str) -> None:
    ec2.create_tags(
        Resources=list(resources), Tags=[{"Key": k, "Value": v} for k, v in values.items()]
    )


def by_tag(ec2, value: str) -> list[str]:
    wanted = [{"Name": "tag:status", "Values": [value]}]
    return [i["ImageId"] for i in ec2.describe_images(Owners=["self"], Filters=wanted)["Images"]]


def snapshot_of(ec2, image: str) -> str:
    shown = ec2.describe_images(ImageIds=[image])["Images"][0]
    return shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]


def test_everything_is_seen_at_once_by_default(bed, ec2):
    settings = bed.control("GET", "settings")
    assert {v for k, v in settings.items() if k.startswith("stale_")} == {0}
    image = bed.image("new", status="new")
    tag(ec2, image, snapshot_of(ec2, image), status="active")
    assert by_tag(ec2, "active") == [image]
    version = new_version(bed, "web", image)
    assert start(bed, bed.client("eks"), "web", version)["status"] == "InProgress"


def test_tags_are_seen_late_and_filtered_by_what_is_seen(bed, ec2):
    image = bed.image("new", status="new", kind="node")
    bed.advance(100)
    bed.control("POST", "settings", stale_tags_seconds=30)
    tag(ec2, image, status="active", more="x")
    ec2.delete_tags(Resources=[image], Tags=[{"Key": "kind"}])
    assert tags(ec2, image) == {"status": "new", "kind": "node"}
    assert (by_tag(ec2, "active"), by_tag(ec2, "new")) == ([], [image])
    described = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [image]}])["Tags"]
    assert {t["Key"] for t in described} == {"status", "kind"}
    bed.advance(20)
    tag(ec2, image, status="deprecated")
    bed.advance(11)
    assert tags(ec2, image) == {"status": "active", "more": "x"}
    assert by_tag(ec2, "active") == [image]
    bed.advance(20)
    assert by_tag(ec2, "deprecated") == [image]
    truth = next(i for i in bed.state()["images"] if i["id"] == image)
    assert truth["tags"] == {"status": "deprecated", "more": "x"}


def test_the_next_reads_see_tags_as_of_before_the_last_write(bed, ec2):
    image = bed.image("new", status="new")
    tag(ec2, image, status="active")
    bed.advance(1)
    tag(ec2, image, kind="node")
    bed.fault("stale", operation="DescribeImages", what=["tags"], count=2)
    assert [tags(ec2, image) for _ in range(3)] == [
        {"status": "active"},
        {"status": "active"},
        {"status": "active", "kind": "node"},
    ]
    bed.fault("stale", operation="DescribeImages", what=["tags"], seconds=1, count=1)
    assert tags(ec2, image) == {"status": "new"}


def test_new_images_are_seen_late_by_reads_and_writes(bed, ec2):
    bed.control("POST", "settings", stale_images_seconds=30)
    image = bed.image("new")
    assert ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["new"]}])[
        "Images"
    ] == []
    calls = (
        lambda: ec2.describe_images(ImageIds=[image]),
        lambda: tag(ec2, image, status="active"),
        lambda: ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1),
        lambda: ec2.enable_image_deprecation(ImageId=image, DeprecateAt="2040-01-01T00:00:00Z"),
        lambda: ec2.deregister_image(ImageId=image),
        lambda: ec2.copy_image(SourceImageId=image, SourceRegion="us-east-1", Name="copy"),
    )
    for call in calls:
        with refused("InvalidAMIID.NotFound", image):
            call()
    bed.advance(31)
    tag(ec2, image, status="active")
    assert by_tag(ec2, "active") == [image]


def test_new_snapshots_are_seen_late_by_reads_and_writes(bed, ec2):
    bed.control("POST", "settings", stale_snapshots_seconds=30)
    image = bed.image("new")
    snapshot = snapshot_of(ec2, image)
    words = f"The snapshot '{snapshot}' does not exist."
    with refused("InvalidSnapshot.NotFound", words):
        ec2.describe_snapshots(SnapshotIds=[snapshot])
    with refused("InvalidSnapshot.NotFound", words):
        tag(ec2, image, snapshot, status="active")
    with refused("InvalidSnapshot.NotFound", words):
        ec2.modify_snapshot_attribute(
            SnapshotId=snapshot, OperationType="add", UserIds=["100000000009"],
            Attribute="createVolumePermission",
        )  # fmt: skip
    assert tags(ec2, image) == {}
    assert snapshot not in [
        s["SnapshotId"] for s in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    ]
    bed.advance(31)
    tag(ec2, image, snapshot, status="active")
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Tags"]


def test_one_write_does_not_see_a_snapshot(bed, ec2):
    image = bed.image("new")
    snapshot = snapshot_of(ec2, image)
    bed.fault("stale", operation="CreateTags", what=["snapshots"], count=1)
    with refused("InvalidSnapshot.NotFound", snapshot):
        tag(ec2, image, snapshot, status="active")
    tag(ec2, image, snapshot, status="active")


def test_new_versions_are_seen_late_by_ec2_and_eks(bed, ec2):
    eks = bed.client("eks")
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    bed.control("POST", "settings", stale_versions_seconds=30)
    version = new_version(bed, "web", bed.image("new"))
    listed = ec2.describe_launch_template_versions(LaunchTemplateId=template)
    assert [v["VersionNumber"] for v in listed["LaunchTemplateVersions"]] == [1]
    shown = ec2.describe_launch_templates(LaunchTemplateIds=[template])["LaunchTemplates"][0]
    assert shown["LatestVersionNumber"] == 1
    with refused("InvalidLaunchTemplateId.VersionNotFound"):
        ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[version])
    with refused("InvalidParameterException", f"Could not find the specified version {version}"):
        start(bed, eks, "web", version)
    bed.advance(31)
    start(bed, eks, "web", version)
    bed.advance(60)
    assert describe(eks, "web")["launchTemplate"]["version"] == version


def test_eks_can_be_later_than_ec2(bed, ec2):
    eks = bed.client("eks")
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    bed.control("POST", "settings", stale_eks_seconds=30)
    version = new_version(bed, "web", bed.image("new"))
    ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=[version])
    with refused("InvalidParameterException", "Could not find"):
        start(bed, eks, "web", version)
    bed.control("POST", "settings", stale_eks_seconds=0)
    bed.fault("stale", operation="UpdateNodegroupVersion", count=1)
    with refused("InvalidParameterException", "Could not find"):
        start(bed, eks, "web", version)
    start(bed, eks, "web", version)


def test_fifty_tags_are_the_limit(bed, ec2):
    image = bed.image("new", **{f"k{n}": "v" for n in range(49)})
    tag(ec2, image, last="v")
    with refused("TagLimitExceeded"):
        tag(ec2, image, more="v")
    tag(ec2, image, last="w")
    with refused("TagLimitExceeded"):
        bed.image("many", **{f"k{n}": "v" for n in range(51)})
