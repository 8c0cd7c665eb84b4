"""Policies that let Packer tag resources after creation: such a tag must not allow anything else."""

import pytest
from botocore.exceptions import ClientError
from policies import pairs, specs
from test_iam_policies import ATTACKS, DENIED, MARK, OTHERS, Victim


def on_image(victim: Victim) -> list:
    """Return the calls on an image of others that a late tag must not allow."""
    ec2, image, everybody = victim.ec2, victim.image, {"Add": [{"Group": "all"}]}
    return [
        lambda: ec2.deregister_image(ImageId=image),
        lambda: ec2.enable_image_deprecation(ImageId=image, DeprecateAt="2030-01-01T00:00:00Z"),
        lambda: ec2.modify_image_attribute(ImageId=image, LaunchPermission=everybody),
        lambda: ec2.modify_image_attribute(
            ImageId=image, Attribute="launchPermission", OperationType="add", UserGroups=["all"]
        ),
    ]


def on_snapshot(victim: Victim) -> list:
    """Return the calls on a snapshot of others that a late tag must not allow."""
    ec2, snapshot = victim.ec2, victim.snapshot
    disk = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}
    return [
        lambda: ec2.delete_snapshot(SnapshotId=snapshot),
        lambda: ec2.modify_snapshot_attribute(
            SnapshotId=snapshot,
            Attribute="createVolumePermission",
            OperationType="add",
            UserIds=[OTHERS],
        ),
        lambda: ec2.register_image(
            Name="theft",
            RootDeviceName="/dev/xvda",
            BlockDeviceMappings=[disk],
            TagSpecifications=specs("image"),
        ),
    ]


TAGS_IMAGES, TAGS_SNAPSHOTS = "tags an image as its build's", "tags a snapshot as its build's"
BOTH = (TAGS_IMAGES, TAGS_SNAPSHOTS)
# Policies that allow calls by tag, in addition to those that let Packer set tags late.
USES = ("build-ebssurrogate", "build-share")
# Optional policies of the agent and of Packer, and the tags that they let Packer set on resources of others.
TAGGED_LATE = {
    "packer-1.6": (("agent-packer-1.6",), ("build-packer-1.6", *USES), BOTH),
    "govcloud": ((), ("build-govcloud", *USES), BOTH),
    "china": (("agent-packer-1.6", "agent-china"), ("build-packer-1.6", "build-china", *USES), BOTH),
    "ebssurrogate": ((), USES, (TAGS_IMAGES,)),
    "set from the start": ((), ("build-ebssurrogate-create-image", "build-spot"), ()),
}


@pytest.mark.parametrize(("agent", "build", "may"), TAGGED_LATE.values(), ids=TAGGED_LATE)
def test_attacks_where_packer_tags_late_too(account, agent, build, may):
    """These policies let Packer tag resources of others, but must not allow any use of such a tag."""
    victim = Victim(account)
    names = {"VPC": "vpc-of-builds-alone", "BUILD_ROLE": "builder", "SHARED_WITH": "111122223333"}
    account.restrict(agent, build, **names)
    before = victim.everything()
    for who, what, attack in ATTACKS:
        if who == "packer" and may and what.startswith(may):
            continue
        with pytest.raises(ClientError) as denied:
            attack(victim)
            pytest.fail(f"{who} {what}")
        assert denied.value.response["Error"]["Code"] in DENIED, f"{who} {what}: {denied.value}"
    assert victim.everything() == before
    follow = []
    for tagged, resource, attacks in (
        (TAGS_IMAGES, victim.image, on_image),
        (TAGS_SNAPSHOTS, victim.snapshot, on_snapshot),
    ):
        if tagged in may:
            victim.ec2.create_tags(Resources=[resource], Tags=MARK)
            follow += attacks(victim)
    for attack in follow:
        with pytest.raises(ClientError) as denied:
            attack()
        assert "with an explicit deny" in denied.value.response["Error"]["Message"]


def test_a_copy_that_is_tagged_late_is_marked_as_one(account):
    """With the policy for `encrypt_boot`, Packer may delete only snapshots that were created with the build's tag."""
    victim = Victim(account)
    account.restrict(build=("build-encrypt-boot", *USES), SHARED_WITH=OTHERS)
    with pytest.raises(ClientError, match="no identity-based policy allows the ec2:CreateTags action"):
        victim.ec2.create_tags(Resources=[victim.snapshot], Tags=MARK)
    victim.ec2.create_tags(Resources=[victim.snapshot], Tags=[*MARK, *pairs({"opsy.dev/copy": "true"})])
    for attack in on_snapshot(victim):
        with pytest.raises(ClientError, match="with an explicit deny"):
            attack()
    account.restrict(build=("build-encrypt-boot",))
    snapshot = account.snapshot_of(victim.fresh)
    victim.ec2.deregister_image(ImageId=victim.fresh)
    victim.ec2.delete_snapshot(SnapshotId=snapshot)


def test_in_china_a_tag_is_set_late_on_what_a_build_could_have_launched_alone(account):
    root, ec2 = account.root, account.packer.client("ec2")
    iam = root.client("iam")
    iam.create_instance_profile(InstanceProfileName="shop")
    named = account.instance(root, {"Name": "shop-1"})
    with_role = account.instance(root, {}, IamInstanceProfile={"Name": "shop"})
    node = next(i["id"] for i in root.state()["instances"] if i["node_group"])
    plain = account.instance(root, {})
    account.restrict(("agent-china",), ("build-packer-1.6", "build-china"), BUILD_ROLE="builder")
    for instance in (named, with_role, node):
        for call in (
            lambda i=instance: ec2.create_tags(Resources=[i], Tags=MARK),
            lambda i=instance: account.agent.client("ec2").terminate_instances(InstanceIds=[i]),
        ):
            with pytest.raises(ClientError) as denied:
                call()
            assert denied.value.response["Error"]["Code"] == "UnauthorizedOperation", instance
    ec2.create_tags(Resources=[plain], Tags=MARK)
    cut_off = account.instance(account.packer, {})
    account.agent.client("ec2").terminate_instances(InstanceIds=[cut_off])
    account.restrict((), ("build-china",), BUILD_ROLE="builder", VPC="vpc-elsewhere")
    with pytest.raises(ClientError, match="with an explicit deny"):
        account.instance(account.packer, {})
