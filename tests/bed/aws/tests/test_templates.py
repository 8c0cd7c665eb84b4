"""EC2 launch templates, instances and their dependent resources."""

import base64

from helpers import refused

TOKEN = "a" * 64


def versions(answer: dict) -> list[int]:
    return [v["VersionNumber"] for v in answer["LaunchTemplateVersions"]]


def test_a_version_inherits_from_its_source_but_for_snapshots(bed):
    ec2 = bed.client("ec2")
    text = base64.b64encode(b"#!/bin/sh\necho bootstrap\n").decode()
    disk = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 60, "SnapshotId": "snap-12345678"}}
    template = ec2.create_launch_template(
        LaunchTemplateName="nodes",
        VersionDescription="first",
        LaunchTemplateData={
            "ImageId": "ami-1",
            "InstanceType": "m6i.large",
            "UserData": text,
            "BlockDeviceMappings": [disk],
        },
        TagSpecifications=[
            {"ResourceType": "launch-template", "Tags": [{"Key": "team", "Value": "platform"}]}
        ],
    )["LaunchTemplate"]
    assert template["Tags"] == [{"Key": "team", "Value": "platform"}]
    made = ec2.create_launch_template_version(
        LaunchTemplateId=template["LaunchTemplateId"],
        SourceVersion="$Latest",
        VersionDescription="opsy",
        LaunchTemplateData={"ImageId": "ami-2"},
    )["LaunchTemplateVersion"]
    assert (made["VersionNumber"], made["DefaultVersion"]) == (2, False)
    assert made["VersionDescription"] == "opsy"
    data = made["LaunchTemplateData"]
    assert (data["ImageId"], data["InstanceType"], data["UserData"]) == ("ami-2", "m6i.large", text)
    assert data["BlockDeviceMappings"] == [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 60}}]
    assert "TagSpecifications" not in data
    bare = ec2.create_launch_template_version(
        LaunchTemplateName="nodes", LaunchTemplateData={"ImageId": "ami-3"}
    )["LaunchTemplateVersion"]
    assert bare["LaunchTemplateData"] == {"ImageId": "ami-3"}
    default = ec2.create_launch_template_version(
        LaunchTemplateName="nodes", SourceVersion="$Default", LaunchTemplateData={"KeyName": "k"}
    )["LaunchTemplateVersion"]
    assert default["LaunchTemplateData"]["ImageId"] == "ami-1"


def test_a_client_token_makes_one_version(bed):
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    ec2 = bed.client("ec2")
    asked = {"LaunchTemplateId": template, "SourceVersion": "1", "ClientToken": TOKEN}
    first = ec2.create_launch_template_version(**asked, LaunchTemplateData={"ImageId": "ami-2"})
    again = ec2.create_launch_template_version(**asked, LaunchTemplateData={"ImageId": "ami-2"})
    assert first["LaunchTemplateVersion"] == again["LaunchTemplateVersion"]
    with refused("IdempotentParameterMismatch"):
        ec2.create_launch_template_version(**asked, LaunchTemplateData={"ImageId": "ami-3"})
    assert versions(ec2.describe_launch_template_versions(LaunchTemplateId=template)) == [2, 1]


def test_versions_come_newest_first_in_pages_and_filtered(bed):
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    ec2 = bed.client("ec2")
    for number in range(2, 6):
        ec2.create_launch_template_version(
            LaunchTemplateId=template,
            SourceVersion="1",
            LaunchTemplateData={"ImageId": f"ami-{number}"},
        )
    pages = ec2.get_paginator("describe_launch_template_versions").paginate(
        LaunchTemplateId=template, PaginationConfig={"PageSize": 2}
    )
    assert [versions(p) for p in pages] == [[5, 4], [3, 2], [1]]

    def ask(**asked):
        return versions(ec2.describe_launch_template_versions(LaunchTemplateId=template, **asked))

    assert ask(Filters=[{"Name": "image-id", "Values": ["ami-3", "ami-4"]}]) == [4, 3]
    assert ask(Filters=[{"Name": "is-default-version", "Values": ["true"]}]) == [1]
    assert ask(MinVersion="2", MaxVersion="3") == [3, 2]
    assert ask(Versions=["$Latest", "$Default"]) == [5, 1]
    latest = ec2.describe_launch_template_versions(Versions=["$Latest"])["LaunchTemplateVersions"]
    assert next(v for v in latest if v["LaunchTemplateId"] == template)["VersionNumber"] == 5


def test_what_is_not_there_has_its_own_codes(bed):
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    ec2 = bed.client("ec2")
    missing = "lt-0123456789abcdef0"
    with refused(
        "InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version 9"
    ):
        ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["9"])
    with refused("InvalidLaunchTemplateId.NotFound", missing):
        ec2.describe_launch_template_versions(LaunchTemplateId=missing)
    with refused("InvalidLaunchTemplateId.NotFound", missing):
        ec2.describe_launch_templates(LaunchTemplateIds=[missing])
    with refused("InvalidLaunchTemplateId.Malformed"):
        ec2.describe_launch_templates(LaunchTemplateIds=["x"])
    with refused("InvalidLaunchTemplateName.NotFoundException"):
        ec2.describe_launch_templates(LaunchTemplateNames=["nobody"])
    with refused("InvalidLaunchTemplateId.VersionNotFound"):
        ec2.create_launch_template_version(
            LaunchTemplateId=template, SourceVersion="9", LaunchTemplateData={"ImageId": "ami-1"}
        )


def test_deleting_versions_is_partial_and_leaves_no_number_behind(bed):
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    ec2 = bed.client("ec2")
    for _ in range(2):
        ec2.create_launch_template_version(
            LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": "ami-2"}
        )
    answer = ec2.delete_launch_template_versions(
        LaunchTemplateId=template, Versions=["1", "2", "7"]
    )
    done = answer["SuccessfullyDeletedLaunchTemplateVersions"]
    failed = answer["UnsuccessfullyDeletedLaunchTemplateVersions"]
    assert [v["VersionNumber"] for v in done] == [2]
    assert [(v["VersionNumber"], v["ResponseError"]["Code"]) for v in failed] == [
        (1, "unexpectedError"),
        (7, "launchTemplateVersionDoesNotExist"),
    ]
    assert versions(ec2.describe_launch_template_versions(LaunchTemplateId=template)) == [3, 1]
    with refused("InvalidLaunchTemplateId.VersionNotFound"):
        ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["2"])
    made = ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="$Latest", LaunchTemplateData={"KeyName": "k"}
    )
    assert made["LaunchTemplateVersion"]["VersionNumber"] == 4
    with refused("InvalidLaunchTemplateId.VersionNotFound"):
        ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion="2")
    ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion="3")
    described = ec2.describe_launch_templates(LaunchTemplateIds=[template])["LaunchTemplates"][0]
    assert (described["DefaultVersionNumber"], described["LatestVersionNumber"]) == (3, 4)


def test_templates_come_in_pages_and_by_tag(bed):
    bed.seed()
    ec2 = bed.client("ec2")
    tagged = [{"Name": "tag:team", "Values": ["platform"]}]
    pages = list(
        ec2.get_paginator("describe_launch_templates").paginate(
            Filters=tagged, PaginationConfig={"PageSize": 3}
        )
    )
    assert [len(p["LaunchTemplates"]) for p in pages] == [3, 1]


def test_run_instances_is_idempotent_by_token(bed):
    base = bed.seed()["base_images"]["v20260801"]
    ec2 = bed.client("ec2")
    asked = {"ImageId": base, "MinCount": 1, "MaxCount": 1, "ClientToken": "t-1"}
    first = ec2.run_instances(**asked)["Instances"][0]["InstanceId"]
    assert ec2.run_instances(**asked)["Instances"][0]["InstanceId"] == first
    with refused("IdempotentParameterMismatch"):
        ec2.run_instances(**asked, InstanceType="m6i.large")
    other = ec2.run_instances(**(asked | {"ClientToken": "t-2"}))["Instances"][0]["InstanceId"]
    assert other != first


def test_an_instance_needs_its_image_and_key(bed):
    base = bed.seed()["base_images"]["v20260801"]
    ec2 = bed.client("ec2")
    with refused("InvalidAMIID.NotFound"):
        ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
    with refused("InvalidKeyPair.NotFound"):
        ec2.run_instances(ImageId=base, KeyName="nobody", MinCount=1, MaxCount=1)


def test_leftovers_are_found_by_tag_and_go_in_the_order_aws_allows(bed):
    base = bed.seed()["base_images"]["v20260801"]
    ec2 = bed.client("ec2")
    tags = [{"Key": "opsy.dev/build", "Value": "b-1"}]
    by_tag = [{"Name": "tag:opsy.dev/build", "Values": ["b-1"]}]

    def tagged(*kinds: str) -> list[dict]:
        return [{"ResourceType": kind, "Tags": tags} for kind in kinds]

    group = ec2.create_security_group(
        GroupName="packer_1", Description="d", TagSpecifications=tagged("security-group")
    )["GroupId"]
    ec2.create_key_pair(KeyName="packer_1", TagSpecifications=tagged("key-pair"))
    ec2.run_instances(
        ImageId=base,
        KeyName="packer_1",
        SecurityGroupIds=[group],
        MinCount=1,
        MaxCount=1,
        TagSpecifications=tagged("instance", "volume"),
    )
    instance = ec2.describe_instances(Filters=by_tag)["Reservations"][0]["Instances"][0][
        "InstanceId"
    ]
    image = ec2.create_image(
        InstanceId=instance, Name="unfinished", TagSpecifications=tagged("image", "snapshot")
    )["ImageId"]
    volume = ec2.describe_volumes(Filters=by_tag)["Volumes"][0]["VolumeId"]
    snapshot = ec2.describe_snapshots(OwnerIds=["self"], Filters=by_tag)["Snapshots"][0][
        "SnapshotId"
    ]
    assert ec2.describe_security_groups(Filters=by_tag)["SecurityGroups"][0]["GroupId"] == group
    assert ec2.describe_key_pairs(Filters=by_tag)["KeyPairs"][0]["KeyName"] == "packer_1"
    with refused("DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    with refused("VolumeInUse"):
        ec2.delete_volume(VolumeId=volume)
    with refused("InvalidSnapshot.InUse"):
        ec2.delete_snapshot(SnapshotId=snapshot)
    ec2.deregister_image(ImageId=image)
    with refused("InvalidAMIID.NotFound"):
        ec2.create_tags(Resources=[image], Tags=tags)
    ec2.delete_snapshot(SnapshotId=snapshot)
    left = bed.state()["leftovers"]
    assert (left["instances"], left["key_pairs"], left["security_groups"]) == (
        [instance],
        ["packer_1"],
        [group],
    )
    ec2.terminate_instances(InstanceIds=[instance])
    ec2.delete_security_group(GroupId=group)
    ec2.delete_key_pair(KeyName="packer_1")
    assert not any(bed.state()["leftovers"].values())
