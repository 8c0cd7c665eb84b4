"""EC2 Auto Scaling: lifecycle hooks, protected and standby instances, mixed instances, root volumes."""

import pytest
from helpers import refused
from refreshing import REPLACEMENT, Group

HOUR = 3600
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"


def hook(group, transition=TERMINATING, **asked) -> dict:
    """Add a lifecycle hook, and return the parameters that name it."""
    named = {"AutoScalingGroupName": group.name, "LifecycleHookName": "drain"}
    group.calls.put_lifecycle_hook(**named, LifecycleTransition=transition, **asked)
    return named


def waiting(group) -> list[str]:
    return [i["InstanceId"] for i in group.instances() if i["LifecycleState"].endswith(":Wait")]


def test_a_terminating_hook_holds_an_instance_until_it_is_completed(bed):
    group = Group(bed, count=1)
    named = hook(group, HeartbeatTimeout=300, DefaultResult="CONTINUE")
    group.start()
    bed.advance(5 + REPLACEMENT)
    assert group.states() == ["InService", "Terminating:Wait"]
    assert "Terminating:Wait" in group.refresh()["StatusReason"]
    (held,) = waiting(group)
    reservations = bed.client("ec2").describe_instances(InstanceIds=[held])["Reservations"]
    assert reservations[0]["Instances"][0]["State"]["Name"] == "running"
    group.calls.complete_lifecycle_action(**named, InstanceId=held, LifecycleActionResult="CONTINUE")
    assert group.states() == ["InService", "Terminating:Proceed"]
    assert group.status == "InProgress"
    bed.advance(10)
    assert (group.status, group.states()) == ("Successful", ["InService"])
    with refused("ValidationError", f"No active Lifecycle Action found with instance ID {held}", 400):
        group.calls.complete_lifecycle_action(**named, InstanceId=held, LifecycleActionResult="CONTINUE")


def test_a_hook_times_out_and_a_heartbeat_extends_it(bed):
    group = Group(bed, count=1)
    named = hook(group, HeartbeatTimeout=300)
    group.start()
    bed.advance(5 + 299)
    (held,) = waiting(group)
    group.calls.record_lifecycle_action_heartbeat(**named, InstanceId=held)
    bed.advance(299)
    assert waiting(group) == [held]
    bed.advance(1 + 10)
    assert group.status == "Successful"
    with refused("ValidationError", "No active Lifecycle Action found with token dddd"):
        group.calls.record_lifecycle_action_heartbeat(**named, LifecycleActionToken="d" * 36)


def test_every_hook_of_a_transition_must_be_completed(bed):
    group = Group(bed, count=1, hooks=[{"name": "one"}, {"name": "two"}])
    group.start()
    bed.advance(5)
    (held,) = waiting(group)
    for name, left in (("one", [held]), ("two", [])):
        group.calls.complete_lifecycle_action(
            AutoScalingGroupName=group.name, LifecycleHookName=name, InstanceId=held,
            LifecycleActionResult="CONTINUE",
        )  # fmt: skip
        assert waiting(group) == left


def test_a_drainer_completes_its_hook(bed):
    group = Group(bed, count=2, drain_seconds=20)
    group.start()
    bed.advance(5 + 19)
    assert len(waiting(group)) == 1
    assert group.state()["instances"][0]["waits_for"] == ["drain"]
    bed.advance(1)
    assert waiting(group) == []
    assert group.settle() == "Successful"
    others = Group(bed, count=1, name="others", hooks=[{"name": "drain", "timeout": 9000}])
    others.start()
    bed.advance(5)
    assert len(waiting(others)) == 1
    others.change(complete="CONTINUE")
    assert waiting(others) == []


def test_a_launching_hook_holds_or_rejects_an_instance(bed):
    group = Group(bed, count=1)
    named = hook(group, LAUNCHING, HeartbeatTimeout=300)
    group.start()
    bed.advance(5 + 30)
    (held,) = waiting(group)
    assert group.states() == ["Pending:Wait"]
    group.calls.complete_lifecycle_action(**named, InstanceId=held, LifecycleActionResult="ABANDON")
    assert held not in [i["InstanceId"] for i in group.instances()]
    bed.advance(30)
    (held,) = waiting(group)
    group.calls.complete_lifecycle_action(**named, InstanceId=held, LifecycleActionResult="CONTINUE")
    assert group.states() == ["InService"]
    assert group.settle() == "Successful"


def test_hooks_are_shown(bed):
    group = Group(bed, count=0)
    topic = "arn:aws:sns:us-east-1:123456789012:nodes"
    hook(group, HeartbeatTimeout=3000, NotificationTargetARN=topic, NotificationMetadata="more")
    (shown,) = group.calls.describe_lifecycle_hooks(AutoScalingGroupName=group.name)["LifecycleHooks"]
    assert shown == {
        "LifecycleHookName": "drain",
        "AutoScalingGroupName": group.name,
        "LifecycleTransition": TERMINATING,
        "HeartbeatTimeout": 3000,
        "GlobalTimeout": 172_800,
        "DefaultResult": "ABANDON",
        "NotificationTargetARN": topic,
        "NotificationMetadata": "more",
    }
    with refused("ValidationError", "LifecycleTransition"):
        group.calls.put_lifecycle_hook(AutoScalingGroupName=group.name, LifecycleHookName="x")
    group.calls.delete_lifecycle_hook(AutoScalingGroupName=group.name, LifecycleHookName="drain")
    assert group.calls.describe_lifecycle_hooks(AutoScalingGroupName=group.name)["LifecycleHooks"] == []


def protect(group, instance_id: str, protected: bool = True) -> None:
    group.calls.set_instance_protection(
        AutoScalingGroupName=group.name, InstanceIds=[instance_id], ProtectedFromScaleIn=protected
    )


def test_a_refresh_waits_for_protected_instances(bed):
    group = Group(bed, count=2)
    first = group.instances()[0]["InstanceId"]
    protect(group, first)
    group.start()
    bed.advance(5 + REPLACEMENT)
    words = f"For example: {first} is protected. Remove instance scale-in protection to continue."
    assert words in group.refresh()["StatusReason"]
    bed.advance(1000)
    assert group.versions() == "12"
    protect(group, first, False)
    assert group.settle() == "Successful"


def test_protected_instances_fail_a_refresh_after_an_hour(bed):
    group = Group(bed, count=2, protected=True)
    group.start()
    bed.advance(5 + HOUR - 1)
    assert group.status == "InProgress"
    bed.advance(1)
    assert group.status == "Failed"
    assert "is protected" in group.refresh()["StatusReason"]


@pytest.mark.parametrize(("choice", "versions"), [("Refresh", "22"), ("Ignore", "12")])
def test_protected_instances_are_replaced_or_ignored(bed, choice, versions):
    group = Group(bed, count=2)
    protect(group, group.instances()[0]["InstanceId"])
    group.start(ScaleInProtectedInstances=choice)
    assert group.settle() == "Successful"
    assert (group.versions(), group.refresh()["PercentageComplete"]) == (versions, 100)


def test_new_instances_of_a_protecting_group_are_protected(bed):
    group = Group(bed, count=1, protected=True)
    group.start(ScaleInProtectedInstances="Refresh")
    assert group.settle() == "Successful"
    assert [i["ProtectedFromScaleIn"] for i in group.instances()] == [True]


def test_a_refresh_waits_for_instances_in_standby(bed):
    group = Group(bed, count=3)
    group.change(standby=1)
    assert group.states() == ["InService", "InService", "Standby"]
    group.start()
    bed.advance(5 + 2 * REPLACEMENT)
    assert "Standby" in group.refresh()["StatusReason"]
    (away,) = [i["InstanceId"] for i in group.instances() if i["LifecycleState"] == "Standby"]
    group.calls.exit_standby(AutoScalingGroupName=group.name, InstanceIds=[away])
    assert group.settle() == "Successful"
    assert group.versions() == "222"


@pytest.mark.parametrize(
    ("choice", "status", "versions"),
    [("Wait", "Failed", "122"), ("Ignore", "Successful", "122"), ("Terminate", "Successful", "22")],
)
def test_instances_in_standby_are_waited_for_ignored_or_terminated(bed, choice, status, versions):
    group = Group(bed, count=3)
    group.change(standby=1)
    group.start(StandbyInstances=choice)
    assert group.settle(2 * HOUR, 30) == status
    assert group.versions() == versions


def policy(group, version: str, *overrides: dict) -> dict:
    spec = {"LaunchTemplateId": group.template, "Version": version}
    distribution = {"OnDemandBaseCapacity": 1, "SpotAllocationStrategy": "price-capacity-optimized"}
    template = {"LaunchTemplateSpecification": spec, "Overrides": list(overrides)}
    return {"LaunchTemplate": template, "InstancesDistribution": distribution}


def test_a_mixed_instances_policy_is_kept_whole(bed):
    group = Group(bed, count=2, mixed=["m6i.large", "m5.large"])
    shown = group.describe()
    assert "LaunchTemplate" not in shown
    kept = shown["MixedInstancesPolicy"]
    assert [o["InstanceType"] for o in kept["LaunchTemplate"]["Overrides"]] == ["m6i.large", "m5.large"]
    assert sorted(i["InstanceType"] for i in group.instances()) == ["m5.large", "m6i.large"]
    spec = kept["LaunchTemplate"]["LaunchTemplateSpecification"]
    assert (spec["LaunchTemplateName"], spec["Version"]) == ("demo-workers", "1")
    spec["Version"] = "2"
    # AWS shows both names, but takes only one
    with refused("ValidationError", "either launchTemplateId or LaunchTemplateName"):
        group.start_with(DesiredConfiguration={"MixedInstancesPolicy": kept})
    del spec["LaunchTemplateName"]
    group.start_with(DesiredConfiguration={"MixedInstancesPolicy": kept})
    assert group.settle() == "Successful"
    found = group.describe()["MixedInstancesPolicy"]
    spec["LaunchTemplateName"] = "demo-workers"
    assert found == kept
    assert group.versions() == "22"
    assert sorted(i["InstanceType"] for i in group.instances()) == ["m5.large", "m6i.large"]


def test_a_plain_template_replaces_the_policy(bed):
    group = Group(bed, count=2, mixed=["m6i.large", "m5.large"])
    group.start()
    assert group.settle() == "Successful"
    assert "MixedInstancesPolicy" not in group.describe()
    assert {i["InstanceType"] for i in group.instances()} == {"m6i.large"}


def test_an_update_of_the_sizes_keeps_the_policy(bed):
    group = Group(bed, count=1, mixed=["m6i.large"])
    group.calls.update_auto_scaling_group(AutoScalingGroupName=group.name, MinSize=1, MaxSize=4)
    kept = group.describe()["MixedInstancesPolicy"]["LaunchTemplate"]
    assert kept["Overrides"] == [{"InstanceType": "m6i.large"}]


def test_overrides_have_templates_of_their_own(bed):
    group = Group(bed, count=2)
    arm = bed.control("POST", "image", name="arm", arch="arm64")["id"]
    made = bed.client("ec2").create_launch_template(
        LaunchTemplateName="arm", LaunchTemplateData={"ImageId": arm, "InstanceType": "m6g.large"}
    )["LaunchTemplate"]["LaunchTemplateId"]
    spec = {"LaunchTemplateId": made, "Version": "1"}
    own = {"InstanceType": "m6g.large", "LaunchTemplateSpecification": spec}
    wanted = policy(group, "2", {"InstanceType": "m6i.large"}, own)
    group.start_with(DesiredConfiguration={"MixedInstancesPolicy": wanted})
    assert group.settle() == "Successful"
    assert group.images() == {group.new, arm}
    del own["LaunchTemplateSpecification"]
    with refused("ValidationError", "The architecture 'arm64'"):
        group.start_with(DesiredConfiguration={"MixedInstancesPolicy": policy(group, "2", own)})


def test_skip_matching_compares_the_instance_types(bed):
    group = Group(bed, count=2, mixed=["m6i.large", "m5.large"])
    wanted = policy(group, "1", {"InstanceType": "m6i.large"})
    group.start_with(
        DesiredConfiguration={"MixedInstancesPolicy": wanted}, Preferences={"SkipMatching": True}
    )
    assert group.refresh()["InstancesToUpdate"] == 1
    assert group.settle() == "Successful"
    assert {i["InstanceType"] for i in group.instances()} == {"m6i.large"}


def test_an_override_of_the_image_is_shown(bed):
    group = Group(bed, count=1)
    wanted = policy(group, "1", {"InstanceType": "m6i.large", "ImageId": group.new})
    group.start_with(DesiredConfiguration={"MixedInstancesPolicy": wanted})
    assert group.settle() == "Successful"
    assert group.images() == {group.new}
    (instance,) = group.instances()
    assert (instance["ImageId"], instance["LaunchTemplate"]["Version"]) == (group.new, "1")


def test_root_volumes_are_replaced_in_place(bed):
    group = Group(bed, count=2, mixed=["m6i.large"])
    before = [i["InstanceId"] for i in group.instances()]
    wanted = policy(group, "1", {"InstanceType": "m6i.large", "ImageId": group.new})
    group.start_with(DesiredConfiguration={"MixedInstancesPolicy": wanted}, Strategy="ReplaceRootVolume")
    bed.advance(5)
    assert group.states() == ["InService", "ReplacingRootVolume:Proceed"]
    assert group.settle() == "Successful"
    assert [i["InstanceId"] for i in group.instances()] == before
    assert (group.images(), group.refresh()["Strategy"]) == ({group.new}, "ReplaceRootVolume")
    assert {i["ImageId"] for i in group.instances()} == {group.new}


def test_the_replacement_of_root_volumes_has_requirements(bed):
    group = Group(bed, count=1, mixed=["m6i.large"])
    plain = Group(bed, count=1, name="plain")

    def start(of: Group, *overrides: dict, version: str = "1") -> None:
        wanted = {"MixedInstancesPolicy": policy(of, version, *overrides)}
        of.start_with(DesiredConfiguration=wanted, Strategy="ReplaceRootVolume")

    new = {"InstanceType": "m6i.large", "ImageId": group.new}
    with refused("ValidationError", "requires a mixed instances policy in the group"):
        start(plain, new)
    with refused("ValidationError", "ImageId in every override"):
        start(group, new, {"InstanceType": "m5.large"})
    with refused("ValidationError", "$Latest and $Default"):
        start(group, new, version="$Latest")
    with refused("ValidationError", "types of all instances"):
        start(group, {**new, "InstanceType": "m5.large"})
    with refused("ValidationError", "desired configuration"):
        group.start_with(Strategy="ReplaceRootVolume")
    with refused("ValidationError", "Member must satisfy enum value set: [Rolling, ReplaceRootVolume]"):
        group.start_with(Strategy="Sideways")
    group.calls.put_warm_pool(AutoScalingGroupName=group.name)
    with refused("ValidationError", "warm pool"):
        start(group, new)


def test_a_group_with_a_warm_pool_shows_the_progress_per_pool(bed):
    group = Group(bed, count=2)
    group.calls.put_warm_pool(AutoScalingGroupName=group.name)
    group.start()
    bed.advance(5 + REPLACEMENT)
    assert group.refresh()["ProgressDetails"] == {
        "LivePoolProgress": {"PercentageComplete": 50, "InstancesToUpdate": 0},
        "WarmPoolProgress": {"PercentageComplete": 100, "InstancesToUpdate": 0},
    }


def test_instances_are_shown_with_the_version_that_they_were_launched_from(bed):
    group = Group(bed, count=1, version="$Latest")
    group.calls.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=2)
    ids = [i["InstanceId"] for i in group.instances()]
    shown = group.calls.describe_auto_scaling_instances(InstanceIds=ids)["AutoScalingInstances"]
    assert [(i["AutoScalingGroupName"], i["LaunchTemplate"]["Version"]) for i in shown] == [
        (group.name, "1"),
        (group.name, "2"),
    ]
    assert group.images() == {group.old, group.new}
