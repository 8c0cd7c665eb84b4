"""Groups of every family, and updates that EKS refuses because no instance could be launched."""

import pytest
from helpers import refused
from test_eks import describe, new_version, start, update

BUSY = "Nodegroup cannot be updated"


@pytest.fixture
def eks(bed):
    bed.seed()
    return bed.client("eks")


def version_with(bed, group: dict, **data) -> dict:
    template = group["launch_template"]["id"]
    made = bed.client("ec2").create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData=data
    )
    return {"id": template, "version": str(made["LaunchTemplateVersion"]["VersionNumber"])}


def mapping(**ebs) -> list[dict]:
    return [{"DeviceName": "/dev/xvda", "Ebs": ebs}]


REFUSED = [
    (
        {"BlockDeviceMappings": mapping(VolumeSize=10)},
        "Volume of size 10GB is smaller than snapshot 'snap-",
    ),
    ({"InstanceType": "m6g.large"}, "The architecture 'arm64' of the specified instance type"),
    (
        {"BlockDeviceMappings": mapping(VolumeType="gp2", Iops=3000)},
        "The parameter iops is not supported for gp2 volumes.",
    ),
    ({"KeyName": "gone"}, "The key pair 'gone' does not exist"),
    ({"SecurityGroupIds": ["sg-0abc"]}, "The security group 'sg-0abc' does not exist"),
    (
        {"BlockDeviceMappings": [{"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": "snap-1"}}]},
        "The snapshot 'snap-1' does not exist.",
    ),
]


@pytest.mark.parametrize(("data", "text"), REFUSED)
def test_an_update_that_cannot_launch_is_refused(bed, eks, data, text):
    group = bed.seed()["node_groups"]["web"]
    template = version_with(bed, group, **data)
    with refused("InvalidRequestException", text, 400):
        start(bed, eks, "web", "", launchTemplate=template)
    assert eks.list_updates(name="demo", nodegroupName="web")["updateIds"] == []
    start(bed, eks, "web", "1")


def test_the_words_name_the_size_of_the_image_s_own_snapshot(bed, eks):
    image = bed.control("POST", "image", name="grown", size=80)
    group = bed.seed()["node_groups"]["web"]
    with refused(
        "InvalidRequestException",
        f"Volume of size 60GB is smaller than snapshot '{image['snapshot']}', expect size>= 80GB",
    ):
        version = version_with(bed, group, ImageId=image["id"])
        start(bed, eks, "web", "", launchTemplate=version)


def test_builds_cannot_launch_what_does_not_fit_either(bed):
    arm = bed.seed()["base_images_arm64"]["v20260801"]
    ec2 = bed.client("ec2")
    with refused("InvalidParameterValue", "does not match the architecture 'arm64'"):
        ec2.run_instances(ImageId=arm, InstanceType="t3.micro", MinCount=1, MaxCount=1)
    ec2.run_instances(ImageId=arm, InstanceType="t4g.micro", MinCount=1, MaxCount=1)


@pytest.mark.parametrize(
    ("asked", "platform", "root"),
    [
        ({"family": "windows"}, "windows", "/dev/sda1"),
        ({"family": "bottlerocket", "arch": "arm64"}, None, "/dev/xvda"),
        ({"arch": "arm64"}, None, "/dev/xvda"),
        ({"family": "ubuntu"}, None, "/dev/sda1"),
    ],
)
def test_groups_of_other_families_and_architectures(bed, eks, asked, platform, root):
    made = bed.control("POST", "new-node-group", name="more", count=2, **asked)
    group = describe(eks, "more")
    assert (group["amiType"], group["releaseVersion"]) == ("CUSTOM", made["image"])
    image = bed.client("ec2").describe_images(ImageIds=[made["image"]])["Images"][0]
    assert (image.get("Platform"), image["RootDeviceName"]) == (platform, root)
    assert image["Architecture"] == asked.get("arch", "x86_64")
    assert image["OwnerId"] == bed.account
    eks.update_nodegroup_version(
        clusterName="demo",
        nodegroupName="more",
        launchTemplate={"id": made["launch_template"]["id"]},
    )
    bed.advance(60)
    assert describe(eks, "more")["status"] == "ACTIVE"


def test_a_group_takes_an_image_a_template_and_its_tool_s_tags(bed, eks):
    image = bed.image("own")
    device = {"DeviceName": "/dev/xvdb", "Ebs": {"SnapshotId": "snap-cache", "VolumeSize": 20}}
    made = bed.control(
        "POST", "new-node-group", name="gpu", image=image, instance_type="g5.xlarge",
        template={"BlockDeviceMappings": [device]}, made_by="eksctl", tags={"team": "ml"},
    )  # fmt: skip
    version = bed.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=made["launch_template"]["id"]
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert (version["ImageId"], version["InstanceType"]) == (image, "g5.xlarge")
    assert version["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"] == "snap-cache"
    tags = describe(eks, "gpu")["tags"]
    assert tags["team"] == "ml"
    assert tags["alpha.eksctl.io/nodegroup-name"] == "gpu"
    assert tags["aws:cloudformation:stack-name"] == "eksctl-demo-nodegroup-gpu"
    assert describe(eks, "web")["tags"] == {"team": "platform"}


def test_a_degraded_group_refuses_updates_unless_told(bed, eks):
    bed.control("POST", "node-group", name="web", status="DEGRADED")
    with refused("ResourceInUseException", BUSY):
        start(bed, eks, "web", "1")
    bed.control("POST", "settings", degraded_accepts_updates=True)
    started = start(bed, eks, "web", new_version(bed, "web", bed.image("cure")))
    assert describe(eks, "web")["status"] == "UPDATING"
    bed.advance(60)
    assert update(eks, "web", started["id"])["status"] == "Successful"
    web = describe(eks, "web")
    assert (web["status"], web["health"]["issues"]) == ("ACTIVE", [])


@pytest.mark.parametrize("degraded", [False, True])
def test_a_failed_update_can_show_the_new_version(bed, eks, degraded):
    image = bed.image("next")
    version = new_version(bed, "web", image)
    bed.fault("nodegroup-update-fails", shows_new_version=True, degraded=degraded, count=1)
    started = start(bed, eks, "web", version)
    bed.advance(60)
    assert update(eks, "web", started["id"])["status"] == "Failed"
    web = describe(eks, "web")
    assert (web["releaseVersion"], web["launchTemplate"]["version"]) == (image, version)
    assert web["status"] == ("DEGRADED" if degraded else "ACTIVE")


def test_templates_are_full_at_their_limit(bed, eks):
    image = bed.image("next")
    assert bed.control("GET", "settings")["template_versions_limit"] == 10_000
    bed.control("POST", "settings", template_versions_limit=2)
    assert new_version(bed, "web", image) == "2"
    with refused("VersionLimitExceeded", "maximum number of versions"):
        new_version(bed, "web", image)
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    bed.client("ec2").delete_launch_template_versions(LaunchTemplateId=template, Versions=["2"])
    assert new_version(bed, "web", image) == "3"


def test_a_cluster_s_version_is_shown_and_can_be_raised(bed, eks):
    assert eks.describe_cluster(name="demo")["cluster"]["version"] == "1.31"
    bed.control("POST", "cluster", kubernetes="1.32")
    assert eks.describe_cluster(name="demo")["cluster"]["version"] == "1.32"
