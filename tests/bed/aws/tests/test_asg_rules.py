"""EC2 Auto Scaling: what is refused, and with which errors."""

import pytest
from helpers import refused
from refreshing import Group

FULLY_FORMED = "You must use a valid fully-formed launch template. "


def test_one_refresh_runs_at_a_time(bed):
    group = Group(bed)
    group.start()
    words = "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh."
    with refused("InstanceRefreshInProgress", words, 400):
        group.start()
    bed.advance(5)
    with refused("InstanceRefreshInProgress", words, 400):
        group.start(None)
    group.settle()
    group.start()


def test_a_group_that_is_not_there(bed):
    text = "AutoScalingGroup name not found - AutoScalingGroup nope not found"
    for operation in (
        "start_instance_refresh",
        "describe_instance_refreshes",
        "cancel_instance_refresh",
        "rollback_instance_refresh",
        "describe_lifecycle_hooks",
        "update_auto_scaling_group",
    ):
        with refused("ValidationError", text, 400):
            getattr(bed.client("autoscaling"), operation)(AutoScalingGroupName="nope")


def test_preferences_are_checked(bed):
    group = Group(bed, count=0)
    for preferences, text in (
        (
            {"ScaleInProtectedInstances": "Replace"},
            "1 validation error detected: Value 'Replace' at 'preferences.scaleInProtectedInstances' failed to "
            "satisfy constraint: Member must satisfy enum value set: [Ignore, Wait, Refresh]",
        ),
        ({"ScaleInProtectedInstances": "", "StandbyInstances": ""}, "2 validation errors detected: "),
        (
            {"MinHealthyPercentage": 101},
            "Value '101' at 'preferences.minHealthyPercentage' failed to satisfy constraint: Member must have "
            "value less than or equal to 100",
        ),
        ({"MinHealthyPercentage": 90, "MaxHealthyPercentage": 201}, "less than or equal to 200"),
        ({"BakeTime": 172_801}, "less than or equal to 172800"),
        ({"MaxHealthyPercentage": 120}, "MinHealthyPercentage must be specified"),
        ({"MinHealthyPercentage": 50, "MaxHealthyPercentage": 151}, "cannot be greater than 100"),
        ({"CheckpointDelay": 60}, "CheckpointPercentages must be specified"),
        ({"CheckpointPercentages": [50, 20]}, "ascending order"),
        ({"CheckpointPercentages": [50, 50]}, "unique numbers"),
        ({"CheckpointPercentages": [50, 101]}, "from 1 to 100"),
        ({"AlarmSpecification": {"Alarms": ["nope"]}}, "alarm nope does not exist"),
        ({"AlarmSpecification": {"Alarms": [str(n) for n in range(11)]}}, "At most 10"),
    ):
        with refused("ValidationError", text, 400):
            group.start(**preferences)
    assert group.refreshes() == []


def test_the_configuration_is_checked(bed):
    group = Group(bed, count=0)
    named = {"LaunchTemplateId": group.template, "LaunchTemplateName": "demo-workers"}
    with refused("ValidationError", "Valid requests must contain either launchTemplateId or LaunchTemplateName"):
        group.start_with(DesiredConfiguration={"LaunchTemplate": named})
    with refused("ValidationError", FULLY_FORMED + "Could not find the specified version 9"):
        group.start("9")
    with refused("ValidationError", FULLY_FORMED):
        group.start_with(DesiredConfiguration={"LaunchTemplate": {"LaunchTemplateName": "nope"}})
    with refused("ValidationError", FULLY_FORMED + "The image id '[ami-12345678]' does not exist"):
        group.start(group.version("ami-12345678"))
    with refused("ValidationError", FULLY_FORMED + "The architecture 'arm64'"):
        group.start(group.version(group.old, InstanceType="m6g.large"))
    with refused("ValidationError", FULLY_FORMED + "The key pair 'missing' does not exist"):
        group.start(group.version(group.old, KeyName="missing"))
    policy = {"LaunchTemplate": {"LaunchTemplateSpecification": {"LaunchTemplateId": group.template}}}
    with refused("ValidationError", "either LaunchTemplate or MixedInstancesPolicy"):
        group.start_with(DesiredConfiguration={**group.desired(), "MixedInstancesPolicy": policy})
    assert group.refreshes() == []


def test_a_version_that_auto_scaling_does_not_see_yet(bed):
    group = Group(bed, count=1)
    bed.control("POST", "settings", stale_versions_seconds=60)
    version = group.version(group.new)
    with refused("ValidationError", f"{FULLY_FORMED}Could not find the specified version {version}"):
        group.start(version)
    bed.advance(61)
    group.start(version)
    assert group.settle() == "Successful"


@pytest.mark.parametrize("version", ["$Latest", "$Default", None])
def test_groups_on_open_versions_cannot_be_rolled_back(bed, version):
    group = Group(bed, count=1, version=version)
    shown = group.describe()["LaunchTemplate"].get("Version")
    assert shown == version
    with refused("ValidationError", "AutoRollback parameter cannot be set to true", 400):
        group.start(AutoRollback=True)
    group.start()
    bed.advance(5)
    with refused("IrreversibleInstanceRefresh", "$Latest or $Default", 400):
        group.rollback()
    assert group.settle() == "Successful"
    assert group.describe()["LaunchTemplate"]["Version"] == "2"
    group.start("1", AutoRollback=True)


def test_a_refresh_without_a_desired_configuration_cannot_be_rolled_back(bed):
    group = Group(bed, count=1)
    words = "The AutoRollback parameter cannot be set to true when the DesiredConfiguration parameter is empty."
    with refused("ValidationError", words, 400):
        group.start(None, AutoRollback=True)
    group.start(None)
    bed.advance(5)
    with refused("IrreversibleInstanceRefresh", "no desired configuration", 400):
        group.rollback()


def test_an_image_by_parameter_allows_neither_comparison_nor_rollback(bed):
    group = Group(bed, count=1)
    path = "/aws/service/eks/optimized-ami/1.31/amazon-linux-2023/x86_64/standard/recommended/image_id"
    by_parameter = group.version(f"resolve:ssm:{path}")
    with refused("ValidationError", "Systems Manager parameter"):
        group.start(by_parameter)
    group.change(version=by_parameter)
    with refused("ValidationError", "Systems Manager parameter"):
        group.start(None, SkipMatching=True)
    group.start(None)
    assert group.settle() == "Successful"
    assert group.images() == {bed.seed()["base_images"]["v20260801"]}
    group.start("2")
    bed.advance(5)
    with refused("IrreversibleInstanceRefresh", "Systems Manager parameter"):
        group.rollback()


def test_groups_with_instance_requirements_cannot_be_compared(bed):
    group = Group(bed, count=1)
    requirements = {"VCpuCount": {"Min": 2}, "MemoryMiB": {"Min": 4096}}
    spec = {"LaunchTemplateId": group.template, "Version": "1"}
    template = {"LaunchTemplateSpecification": spec, "Overrides": [{"InstanceRequirements": requirements}]}
    group.calls.update_auto_scaling_group(
        AutoScalingGroupName=group.name, MixedInstancesPolicy={"LaunchTemplate": template}
    )
    for asked in ({"version": "2"}, {"version": None, "SkipMatching": True}):
        with refused("ValidationError", "InstanceRequirements"):
            group.start(**asked)
    group.start(None)
    assert group.settle() == "Successful"


def test_groups_with_a_launch_configuration_are_compared_with_nothing(bed):
    group = Group(bed, count=0)
    group.calls.create_launch_configuration(
        LaunchConfigurationName="plain", ImageId=group.old, InstanceType="m6i.large"
    )
    group.calls.create_auto_scaling_group(
        AutoScalingGroupName="plain", LaunchConfigurationName="plain", MinSize=0, MaxSize=1,
        AvailabilityZones=["us-east-1a"],
    )  # fmt: skip
    with refused("ValidationError", "launch configuration"):
        group.calls.start_instance_refresh(
            AutoScalingGroupName="plain", DesiredConfiguration=group.desired()
        )
    with refused("UnsupportedOperation", "launch configuration"):
        group.calls.start_instance_refresh(AutoScalingGroupName="plain")
    found = group.calls.describe_auto_scaling_groups(AutoScalingGroupNames=["plain"])["AutoScalingGroups"][0]
    assert (found["LaunchConfigurationName"], "LaunchTemplate" in found) == ("plain", False)


def test_without_an_active_refresh_there_is_nothing_to_cancel_or_roll_back(bed):
    group = Group(bed, count=1)
    words = "No in progress or pending Instance Refresh found for Auto Scaling group workers"
    for call in (group.cancel, group.rollback):
        with refused("ActiveInstanceRefreshNotFound", words, 400):
            call()
    group.start()
    group.settle()
    for call in (group.cancel, group.rollback):
        with refused("ActiveInstanceRefreshNotFound", words, 400):
            call()


def test_the_configuration_of_a_group_is_locked_during_a_refresh_with_a_desired_one(bed):
    group = Group(bed)
    update = {"AutoScalingGroupName": group.name, "LaunchTemplate": group.desired("1")["LaunchTemplate"]}
    group.start()
    words = "An active instance refresh with a desired configuration exists. All configuration options derived"
    with refused("ValidationError", words, 400):
        group.calls.update_auto_scaling_group(**update)
    group.calls.update_auto_scaling_group(AutoScalingGroupName=group.name, MaxSize=9)
    assert group.describe()["MaxSize"] == 9
    group.settle()
    group.calls.update_auto_scaling_group(**update)
    assert group.describe()["LaunchTemplate"]["Version"] == "1"
    group.start(None)
    group.calls.update_auto_scaling_group(
        AutoScalingGroupName=group.name, LaunchTemplate=group.desired("2")["LaunchTemplate"]
    )
    group.settle()
    assert group.versions() == "22"


def test_pages_and_tokens_are_checked(bed):
    group = Group(bed, count=0)
    describe = {"AutoScalingGroupName": group.name}
    with refused("ValidationError", "MaxRecords"):
        group.refreshes(MaxRecords=101)
    with refused("InvalidNextToken", status=400):
        group.refreshes(NextToken="x")
    for operation, asked in {
        "describe_auto_scaling_groups": {},
        "describe_auto_scaling_instances": {},
        "describe_scaling_activities": describe,
    }.items():
        with refused("InvalidNextToken", status=400):
            getattr(group.calls, operation)(NextToken="x", **asked)


def test_groups_come_in_pages_and_by_their_tags(bed):
    group = Group(bed, count=1, autoscaler=True)
    Group(bed, count=1, name="others", owned=False, autoscaler=True, tags={"team": "ml"})

    def names(**asked) -> list[str]:
        found = group.calls.describe_auto_scaling_groups(**asked)["AutoScalingGroups"]
        found = [g["AutoScalingGroupName"] for g in found]
        return sorted(name for name in found if not name.startswith("eks-"))

    def tag(name: str, *values: str) -> dict:
        return {"Filters": [{"Name": name, "Values": list(values)}]}

    assert names() == ["others", "self-managed", "workers"]
    assert names(**tag("tag:kubernetes.io/cluster/demo", "owned")) == ["self-managed", "workers"]
    assert names(**tag("tag-key", "k8s.io/cluster-autoscaler/demo")) == ["others", "workers"]
    assert names(**tag("tag-value", "ml")) == ["others"]
    with refused("UnsupportedOperation"):
        names(**tag("nonsense", "x"))
    without = group.calls.describe_auto_scaling_groups(IncludeInstances=False)["AutoScalingGroups"]
    assert not any(g["Instances"] for g in without)
    pages = group.calls.get_paginator("describe_auto_scaling_groups").paginate(PaginationConfig={"PageSize": 3})
    assert [len(p["AutoScalingGroups"]) for p in pages] == [3, 3, 1]
    many = {"AutoScalingGroupNames": [f"g{n}" for n in range(51)]}
    with refused("ValidationError", "At most 50"):
        names(**many)
    assert names(**many, MaxRecords=51) == []
    bed.control("POST", "settings", short_pages=True)
    pages = group.calls.get_paginator("describe_auto_scaling_groups").paginate(
        **tag("tag-value", "ml"), PaginationConfig={"PageSize": 3}
    )
    assert [len(p["AutoScalingGroups"]) for p in pages] == [0, 0, 1]


def test_groups_of_eks_have_its_tags_and_can_be_refreshed(bed):
    group = Group(bed, count=0)
    groups = bed.state()["auto_scaling_groups"]
    owned = next(g for g in groups if g["tags"].get("eks:nodegroup-name") == "batch")
    assert owned["tags"] == {
        "eks:cluster-name": "demo",
        "eks:nodegroup-name": "batch",
        "kubernetes.io/cluster/demo": "owned",
        "k8s.io/cluster-autoscaler/enabled": "true",
        "k8s.io/cluster-autoscaler/demo": "owned",
    }
    group.calls.start_instance_refresh(AutoScalingGroupName=owned["name"])


def test_a_new_group_must_be_able_to_launch(bed):
    group = Group(bed, count=0)
    asked = {"AutoScalingGroupName": "more", "MinSize": 1, "MaxSize": 1, "AvailabilityZones": ["us-east-1a"]}
    with refused("ValidationError", FULLY_FORMED + "The image id '[ami-12345678]' does not exist"):
        group.calls.create_auto_scaling_group(
            **asked, LaunchTemplate=group.desired(group.version("ami-12345678"))["LaunchTemplate"]
        )
    assert "more" not in [g["name"] for g in bed.state()["auto_scaling_groups"]]
    group.calls.create_auto_scaling_group(
        **asked, LaunchTemplate=group.desired()["LaunchTemplate"], DefaultInstanceWarmup=7,
        InstanceMaintenancePolicy={"MinHealthyPercentage": 80, "MaxHealthyPercentage": 110},
    )  # fmt: skip
    with refused("AlreadyExists"):
        group.calls.create_auto_scaling_group(**asked, LaunchTemplate=group.desired()["LaunchTemplate"])
    group.calls.start_instance_refresh(AutoScalingGroupName="more")
    (refresh,) = group.calls.describe_instance_refreshes(AutoScalingGroupName="more")["InstanceRefreshes"]
    assert refresh["Preferences"] | {
        "MinHealthyPercentage": 80, "MaxHealthyPercentage": 110, "InstanceWarmup": 7
    } == refresh["Preferences"]  # fmt: skip
