"""EC2 Auto Scaling: refreshes that fail, hang, are canceled or rolled back, and other writers."""

import pytest
from awsclient import ControlError
from botocore.exceptions import ConnectionClosedError
from helpers import refused
from refreshing import REPLACEMENT, Group, progress

HOUR = 3600


def break_image(group) -> None:
    """Make nodes of the new image useless: they never become healthy."""
    group.bed.control("POST", "image", id=group.new, healthy=False)


@pytest.mark.parametrize("by_fault", [False, True])
def test_instances_that_never_become_healthy_fail_the_refresh_after_an_hour(bed, by_fault):
    group = Group(bed, count=2)
    if by_fault:
        bed.fault("instances-unhealthy", count=1)
    else:
        break_image(group)
    group.start()
    bed.advance(5 + 30)
    (sick,) = [i for i in group.instances() if i["HealthStatus"] == "Unhealthy"]
    assert f"{sick['InstanceId']} has insufficient data" in group.refresh()["StatusReason"]
    bed.advance(60)
    assert sick["InstanceId"] not in [i["InstanceId"] for i in group.instances()]
    assert group.versions() == "12"
    bed.advance(HOUR - 95)
    assert group.status == "InProgress"
    bed.advance(10)
    refresh = group.refresh()
    assert progress(refresh) == ("Failed", 0, 1)
    assert "insufficient data" in refresh["StatusReason"]
    # the group goes on with the configuration that it had
    assert (group.versions(), group.states()) == ("11", ["InService", "InService"])
    assert group.describe()["LaunchTemplate"]["Version"] == "1"


def test_an_image_that_is_repaired_in_time_saves_the_refresh(bed):
    group = Group(bed, count=1)
    break_image(group)
    group.start()
    bed.advance(HOUR / 2)
    bed.control("POST", "image", id=group.new, healthy=True)
    assert group.settle() == "Successful"


def test_one_instance_that_does_not_become_healthy_is_replaced(bed):
    group = Group(bed, count=2)
    bed.fault("instances-unhealthy", instances=1, count=1)
    group.start()
    assert group.settle() == "Successful"
    found = group.calls.describe_scaling_activities(AutoScalingGroupName=group.name)["Activities"]
    assert len([a for a in found if "health check" in a["Cause"]]) == 1
    assert (group.versions(), {i["HealthStatus"] for i in group.instances()}) == ("22", {"Healthy"})


def test_an_image_that_disappears_is_retried_for_an_hour(bed):
    group = Group(bed, count=2)
    group.start()
    bed.control("DELETE", "image", id=group.new)
    bed.advance(5)
    assert f"The image id '[{group.new}]' does not exist" in group.refresh()["StatusReason"]
    assert group.settle(2 * HOUR, 60) == "Failed"
    found = group.calls.describe_scaling_activities(AutoScalingGroupName=group.name)["Activities"]
    failed = [a for a in found if a["StatusCode"] == "Failed"]
    # once a minute; a page has 50 activities
    assert len(failed) > 40
    assert group.new in failed[0]["StatusMessage"]
    assert group.versions() == "11"


def test_a_version_that_disappears_fails_the_refresh(bed):
    group = Group(bed, count=1)
    group.start()
    bed.client("ec2").delete_launch_template_versions(LaunchTemplateId=group.template, Versions=["2"])
    bed.advance(5)
    assert "Could not find the specified version 2" in group.refresh()["StatusReason"]
    assert group.settle(2 * HOUR, 60) == "Failed"
    # nor does a group launch whose own version is gone
    ec2 = bed.client("ec2")
    group.version(group.new)
    ec2.modify_launch_template(LaunchTemplateId=group.template, DefaultVersion="3")
    ec2.delete_launch_template_versions(LaunchTemplateId=group.template, Versions=["1"])
    group.change(desired=2)
    group.start("3", SkipMatching=True)
    ec2.modify_launch_template(LaunchTemplateId=group.template, DefaultVersion=group.version(group.new, base="3"))
    ec2.delete_launch_template_versions(LaunchTemplateId=group.template, Versions=["3"])
    bed.advance(5)
    assert "Could not find the specified version 3" in group.refresh()["StatusReason"]
    group.cancel()
    assert (group.settle(), group.versions()) == ("Cancelled", "1")


def test_a_fault_fails_a_refresh_with_its_reason(bed):
    group = Group(bed, count=3)
    bed.fault("refresh-fails", instances=1, reason="EC2 said no.", count=1)
    group.start()
    assert group.settle() == "Failed"
    assert group.refresh()["StatusReason"] == "EC2 said no."
    assert group.refresh()["PercentageComplete"] == 33
    assert group.versions() == "112"
    bed.fault("refresh-fails", seconds=50, count=1)
    group.start()
    bed.advance(5 + 49)
    assert group.status == "InProgress"
    bed.advance(1)
    assert group.status == "Failed"
    group.start()
    assert group.settle() == "Successful"


def test_a_refresh_hangs_until_it_is_canceled(bed):
    group = Group(bed, count=3)
    bed.fault("refresh-hangs", instances=1, count=1)
    group.start()
    bed.advance(10 * HOUR)
    assert (group.status, group.versions()) == ("InProgress", "112")
    group.cancel()
    assert group.settle() == "Cancelled"
    bed.fault("refresh-hangs", seconds=2 * HOUR, reason="Waiting for AWS.", count=1)
    group.start()
    bed.advance(HOUR)
    assert (group.refresh()["StatusReason"], group.versions()) == ("Waiting for AWS.", "112")
    assert group.settle(3 * HOUR, 60) == "Successful"


def test_nothing_lasts_longer_than_fourteen_days(bed):
    group = Group(bed, count=1)
    bed.fault("refresh-hangs", count=1)
    group.start()
    bed.advance(14 * 24 * HOUR)
    assert group.status == "InProgress"
    bed.advance(5)
    assert group.status == "Failed"


def test_cancel_waits_for_instances_in_transition_and_undoes_nothing(bed):
    group = Group(bed, count=3)
    started = group.start()
    bed.advance(5 + REPLACEMENT)
    assert group.cancel() == started
    assert group.status == "Cancelling"
    assert group.cancel() == started
    with refused("InstanceRefreshInProgress"):
        group.start()
    assert group.settle() == "Cancelled"
    refresh = group.refresh()
    assert refresh["StatusReason"] == "Cancelled due to user request."
    assert (refresh["InstancesToUpdate"], bool(refresh["EndTime"])) == (1, True)
    assert group.versions() == "122"
    assert group.describe()["LaunchTemplate"]["Version"] == "1"


def test_cancel_need_not_wait(bed):
    group = Group(bed, count=2)
    group.start()
    group.cancel()
    assert group.status == "Cancelling"
    bed.advance(5)
    assert (group.status, group.versions()) == ("Cancelled", "11")
    group.start()
    bed.advance(5)
    group.cancel(WaitForTransitioningInstances=False)
    bed.advance(5)
    assert (group.status, group.versions()) == ("Cancelled", "12")
    assert "Pending" in group.states()


def test_a_cancel_takes_its_time(bed):
    group = Group(bed, count=1)
    bed.fault("cancel-slow", seconds=500, count=1)
    group.start()
    group.cancel()
    bed.advance(499)
    assert group.status == "Cancelling"
    bed.advance(1)
    assert group.status == "Cancelled"


def test_a_rollback_replaces_what_was_replaced(bed):
    group = Group(bed, count=4)
    before = {i["InstanceId"] for i in group.instances()}
    started = group.start(MinHealthyPercentage=50)
    bed.advance(5 + REPLACEMENT)
    assert group.refresh()["PercentageComplete"] == 50
    assert group.versions() == "2222"
    assert group.rollback() == started
    refresh = group.refresh()
    assert refresh["Status"] == "RollbackInProgress"
    details = refresh["RollbackDetails"]
    assert (details["PercentageCompleteOnRollback"], details["InstancesToUpdateOnRollback"]) == (50, 0)
    assert details["RollbackReason"]
    assert details["RollbackStartTime"] > refresh["StartTime"]
    with refused("ActiveInstanceRefreshNotFound"):
        group.rollback()
    seen = []
    while group.status == "RollbackInProgress":
        seen.append(group.refresh()["PercentageComplete"])
        bed.advance(30)
    assert seen == sorted(seen, reverse=True)
    assert (seen[0], seen[-1]) == (50, 0)
    refresh = group.refresh()
    assert (refresh["Status"], refresh["PercentageComplete"]) == ("RollbackSuccessful", 0)
    assert group.versions() == "1111"
    assert group.describe()["LaunchTemplate"]["Version"] == "1"
    assert not before & {i["InstanceId"] for i in group.instances()}


def test_a_rollback_leaves_what_was_not_replaced_and_ends_a_bake_time(bed):
    group = Group(bed, count=2)
    before = {i["InstanceId"] for i in group.instances()}
    group.start()
    bed.advance(5 + REPLACEMENT / 2)
    group.rollback()
    assert group.settle() == "RollbackSuccessful"
    assert len(before & {i["InstanceId"] for i in group.instances()}) == 1
    group.start(BakeTime=HOUR)
    bed.advance(5 + 2 * REPLACEMENT)
    assert group.status == "Baking"
    group.rollback()
    assert group.settle() == "RollbackSuccessful"
    assert group.versions() == "11"


def test_an_automatic_rollback_follows_the_failure(bed):
    group = Group(bed, count=2)
    break_image(group)
    group.start(AutoRollback=True)
    bed.advance(5 + HOUR + 1)
    refresh = group.refresh()
    assert refresh["Status"] == "RollbackInProgress"
    assert "insufficient data" in refresh["RollbackDetails"]["RollbackReason"]
    assert group.settle() == "RollbackSuccessful"
    assert (group.versions(), group.images()) == ("11", {group.old})


@pytest.mark.parametrize("automatic", [False, True])
def test_a_rollback_fails(bed, automatic):
    group = Group(bed, count=2)
    bed.fault("rollback-fails", count=1, seconds=70, reason="No capacity.")
    bed.fault("refresh-fails", instances=1)
    group.start(AutoRollback=automatic)
    if automatic:
        bed.advance(5 + REPLACEMENT)
    else:
        bed.advance(60)
        group.rollback()
    assert group.status == "RollbackInProgress"
    bed.advance(69)
    assert group.status == "RollbackInProgress"
    bed.advance(1)
    assert (group.status, group.refresh()["StatusReason"]) == ("RollbackFailed", "No capacity.")


def test_a_rollback_to_an_image_that_is_gone_fails_after_an_hour(bed):
    group = Group(bed, count=2)
    group.start()
    bed.advance(5 + REPLACEMENT)
    bed.control("DELETE", "image", id=group.old)
    group.rollback()
    assert group.settle(2 * HOUR, 60) == "RollbackFailed"
    assert group.old in group.refresh()["StatusReason"]


def test_a_rollback_can_be_canceled(bed):
    group = Group(bed, count=2)
    group.start()
    bed.advance(5 + REPLACEMENT)
    group.rollback()
    bed.advance(REPLACEMENT)
    group.cancel()
    assert group.settle() == "Cancelled"
    refresh = group.refresh()
    assert (refresh["PercentageComplete"], bool(refresh["RollbackDetails"])) == (50, True)
    assert group.versions() == "12"


def test_alarms_must_be_ok_and_fail_a_refresh(bed):
    group = Group(bed, count=2)
    watched = {"AlarmSpecification": {"Alarms": ["errors"]}}
    bed.control("POST", "alarm", name="errors", state="INSUFFICIENT_DATA")
    with refused("ValidationError", "INSUFFICIENT_DATA"):
        group.start(**watched)
    bed.control("POST", "alarm", name="errors", state="OK")
    group.start(**watched)
    bed.advance(5)
    bed.control("POST", "alarm", name="errors", state="ALARM")
    assert group.status == "Failed"
    assert "errors" in group.refresh()["StatusReason"]
    bed.control("POST", "alarm", name="errors", state="OK")
    group.start(AutoRollback=True, **watched)
    bed.advance(5)
    bed.control("POST", "alarm", name="errors", state="ALARM")
    assert group.status == "RollbackInProgress"


def test_throttled_calls_and_calls_that_meet_another_change(bed):
    group = Group(bed, count=1)
    bed.fault("throttle", service="autoscaling", operation="StartInstanceRefresh", count=1)
    with refused("Throttling", "Rate exceeded", 400):
        group.start()
    bed.fault("error", operation="StartInstanceRefresh", code="ResourceContention", status=500, count=1)
    with refused("ResourceContention", status=500):
        group.start()
    assert group.refreshes() == []
    entries = bed.journal("StartInstanceRefresh")
    assert [(e["fault"], e["executed"]) for e in entries] == [("throttle", False), ("error", False)]
    assert entries[0]["params"]["DesiredConfiguration"] == group.desired()


def test_a_start_whose_answer_is_lost_has_happened(bed):
    group = Group(bed, count=1)
    bed.fault("lost", operation="StartInstanceRefresh", count=1)
    with pytest.raises(ConnectionClosedError):
        group.start()
    with refused("InstanceRefreshInProgress"):
        group.start()
    (refresh,) = group.refreshes()
    assert refresh["DesiredConfiguration"]["LaunchTemplate"]["Version"] == "2"
    entry = bed.journal("StartInstanceRefresh")[0]
    assert (entry["fault"], entry["status"], entry["executed"]) == ("lost", None, True)


def test_another_writer_changes_the_group_and_starts_a_refresh(bed):
    group = Group(bed, count=2)
    third = group.version(group.new)
    changed = group.change(version=third, desired=3, tags={"team": "ml"})
    assert (changed["LaunchTemplate"]["Version"], changed["size"][1]) == (third, 3)
    assert group.versions() == "11" + third
    assert "team" in [t["Key"] for t in group.describe()["Tags"]]
    group.change(refresh={"DesiredConfiguration": group.desired("2"), "Preferences": {"SkipMatching": True}})
    with refused("InstanceRefreshInProgress"):
        group.start()
    assert bed.journal("UpdateAutoScalingGroup") == []
    assert [e["error"] is None for e in bed.journal("StartInstanceRefresh")] == [False]
    with pytest.raises(ControlError, match="InstanceRefreshInProgress"):
        group.change(refresh={})
    with pytest.raises(ControlError, match="no Auto Scaling group"):
        bed.control("POST", "auto-scaling-group", name="nope")
    assert group.settle() == "Successful"
    assert group.versions() == "222"


def test_an_instance_that_a_person_terminates_is_replaced(bed):
    group = Group(bed, count=2)
    group.start()
    bed.advance(5)
    (old,) = [i for i in group.instances() if i["LifecycleState"] == "InService"]
    bed.client("ec2").terminate_instances(InstanceIds=[old["InstanceId"]])
    assert group.versions() == "22"
    assert group.settle() == "Successful"
    assert len(group.instances()) == 2


def test_a_managed_group_does_not_move_to_an_image_whose_nodes_do_not_work(bed):
    group = Group(bed, count=0)
    break_image(group)
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    bed.client("ec2").create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": group.new}
    )
    eks = bed.client("eks")
    update = eks.update_nodegroup_version(
        clusterName="demo", nodegroupName="web", launchTemplate={"id": template, "version": "2"}
    )["update"]
    bed.advance(60)
    found = eks.describe_update(name="demo", nodegroupName="web", updateId=update["id"])["update"]
    assert (found["status"], found["errors"][0]["errorCode"]) == ("Failed", "NodeCreationFailure")
