"""The policies of deploy/iam: what they must allow, what they must deny, and that every statement is needed."""

import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from policies import BUILD, SENDER, Account, pairs, specs

FOLDER = Path(__file__).resolve().parents[4] / "deploy/iam"
DENIED = {
    "AccessDenied",
    "UnauthorizedOperation",
    "AccessDeniedException",
    "AuthorizationError",
    "InvalidRequestException",
}


# --- what must be allowed --------------------------------------------------------------------


def life_of_an_image(account: Account) -> None:
    """Do once everything that agent.json and build.json must allow."""
    ec2, agent, eks = (
        account.packer.client("ec2"),
        account.agent.client("ec2"),
        account.agent.client("eks"),
    )
    ec2.describe_regions()
    agent.describe_images(Owners=["self"])
    image = account.build("node-1")
    active = {"status": "active", "opsy.dev/owner": "me", "build-id": "b-1"}
    agent.create_tags(Resources=[image], Tags=pairs(active))
    agent.create_tags(Resources=[account.snapshot_of(image)], Tags=pairs(active))
    eks.describe_cluster(name="demo")
    eks.list_nodegroups(clusterName="demo")
    eks.describe_nodegroup(clusterName="demo", nodegroupName="web")
    eks.list_updates(name="demo", nodegroupName="web")
    account.roll("web", image)
    account.root.advance(3600)
    assert account.root.group("web")["release_version"] == image
    eks.update_nodegroup_config(
        clusterName="demo", nodegroupName="web", updateConfig={"maxUnavailable": 2}
    )
    template = account.ids["node_groups"]["batch"]["launch_template"]["id"]
    agent.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": image}
    )
    agent.delete_launch_template_versions(LaunchTemplateId=template, Versions=["2"])
    account.agent.client("sns").publish(TopicArn=account.topic, Message="active")
    account.agent.client("sesv2").send_email(
        FromEmailAddress=SENDER,
        Destination={"ToAddresses": ["platform@example.org"]},
        Content={"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "b"}}}},
    )


def adopted_image(account: Account) -> None:
    """Tag an image of the operator, which has the operator's tag instead of Opsy's build tag."""
    image = account.root.image("by-the-operator", **{"brought-to-you-by": "opsy-the-ami-operator"})
    account.agent.client("ec2").create_tags(
        Resources=[image], Tags=pairs({"status": "deprecated"})
    )


def refresh_of_a_group(account: Account) -> None:
    """Pin a self-managed group to its version, and move it by an instance refresh."""
    asg = account.agent.client("autoscaling")
    own = account.ids["self_managed"]
    name, template = own["auto_scaling_group"], own["launch_template"]["id"]
    asg.describe_auto_scaling_groups()
    asg.describe_lifecycle_hooks(AutoScalingGroupName=name)
    asg.describe_instance_refreshes(AutoScalingGroupName=name)
    version = {"LaunchTemplateId": template, "Version": "1"}
    asg.update_auto_scaling_group(AutoScalingGroupName=name, LaunchTemplate=version)
    asg.start_instance_refresh(
        AutoScalingGroupName=name, DesiredConfiguration={"LaunchTemplate": version}
    )
    asg.cancel_instance_refresh(AutoScalingGroupName=name)


def ends_of_a_build(account: Account, bed) -> None:
    """Delete what an aborted build leaves behind, as Packer does, and later the agent."""
    ec2 = bed.client("ec2")
    image = account.build("cut-off")
    ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    made = account.packer.client("ec2")
    key = made.create_key_pair(KeyName="packer_k", TagSpecifications=specs("key-pair"))["KeyName"]
    group = made.create_security_group(
        GroupName="packer_g", Description="d", TagSpecifications=specs("security-group")
    )["GroupId"]
    instance = account.instance(account.packer)
    volume = account.root.client("ec2").create_volume(
        AvailabilityZone="us-east-1a", Size=1, TagSpecifications=specs("volume")
    )["VolumeId"]
    snapshot = account.root.client("ec2").create_snapshot(
        VolumeId=volume, TagSpecifications=specs("snapshot")
    )["SnapshotId"]
    ec2.terminate_instances(InstanceIds=[instance])
    ec2.delete_volume(VolumeId=volume)
    ec2.delete_security_group(GroupId=group)
    ec2.delete_key_pair(KeyName=key)
    ec2.delete_snapshot(SnapshotId=snapshot)
    left = account.root.state()["leftovers"]
    assert not any(left.values()), left


def test_all_that_is_needed_is_allowed(account):
    life_of_an_image(account)
    adopted_image(account)
    refresh_of_a_group(account)
    ends_of_a_build(account, account.agent)
    ends_of_a_build(account, account.packer)
    denied = [e for e in account.root.journal() if e["status"] in (400, 403)]
    assert not denied, [(e["operation"], e["error"]) for e in denied]


def test_no_statement_is_superfluous(account):
    life_of_an_image(account)
    adopted_image(account)
    refresh_of_a_group(account)
    ends_of_a_build(account, account.agent)
    ends_of_a_build(account, account.packer)
    needed = account.root.control("GET", "policy/needed")
    for bed, file in ((account.agent, "agent.json"), (account.packer, "build.json")):
        found = needed[bed.access_key]
        statements = json.loads((FOLDER / file).read_text())["Statement"]
        assert list(found) == [s["Sid"] for s in statements]
        allowing = [s["Sid"] for s in statements if s["Effect"] == "Allow"]
        assert [sid for sid in allowing if not found[sid]] == [], f"{file}: these statements are not needed"


def test_only_a_denial_keeps_packer_from_setting_the_status(account):
    ec2, active = account.packer.client("ec2"), pairs({"status": "active"})
    first, second = account.build("first"), account.build("second")
    account.restrict(without=("OnlyTheAgentSetsTheStatus",))
    ec2.create_tags(Resources=[first], Tags=active)
    account.restrict()
    with pytest.raises(ClientError, match="with an explicit deny"):
        ec2.create_tags(Resources=[second], Tags=active)


def test_only_a_denial_protects_the_groups_of_eks(account):
    """They have the tag of the cluster, too, so that the statement about self-managed groups allows them."""
    victim = Victim(account)
    with pytest.raises(ClientError, match="with an explicit deny"):
        victim.autoscaling.start_instance_refresh(AutoScalingGroupName=victim.of_eks)
    account.restrict(without=("NeverGroupsOfEks",))
    victim.autoscaling.start_instance_refresh(AutoScalingGroupName=victim.of_eks)


@pytest.mark.parametrize(
    ("file", "sid"),
    [
        ("agent.json", "TagImages"),
        ("agent.json", "PassTheNodesRole"),
        ("build.json", "ImageWhatTheBuildLaunched"),
    ],
)
def test_without_any_one_statement_something_is_denied(account, file, sid):
    """Without the statement, the life of an image stops at the first call that depends on it."""
    (document,) = account.root.control("POST", "policy", access_key="x", files=[file])["documents"]
    document["Statement"] = [s for s in document["Statement"] if s["Sid"] != sid]
    bed = account.agent if file == "agent.json" else account.packer
    bed.control("POST", "policy", access_key=bed.access_key, document=document)
    with pytest.raises(ClientError) as denied:
        life_of_an_image(account)
    assert denied.value.response["Error"]["Code"] in DENIED, denied.value


# --- what must be denied ---------------------------------------------------------------------


def owned_by_eks(group: dict) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
    return tags.get("eks:cluster-name") == "demo"


class Victim:
    """Resources of others in the same account."""

    def __init__(self, account: Account) -> None:
        root, ec2 = account.root, account.root.client("ec2")
        self.account, self.ec2 = account, account.packer.client("ec2")
        self.agent, self.eks = account.agent.client("ec2"), account.agent.client("eks")
        self.instance = account.instance(root, {"app": "shop", "Name": "shop-1"})
        self.image = root.image("golden-shop", app="shop")
        self.snapshot = account.snapshot_of(self.image)
        self.volume = ec2.create_volume(
            AvailabilityZone="us-east-1a", Size=8, TagSpecifications=specs("volume", tags={"Name": "shop"})
        )["VolumeId"]
        self.group = ec2.create_security_group(GroupName="shop", Description="d")["GroupId"]
        ec2.create_key_pair(KeyName="admin")
        self.template = ec2.create_launch_template(
            LaunchTemplateName="shop", LaunchTemplateData={"ImageId": self.image}
        )["LaunchTemplate"]["LaunchTemplateId"]
        ec2.create_launch_template_version(
            LaunchTemplateId=self.template, LaunchTemplateData={"ImageId": self.image}
        )
        root.control("POST", "seed", cluster="shop")
        # An image of Opsy that node groups use, and one that a build is creating.
        self.active = account.build("active")
        both = [self.active, account.snapshot_of(self.active)]
        self.agent.create_tags(Resources=both, Tags=pairs({"status": "active"}))
        self.fresh = account.build("fresh")
        self.mine = account.instance(account.packer)

        self.autoscaling, self.own = account.agent.client("autoscaling"), account.ids["self_managed"]
        groups = root.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        self.of_eks = next(g["AutoScalingGroupName"] for g in groups if owned_by_eks(g))

    def pin(self, version: str = "1", group: str | None = None, **more) -> None:
        """Set a self-managed group to a version as the agent does, and change something else with it."""
        template = {"LaunchTemplateId": self.own["launch_template"]["id"], "Version": version}
        self.autoscaling.update_auto_scaling_group(
            AutoScalingGroupName=group or self.own["auto_scaling_group"], LaunchTemplate=template, **more
        )

    def everything(self) -> dict:
        state = self.account.root.state()
        state.pop("clock")
        ec2 = self.account.root.client("ec2")
        shared = {
            image["id"]: ec2.describe_image_attribute(
                ImageId=image["id"], Attribute="launchPermission"
            )["LaunchPermissions"]
            for image in state["images"]
            if image["owner"] == self.account.root.account
        }
        return {**state, "shared": shared}


MARK = pairs(BUILD)
OTHERS = "999988887777"
# The user, the attack and the call. `v` is a Victim.
ATTACKS = [
    ("packer", "tags an instance as its build's, then terminates it",
     lambda v: v.ec2.create_tags(Resources=[v.instance], Tags=MARK)),
    ("packer", "terminates an instance of others",
     lambda v: v.ec2.terminate_instances(InstanceIds=[v.instance])),
    ("packer", "stops one of its own and one of others in one call",
     lambda v: v.ec2.stop_instances(InstanceIds=[v.mine, v.instance])),
    ("packer", "images an instance of others",
     lambda v: v.ec2.create_image(
         InstanceId=v.instance, Name="theft", TagSpecifications=specs("image", "snapshot"))),
    ("packer", "reads the password of an instance of others",
     lambda v: v.ec2.get_password_data(InstanceId=v.instance)),
    ("packer", "changes the user data of an instance of others",
     lambda v: v.ec2.modify_instance_attribute(InstanceId=v.instance, UserData={"Value": b"x"})),
    ("packer", "tags a snapshot as its build's, then shares it",
     lambda v: v.ec2.create_tags(Resources=[v.snapshot], Tags=MARK)),
    ("packer", "shares a snapshot of others",
     lambda v: v.ec2.modify_snapshot_attribute(
         SnapshotId=v.snapshot, Attribute="createVolumePermission", OperationType="add", UserIds=[OTHERS])),
    ("packer", "makes a snapshot of others public",
     lambda v: v.ec2.modify_snapshot_attribute(
         SnapshotId=v.snapshot, Attribute="createVolumePermission", OperationType="add", GroupNames=["all"])),
    ("packer", "shares a snapshot of Opsy",
     lambda v: v.ec2.modify_snapshot_attribute(
         SnapshotId=v.account.snapshot_of(v.active),
         Attribute="createVolumePermission", OperationType="add", UserIds=[OTHERS])),
    ("packer", "launches with a volume from a snapshot of others",
     lambda v: v.account.instance(v.account.packer, BlockDeviceMappings=[
         {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": v.snapshot}}])),
    ("packer", "makes a volume from a snapshot of others",
     lambda v: v.ec2.create_volume(
         AvailabilityZone="us-east-1a", SnapshotId=v.snapshot, TagSpecifications=specs("volume"))),
    ("packer", "shares an image of others",
     lambda v: v.ec2.modify_image_attribute(
         ImageId=v.image, LaunchPermission={"Add": [{"UserId": OTHERS}]})),
    ("packer", "makes an image of Opsy public",
     lambda v: v.ec2.modify_image_attribute(
         ImageId=v.active, LaunchPermission={"Add": [{"Group": "all"}]})),
    ("packer", "makes public the image that it has just created",
     lambda v: v.ec2.modify_image_attribute(
         ImageId=v.fresh, LaunchPermission={"Add": [{"Group": "all"}]})),
    ("packer", "makes an image of others public by OperationType",
     lambda v: v.ec2.modify_image_attribute(
         ImageId=v.image, Attribute="launchPermission", OperationType="add", UserGroups=["all"])),
    ("packer", "copies an image of others",
     lambda v: v.ec2.copy_image(
         Name="theft", SourceImageId=v.image, SourceRegion="us-east-1",
         TagSpecifications=specs("image", "snapshot"))),
    ("packer", "tags an image as its build's, then deregisters it",
     lambda v: v.ec2.create_tags(Resources=[v.image], Tags=MARK)),
    ("packer", "deregisters an image of others",
     lambda v: v.ec2.deregister_image(ImageId=v.image)),
    ("packer", "deregisters the active image",
     lambda v: v.ec2.deregister_image(ImageId=v.active)),
    ("packer", "deprecates the active image by its tags",
     lambda v: v.ec2.create_tags(Resources=[v.active], Tags=pairs({"status": "deprecated"}))),
    ("packer", "sets a status on the image that it has just created",
     lambda v: v.ec2.create_tags(Resources=[v.fresh], Tags=pairs({"status": "active"}))),
    ("packer", "creates an image that is active from the start",
     lambda v: v.ec2.create_image(
         InstanceId=v.mine, Name="active at once",
         TagSpecifications=specs("image", "snapshot", tags={**BUILD, "status": "active"}))),
    ("packer", "removes tags",
     lambda v: v.ec2.delete_tags(Resources=[v.active], Tags=[{"Key": "status"}])),
    ("packer", "deletes a snapshot of others",
     lambda v: v.ec2.delete_snapshot(SnapshotId=v.snapshot)),
    ("packer", "deletes a volume of others",
     lambda v: v.ec2.delete_volume(VolumeId=v.volume)),
    ("packer", "opens a security group of others",
     lambda v: v.ec2.authorize_security_group_ingress(
         GroupId=v.group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")),
    ("packer", "deletes a security group of others",
     lambda v: v.ec2.delete_security_group(GroupId=v.group)),
    ("packer", "deletes a key pair of others",
     lambda v: v.ec2.delete_key_pair(KeyName="admin")),
    ("packer", "launches with a role of others",
     lambda v: v.account.instance(v.account.packer, IamInstanceProfile={"Name": "demo-node"})),
    ("packer", "launches an instance without tags",
     lambda v: v.account.instance(v.account.packer, {})),
    ("packer", "creates a key pair without tags",
     lambda v: v.ec2.create_key_pair(KeyName="back-door")),
    ("packer", "writes a launch template version of a node group",
     lambda v: v.ec2.create_launch_template_version(
         LaunchTemplateId=v.account.ids["node_groups"]["web"]["launch_template"]["id"],
         LaunchTemplateData={"ImageId": v.fresh})),
    ("packer", "rolls a node group",
     lambda v: v.account.packer.client("eks").update_nodegroup_config(
         clusterName="demo", nodegroupName="web", updateConfig={"maxUnavailable": 9})),
    ("agent", "tags an image as a build's, then deregisters it",
     lambda v: v.agent.create_tags(Resources=[v.image], Tags=MARK)),
    ("agent", "tags an image as the operator's, then changes its status",
     lambda v: v.agent.create_tags(
         Resources=[v.image], Tags=pairs({"brought-to-you-by": "opsy-the-ami-operator"}))),
    ("agent", "tags a snapshot as a build's, then deletes it",
     lambda v: v.agent.create_tags(Resources=[v.snapshot], Tags=MARK)),
    ("agent", "tags an instance as a build's, then terminates it",
     lambda v: v.agent.create_tags(Resources=[v.instance], Tags=MARK)),
    ("agent", "sets a tag of others on its own image",
     lambda v: v.agent.create_tags(Resources=[v.active], Tags=pairs({"cost-center": "x"}))),
    ("agent", "terminates an instance of others",
     lambda v: v.agent.terminate_instances(InstanceIds=[v.instance])),
    ("agent", "terminates a node",
     lambda v: v.agent.terminate_instances(
         InstanceIds=[next(i["id"] for i in v.account.root.state()["instances"] if i["node_group"])])),
    ("agent", "deregisters an image of others",
     lambda v: v.agent.deregister_image(ImageId=v.image)),
    ("agent", "deregisters the active image",
     lambda v: v.agent.deregister_image(ImageId=v.active)),
    ("agent", "deletes the snapshot of the active image",
     lambda v: v.agent.delete_snapshot(SnapshotId=v.account.snapshot_of(v.active))),
    ("agent", "deletes a security group of others",
     lambda v: v.agent.delete_security_group(GroupId=v.group)),
    ("agent", "deletes a key pair of others",
     lambda v: v.agent.delete_key_pair(KeyName="admin")),
    ("agent", "deletes a version of another's launch template",
     lambda v: v.agent.delete_launch_template_versions(LaunchTemplateId=v.template, Versions=["2"])),
    ("agent", "writes a version of another's launch template",
     lambda v: v.agent.create_launch_template_version(
         LaunchTemplateId=v.template, LaunchTemplateData={"ImageId": v.active})),
    ("agent", "tags another's launch template for rollouts",
     lambda v: v.agent.create_tags(Resources=[v.template], Tags=pairs({"opsy.dev/roll": "true"}))),
    ("agent", "rolls a group of another cluster",
     lambda v: v.eks.update_nodegroup_config(
         clusterName="shop", nodegroupName="web", updateConfig={"maxUnavailable": 9})),
    ("agent", "makes a self-managed group smaller",
     lambda v: v.pin(MinSize=0, DesiredCapacity=0)),
    ("agent", "lets a self-managed group grow",
     lambda v: v.pin(MaxSize=99)),
    ("agent", "moves a self-managed group to other subnets",
     lambda v: v.pin(VPCZoneIdentifier="subnet-0123456789abcdef0")),
    ("agent", "changes a self-managed group without its launch template",
     lambda v: v.autoscaling.update_auto_scaling_group(
         AutoScalingGroupName=v.own["auto_scaling_group"], DesiredCapacity=0)),
    ("agent", "lets a self-managed group follow the latest version",
     lambda v: v.pin("$Latest")),
    ("agent", "refreshes the Auto Scaling group of a managed node group",
     lambda v: v.autoscaling.start_instance_refresh(AutoScalingGroupName=v.of_eks)),
    ("agent", "cancels a refresh of the Auto Scaling group of a managed node group",
     lambda v: v.autoscaling.cancel_instance_refresh(AutoScalingGroupName=v.of_eks)),
    ("agent", "rolls back a refresh of the Auto Scaling group of a managed node group",
     lambda v: v.autoscaling.rollback_instance_refresh(AutoScalingGroupName=v.of_eks)),
    ("agent", "pins the Auto Scaling group of a managed node group",
     lambda v: v.pin(group=v.of_eks)),
    ("agent", "describes another cluster",
     lambda v: v.eks.list_nodegroups(clusterName="shop")),
    ("agent", "launches with a role other than that of the nodes",
     lambda v: v.account.instance(v.account.agent, {}, IamInstanceProfile={"Name": "admin"})),
    ("agent", "shares an image",
     lambda v: v.agent.modify_image_attribute(
         ImageId=v.active, LaunchPermission={"Add": [{"UserId": OTHERS}]})),
    ("agent", "images an instance",
     lambda v: v.agent.create_image(InstanceId=v.instance, Name="theft")),
    ("agent", "publishes to another topic",
     lambda v: v.account.agent.client("sns").publish(
         TopicArn=v.account.root.client("sns").create_topic(Name="pager")["TopicArn"], Message="m")),
    ("agent", "sends mail as another sender",
     lambda v: v.account.agent.client("sesv2").send_email(
         FromEmailAddress="boss@example.com", Destination={"ToAddresses": ["a@example.org"]},
         Content={"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "b"}}}})),
]  # fmt: skip


def test_attacks_are_denied_and_change_nothing(account):
    victim = Victim(account)
    before = victim.everything()
    for who, what, attack in ATTACKS:
        with pytest.raises(ClientError) as denied:
            attack(victim)
            pytest.fail(f"{who} {what}")
        error = denied.value.response["Error"]
        assert error["Code"] in DENIED - {"InvalidRequestException"}, f"{who} {what}: {error}"
        assert f"user/{who} " in error["Message"], f"{who} {what}: {error}"
    assert victim.everything() == before
