"""DryRun of EC2: IAM first, then the resource, and nothing is done."""

import pytest
from awsclient import Bed
from helpers import refused
from test_iam import attach, launched, statement, user

__all__ = ["user"]

LISTINGS = (
    "describe_images",
    "describe_instance_types",
    "describe_instances",
    "describe_key_pairs",
    "describe_regions",
    "describe_security_groups",
    "describe_snapshots",
    "describe_volumes",
)


@pytest.mark.parametrize("operation", LISTINGS)
def test_a_listing_is_never_answered(bed, operation):
    with refused("DryRunOperation", "would have succeeded", 412):
        getattr(bed.client("ec2"), operation)(DryRun=True)


def test_launch_template_versions_are_not_listed_either(bed):
    with refused("DryRunOperation", "would have succeeded", 412):
        bed.client("ec2").describe_launch_template_versions(Versions=["$Latest"], DryRun=True)


def test_iam_is_first_then_the_resource_and_nothing_is_done(user: Bed):
    ec2, admin = user.client("ec2"), user.admin.client("ec2")
    instance = launched(user.admin)
    attach(user, statement("ec2:DescribeInstances"))
    for asked in (instance, "i-0123456789abcdef0"):
        with refused("UnauthorizedOperation", "ec2:TerminateInstances", 403):
            ec2.terminate_instances(InstanceIds=[asked], DryRun=True)
    attach(user, statement(["ec2:TerminateInstances", "ec2:CreateTags", "ec2:DeleteVolume"]))
    with refused("DryRunOperation", "would have succeeded", 412):
        ec2.terminate_instances(InstanceIds=[instance], DryRun=True)
    with refused("InvalidInstanceID.NotFound", "does not exist", 400):
        ec2.terminate_instances(InstanceIds=["i-0123456789abcdef0"], DryRun=True)
    with refused("InvalidVolume.NotFound", "does not exist", 400):
        ec2.delete_volume(VolumeId="vol-0123456789abcdef0", DryRun=True)
    with refused("DryRunOperation", "would have succeeded", 412):
        ec2.create_tags(Resources=[instance], Tags=[{"Key": "a", "Value": "b"}], DryRun=True)
    found = admin.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert (found["State"]["Name"] != "terminated", found.get("Tags", [])) == (True, [])
