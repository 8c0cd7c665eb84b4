"""IAM policies of EC2 Auto Scaling: resources, tags, and the launch that a refresh implies."""

import pytest
from awsclient import ControlError
from helpers import refused
from refreshing import Group
from test_iam import attach, statement, user  # noqa: F401

READ = statement("autoscaling:Describe*")
LAUNCH = statement(["ec2:RunInstances", "ec2:CreateTags"])


@pytest.fixture
def group(bed):
    return Group(bed, count=1)


def calls_of(group, user):  # noqa: F811
    """Make the calls of the group as a restricted user."""
    group.calls = user.client("autoscaling")
    return group


def arn(group) -> str:
    return group.bed.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group.name])[
        "AutoScalingGroups"
    ][0]["AutoScalingGroupARN"]


def test_a_refresh_needs_permissions_for_its_group(group, user):  # noqa: F811
    own, anywhere = arn(group), f"arn:aws:autoscaling:*:{user.account}:autoScalingGroup:*"
    assert own.endswith(":autoScalingGroupName/workers")
    calls_of(group, user)
    attach(user, READ, LAUNCH)
    words = f"is not authorized to perform: autoscaling:StartInstanceRefresh on resource: {own}"
    with refused("AccessDenied", words, 403):
        group.start()
    start = "autoscaling:StartInstanceRefresh"
    attach(user, READ, LAUNCH, statement(start, f"{anywhere}:autoScalingGroupName/others"))
    with refused("AccessDenied", "autoscaling:StartInstanceRefresh"):
        group.start()
    attach(user, READ, LAUNCH, statement(start, f"{anywhere}:autoScalingGroupName/workers"))
    group.start()
    others = {"autoscaling:RollbackInstanceRefresh": group.rollback, "autoscaling:CancelInstanceRefresh": group.cancel}
    for action, call in others.items():
        with refused("AccessDenied", action, 403):
            call()
    attach(user, READ, statement(list(others), own))
    group.rollback()
    group.cancel()


@pytest.mark.parametrize("key", ["aws:ResourceTag", "autoscaling:ResourceTag"])
def test_permissions_depend_on_the_tags_of_the_group(group, user, key):  # noqa: F811
    owned = {"StringEquals": {f"{key}/kubernetes.io/cluster/demo": "owned"}}
    not_eks = {"Null": {f"{key}/eks:nodegroup-name": "true"}}
    allowed = statement("autoscaling:*InstanceRefresh", Condition={**owned, **not_eks})
    attach(user, READ, LAUNCH, allowed)
    calls_of(group, user).start()
    groups = user.admin.state()["auto_scaling_groups"]
    managed = next(g["name"] for g in groups if "eks:nodegroup-name" in g["tags"])
    with refused("AccessDenied", "autoscaling:StartInstanceRefresh"):
        group.calls.start_instance_refresh(AutoScalingGroupName=managed)
    with refused("AccessDenied", "autoScalingGroup:*:autoScalingGroupName/nope"):
        group.calls.start_instance_refresh(AutoScalingGroupName="nope")


def test_a_refresh_needs_the_permissions_of_its_launches(group, user):  # noqa: F811
    start = statement("autoscaling:StartInstanceRefresh")
    attach(user, READ, start)
    calls_of(group, user)
    with refused("AccessDenied", f"You are not authorized to use launch template: {group.template}", 403):
        group.start()
    group.bed.client("iam").create_role(RoleName="node", AssumeRolePolicyDocument="{}")
    group.bed.client("iam").create_instance_profile(InstanceProfileName="node")
    group.bed.client("iam").add_role_to_instance_profile(InstanceProfileName="node", RoleName="node")
    with_profile = group.version(group.new, IamInstanceProfile={"Name": "node"})
    attach(user, READ, start, LAUNCH)
    with refused("AccessDenied", "You are not authorized to use launch template"):
        group.start(with_profile)
    attach(user, READ, start, LAUNCH, statement("iam:PassRole", "arn:aws:iam::*:role/node"))
    group.start(with_profile)
    # a refresh without a desired configuration launches with the permissions of the group
    group.bed.client("autoscaling").cancel_instance_refresh(AutoScalingGroupName=group.name)
    group.bed.advance(5)
    attach(user, READ, start)
    group.start(None)


def test_updates_can_be_restricted_to_numbered_versions(group, user):  # noqa: F811
    numbered = {"Bool": {"autoscaling:LaunchTemplateVersionSpecified": "true"}}
    attach(user, READ, LAUNCH, statement("autoscaling:UpdateAutoScalingGroup", Condition=numbered))
    calls_of(group, user)
    with refused("AccessDenied", "autoscaling:UpdateAutoScalingGroup"):
        group.calls.update_auto_scaling_group(
            AutoScalingGroupName=group.name, LaunchTemplate=group.desired("$Latest")["LaunchTemplate"]
        )
    group.calls.update_auto_scaling_group(
        AutoScalingGroupName=group.name, LaunchTemplate=group.desired("2")["LaunchTemplate"]
    )


def test_further_operations_are_checked_for_their_group(group, user):  # noqa: F811
    attach(user, READ)
    calls_of(group, user)
    named = {"AutoScalingGroupName": group.name}
    instance = group.instances()[0]["InstanceId"]
    action = {"LifecycleHookName": "drain", "LifecycleActionResult": "CONTINUE", "InstanceId": instance}
    for operation, asked in {
        "set_desired_capacity": {**named, "DesiredCapacity": 2},
        "set_instance_protection": {**named, "InstanceIds": [instance], "ProtectedFromScaleIn": True},
        "complete_lifecycle_action": {**named, **action},
        "terminate_instance_in_auto_scaling_group": {
            "InstanceId": instance, "ShouldDecrementDesiredCapacity": True,
        },
        "create_or_update_tags": {
            "Tags": [{"ResourceId": group.name, "ResourceType": "auto-scaling-group", "Key": "a", "Value": "b"}]
        },
    }.items():  # fmt: skip
        with refused("AccessDenied", arn(group), 403):
            getattr(group.calls, operation)(**asked)


def test_updates_can_exclude_sizes_and_subnets(group, user):  # noqa: F811
    absent = {"Null": {f"autoscaling:{k}": "true" for k in ("MinSize", "MaxSize", "VPCZoneIdentifiers")}}
    attach(user, READ, LAUNCH, statement("autoscaling:UpdateAutoScalingGroup", Condition=absent))
    calls_of(group, user)
    version = {"AutoScalingGroupName": group.name, "LaunchTemplate": group.desired("2")["LaunchTemplate"]}
    for more in ({"MinSize": 0}, {"MaxSize": 9}, {"VPCZoneIdentifier": "subnet-a,subnet-b"}):
        with refused("AccessDenied", "autoscaling:UpdateAutoScalingGroup"):
            group.calls.update_auto_scaling_group(**version, **more)
    group.calls.update_auto_scaling_group(**version)


@pytest.mark.parametrize(
    ("key", "value"), [("MinSize", "1"), ("VPCZoneIdentifiers", "subnet-a"), ("ForceDelete", "true")]
)
def test_a_condition_that_the_bed_cannot_evaluate_is_refused(group, user, key, value):  # noqa: F811
    with pytest.raises(ControlError, match=f"autoscaling:{key}"):
        condition = {"StringEquals": {f"autoscaling:{key}": value}}
        attach(user, statement("autoscaling:UpdateAutoScalingGroup", Condition=condition))
