"""EC2 Auto Scaling: the course of an instance refresh, its batches, checkpoints and end."""

from opsybed.show import scaling_rows
from refreshing import REPLACEMENT, WARMUP, Group, progress


def test_a_refresh_takes_its_time_and_replaces_instances_one_by_one(bed):
    group = Group(bed, count=2)
    before = {i["InstanceId"] for i in group.instances()}
    started = group.start()
    refresh = group.refresh()
    assert (refresh["InstanceRefreshId"], refresh["Status"]) == (started, "Pending")
    assert "StartTime" not in refresh
    assert refresh["Strategy"] == "Rolling"
    assert refresh["Preferences"] == {
        "MinHealthyPercentage": 90,
        "InstanceWarmup": WARMUP,
        "SkipMatching": False,
        "AutoRollback": False,
        "ScaleInProtectedInstances": "Wait",
        "StandbyInstances": "Wait",
    }
    assert refresh["DesiredConfiguration"]["LaunchTemplate"] == {
        "LaunchTemplateId": group.template,
        "LaunchTemplateName": "demo-workers",
        "Version": "2",
    }
    bed.advance(5)
    refresh = group.refresh()
    assert progress(refresh) == ("InProgress", 0, 1)
    assert refresh["StartTime"]
    assert group.states() == ["InService", "Pending", "Terminating"]
    bed.advance(30)
    assert group.states() == ["InService", "InService"]
    assert "is warming up." in group.refresh()["StatusReason"]
    assert group.versions() == "12"
    bed.advance(WARMUP)
    assert group.refresh()["PercentageComplete"] == 50
    assert group.describe()["LaunchTemplate"]["Version"] == "1"
    bed.advance(REPLACEMENT)
    refresh = group.refresh()
    assert progress(refresh) == ("Successful", 100, 0)
    assert refresh["EndTime"] > refresh["StartTime"]
    assert "StatusReason" not in refresh
    assert group.images() == {group.new}
    assert not before & {i["InstanceId"] for i in group.instances()}
    assert group.describe()["LaunchTemplate"]["Version"] == "2"


# instances, preferences, the fewest ready and the most running instances meanwhile
BATCHES = [
    (10, {}, 9, 10),
    (10, {"MinHealthyPercentage": 50}, 5, 10),
    (4, {"MinHealthyPercentage": 0}, 0, 4),
    # a single instance ends while its replacement starts
    (1, {}, 0, 1),
    (1, {"MinHealthyPercentage": 100}, 0, 1),
    (4, {"MinHealthyPercentage": 100}, 3, 4),
    # an explicit maximum: a replacement starts first
    (1, {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 100}, 1, 2),
    (4, {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 150}, 4, 6),
    (10, {"MinHealthyPercentage": 90, "MaxHealthyPercentage": 120}, 9, 12),
    (3, {"MinHealthyPercentage": 90, "MaxHealthyPercentage": 100}, 3, 4),
]


def test_the_healthy_percentages_bound_the_batches(bed):
    groups = [Group(bed, count, name=f"g{n}") for n, (count, *_) in enumerate(BATCHES)]
    for group, (_, preferences, *_) in zip(groups, BATCHES, strict=True):
        group.start(**preferences)
    seen = {g.name: [100, 0] for g in groups}
    entered: dict[str, int] = {}
    bed.advance(5)
    # every change happens at one of these moments
    for moment in range(0, 40 * REPLACEMENT, 30):
        shown = {g["name"]: g for g in bed.state()["auto_scaling_groups"] if g["name"] in seen}
        for name, group in shown.items():
            here = [i for i in group["instances"] if not i["state"].startswith("Terminating")]
            for one in here:
                if one["state"] == "InService":
                    entered.setdefault(one["id"], moment if moment else -WARMUP)
            warm = sum(moment - entered.get(i["id"], moment) >= WARMUP for i in here)
            seen[name] = [min(seen[name][0], warm), max(seen[name][1], len(here))]
        if all(g["refreshes"][0]["Status"] == "Successful" for g in shown.values()):
            break
        bed.advance(30)
    assert [(g.status, g.versions()) for g in groups] == [("Successful", "2" * case[0]) for case in BATCHES]
    assert [tuple(seen[g.name]) for g in groups] == [case[2:] for case in BATCHES]


def test_a_group_whose_instances_match_is_done_at_once(bed):
    group = Group(bed)
    group.start("1", SkipMatching=True)
    bed.advance(5)
    assert (group.status, group.refresh()["PercentageComplete"]) == ("Successful", 100)
    before = group.instances()
    group.start("1")
    assert group.settle() == "Successful"
    assert not {i["InstanceId"] for i in before} & {i["InstanceId"] for i in group.instances()}


def test_skip_matching_replaces_only_what_differs(bed):
    group = Group(bed, count=3)
    group.start(MinHealthyPercentage=40)
    bed.advance(5)
    group.cancel()
    assert group.settle() == "Cancelled"
    assert group.versions() == "112"
    kept = {i["InstanceId"] for i in group.instances() if i["LaunchTemplate"]["Version"] == "2"}
    group.start(SkipMatching=True)
    assert group.settle() == "Successful"
    assert kept < {i["InstanceId"] for i in group.instances()}
    assert group.versions() == "222"


def test_with_skip_matching_an_open_version_is_read_again_for_every_instance(bed):
    group = Group(bed, count=2)
    group.start("$Latest", SkipMatching=True)
    bed.advance(5 + REPLACEMENT)
    third = group.version(bed.control("POST", "image", name="third")["id"])
    assert group.settle() == "Successful"
    assert group.versions() == third * 2
    assert group.describe()["LaunchTemplate"]["Version"] == "$Latest"


def test_without_a_desired_configuration_the_group_s_own_is_used(bed):
    group = Group(bed, version="$Latest")
    group.start(None)
    assert "DesiredConfiguration" not in group.refresh()
    assert group.settle() == "Successful"
    assert group.versions() == "22"
    assert group.describe()["LaunchTemplate"]["Version"] == "$Latest"


def test_checkpoints_pause_the_refresh(bed):
    group = Group(bed, count=4)
    group.start(CheckpointPercentages=[20, 50, 100], CheckpointDelay=600, MinHealthyPercentage=50)
    bed.advance(5 + REPLACEMENT)
    assert (group.refresh()["PercentageComplete"], group.versions()) == (25, "1112")
    assert "checkpoint" in group.refresh()["StatusReason"]
    bed.advance(599)
    assert group.versions() == "1112"
    bed.advance(1)
    assert group.versions() == "1122"
    bed.advance(REPLACEMENT)
    assert group.refresh()["PercentageComplete"] == 50
    bed.advance(600 + REPLACEMENT)
    assert group.status == "Successful"
    assert group.versions() == "2222"


def test_a_checkpoint_that_is_passed_is_skipped_and_the_delay_is_an_hour(bed):
    group = Group(bed, count=2)
    group.start(CheckpointPercentages=[10, 40, 100])
    assert group.refresh()["Preferences"]["CheckpointDelay"] == 3600
    bed.advance(5 + REPLACEMENT + 3599)
    assert group.versions() == "12"
    bed.advance(1)
    assert group.versions() == "22"


def test_a_refresh_ends_at_its_last_checkpoint(bed):
    group = Group(bed, count=4)
    group.start(CheckpointPercentages=[50], CheckpointDelay=60)
    assert group.settle() == "Successful"
    refresh = group.refresh()
    assert (refresh["PercentageComplete"], refresh["InstancesToUpdate"]) == (50, 2)
    assert group.versions() == "1122"


def test_a_bake_time_delays_the_end(bed):
    group = Group(bed, count=1)
    group.start(BakeTime=300)
    bed.advance(5 + REPLACEMENT)
    assert (group.status, group.refresh()["PercentageComplete"]) == ("Baking", 100)
    assert group.describe()["LaunchTemplate"]["Version"] == "1"
    bed.advance(299)
    assert group.status == "Baking"
    bed.advance(1)
    assert group.status == "Successful"
    assert group.describe()["LaunchTemplate"]["Version"] == "2"


def test_instances_launched_meanwhile_have_the_desired_configuration(bed):
    group = Group(bed, count=2)
    group.start()
    bed.advance(5)
    group.calls.set_desired_capacity(AutoScalingGroupName=group.name, DesiredCapacity=4)
    assert group.versions() == "1222"
    assert group.settle() == "Successful"
    assert group.versions() == "2222"


def test_a_group_scaled_to_zero_is_done_at_once_and_gets_the_configuration(bed):
    group = Group(bed, count=0)
    group.start()
    bed.advance(5)
    assert group.status == "Successful"
    assert group.describe()["LaunchTemplate"]["Version"] == "2"


def test_a_group_scaled_in_meanwhile_still_ends(bed):
    group = Group(bed, count=4)
    group.start()
    bed.advance(5)
    group.change(desired=1)
    assert group.settle() == "Successful"
    assert group.versions() == "2"


def test_a_suspended_process_pauses_the_refresh(bed):
    group = Group(bed)
    which = {"AutoScalingGroupName": group.name, "ScalingProcesses": ["InstanceRefresh"]}
    group.calls.suspend_processes(**which)
    group.start()
    bed.advance(2000)
    assert (group.status, group.versions()) == ("InProgress", "11")
    group.calls.resume_processes(**which)
    assert group.settle() == "Successful"


def test_activities_tell_what_the_refresh_did(bed):
    group = Group(bed, count=1)
    refresh = group.start()
    group.settle()
    found = group.calls.describe_scaling_activities(AutoScalingGroupName=group.name)["Activities"]
    launched, ended = found[0], found[1]
    assert launched["Description"].startswith("Launching a new EC2 instance: i-")
    assert ended["Description"].startswith("Terminating EC2 instance: i-")
    assert refresh in launched["Cause"]
    assert {launched["StatusCode"], ended["StatusCode"]} == {"Successful"}
    paged = group.calls.get_paginator("describe_scaling_activities").paginate(
        AutoScalingGroupName=group.name, PaginationConfig={"PageSize": 2}
    )
    assert [len(p["Activities"]) for p in paged] == [2, 1]


def test_people_see_self_managed_groups_in_a_table(bed):
    group = Group(bed, count=2)
    group.start()
    bed.advance(5 + REPLACEMENT)
    rows = {row[0]: row[1:4] for row in scaling_rows(bed.state())}
    assert rows == {
        "self-managed": ("demo-self-managed:1", "1 on 1", None),
        "workers": ("demo-workers:1", "2 on 2", "InProgress 50 %"),
    }


def test_refreshes_come_newest_first_in_pages_for_six_weeks(bed):
    group = Group(bed, count=0)
    ids = []
    for _ in range(3):
        ids.insert(0, group.start("1"))
        bed.advance(5)
    assert [r["InstanceRefreshId"] for r in group.refreshes()] == ids
    assert [r["InstanceRefreshId"] for r in group.refreshes(InstanceRefreshIds=ids[1:2])] == ids[1:2]
    first = group.calls.describe_instance_refreshes(AutoScalingGroupName=group.name, MaxRecords=2)
    assert [r["InstanceRefreshId"] for r in first["InstanceRefreshes"]] == ids[:2]
    assert [r["InstanceRefreshId"] for r in group.refreshes(NextToken=first["NextToken"])] == ids[2:]
    bed.advance(43 * 24 * 3600)
    assert group.refreshes() == []


def test_a_refresh_of_a_deleted_group_is_forgotten(bed):
    group = Group(bed)
    group.start()
    bed.advance(5)
    group.calls.delete_auto_scaling_group(AutoScalingGroupName=group.name, ForceDelete=True)
    bed.advance(3600)
    assert "workers" not in [g["name"] for g in bed.state()["auto_scaling_groups"]]
    Group(bed, count=1, image=group.old, name="others").start()
