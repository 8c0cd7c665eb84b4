"""EKS: clusters, managed node groups, updates."""

import pytest
from helpers import refused

BUSY = "Nodegroup cannot be updated as it is currently not in Active State"


@pytest.fixture
def eks(bed):
    return bed.client("eks")


def new_version(bed, group: str, image: str) -> str:
    template = bed.seed()["node_groups"][group]["launch_template"]["id"]
    made = bed.client("ec2").create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": image}
    )
    return str(made["LaunchTemplateVersion"]["VersionNumber"])


def start(bed, eks, group: str, version: str, **asked) -> dict:
    template = bed.seed()["node_groups"][group]["launch_template"]["id"]
    asked.setdefault("launchTemplate", {"id": template, "version": version})
    return eks.update_nodegroup_version(clusterName="demo", nodegroupName=group, **asked)["update"]


def update(eks, group: str, update_id: str) -> dict:
    return eks.describe_update(name="demo", nodegroupName=group, updateId=update_id)["update"]


def describe(eks, group: str) -> dict:
    return eks.describe_nodegroup(clusterName="demo", nodegroupName=group)["nodegroup"]


def node_images(bed, group: str) -> list[str]:
    instances = bed.state()["instances"]
    return sorted(
        i["image"] for i in instances if i["node_group"] == group and i["state"] == "running"
    )


def test_the_seeded_cluster(bed, eks):
    seeded = bed.seed()
    assert eks.describe_cluster(name="demo")["cluster"]["version"] == "1.31"
    pages = eks.get_paginator("list_nodegroups").paginate(
        clusterName="demo", PaginationConfig={"PageSize": 3}
    )
    assert [p["nodegroups"] for p in pages] == [["batch", "legacy", "system"], ["web"]]
    web = describe(eks, "web")
    assert (web["amiType"], web["releaseVersion"]) == ("CUSTOM", seeded["initial_image"])
    assert web["launchTemplate"]["version"] == "1"
    assert web["updateConfig"] == {"maxUnavailable": 1}
    assert "instanceTypes" not in web or web["instanceTypes"] is None
    legacy = describe(eks, "legacy")
    assert legacy["amiType"] == "AL2023_x86_64_STANDARD"
    assert legacy.get("launchTemplate") is None
    assert bed.seed() == seeded
    assert not any(bed.state()["leftovers"].values())


def test_auto_scaling_groups_tell_managed_from_self_managed(bed):
    bed.seed()
    groups = bed.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    tags = {g["AutoScalingGroupName"]: {t["Key"]: t["Value"] for t in g["Tags"]} for g in groups}
    assert all(t["kubernetes.io/cluster/demo"] == "owned" for t in tags.values())
    assert [n for n, t in tags.items() if "eks:nodegroup-name" not in t] == ["self-managed"]
    assert len(groups) == 5


def test_an_update_takes_its_time_and_replaces_nodes_one_by_one(bed, eks):
    bed.control("POST", "clock", freeze=True)
    old, new = bed.seed()["initial_image"], bed.image("next")
    started = start(bed, eks, "web", new_version(bed, "web", new), clientRequestToken="t" * 64)
    assert (started["status"], started["type"]) == ("InProgress", "VersionUpdate")
    assert {p["type"]: p["value"] for p in started["params"]} == {
        "LaunchTemplateName": "demo-web",
        "LaunchTemplateVersion": "2",
    }
    assert describe(eks, "web")["status"] == "UPDATING"
    assert node_images(bed, "web") == [old, old]
    with refused("ResourceInUseException", BUSY, 409):
        start(bed, eks, "web", "2")
    bed.advance(25)
    assert sorted(node_images(bed, "web")) == sorted([new, old])
    assert describe(eks, "web")["releaseVersion"] == old
    bed.advance(34.9)
    assert update(eks, "web", started["id"])["status"] == "InProgress"
    bed.advance(0.1)
    assert update(eks, "web", started["id"])["status"] == "Successful"
    web = describe(eks, "web")
    assert (web["status"], web["releaseVersion"], web["launchTemplate"]["version"]) == (
        "ACTIVE",
        new,
        "2",
    )
    assert node_images(bed, "web") == [new, new]
    assert eks.list_updates(name="demo", nodegroupName="web")["updateIds"] == [started["id"]]


def test_a_token_starts_one_update(bed, eks):
    bed.control("POST", "clock", freeze=True)
    version = new_version(bed, "web", bed.image("next"))
    first = start(bed, eks, "web", version, clientRequestToken="t" * 64)
    assert start(bed, eks, "web", version, clientRequestToken="t" * 64)["id"] == first["id"]
    with refused("InvalidParameterException", "different parameters"):
        start(bed, eks, "web", version, clientRequestToken="t" * 64, force=True)
    bed.advance(60)
    again = start(bed, eks, "web", version, clientRequestToken="t" * 64)
    assert (again["id"], again["status"]) == (first["id"], "Successful")


def test_references_to_the_template_are_resolved_to_a_number(bed, eks):
    new_version(bed, "web", bed.image("next"))
    start(bed, eks, "web", "$Latest")
    bed.advance(60)
    assert describe(eks, "web")["launchTemplate"]["version"] == "2"
    start(bed, eks, "web", "", launchTemplate={"name": "demo-web"})
    bed.advance(60)
    assert describe(eks, "web")["launchTemplate"]["version"] == "1"


@pytest.mark.parametrize(
    ("group", "asked", "text"),
    [
        (
            "web",
            {"version": "1.31"},
            "You cannot specify the field kubernetesVersion when using custom AMIs.",
        ),
        ("web", {"releaseVersion": "1.31.0-1"}, "You cannot specify the field releaseVersion"),
        ("web", {}, "Launch template details can't be null for Custom ami type node group"),
        (
            "web",
            {"launchTemplate": {"id": "WEB", "name": "demo-web", "version": "1"}},
            "Either provide launch template ID or launch template name in the request.",
        ),
        ("web", {"launchTemplate": {"version": "1"}}, "Either provide launch template ID"),
        (
            "web",
            {"launchTemplate": {"id": "WEB", "version": "9"}},
            "Could not find the specified version 9",
        ),
        (
            "web",
            {"launchTemplate": {"name": "demo-batch"}},
            "You cannot change the launch template",
        ),
        ("legacy", {"launchTemplate": {"id": "WEB"}}, "was created without one"),
    ],
)
def test_an_update_is_refused_in_the_words_of_eks(bed, eks, group, asked, text):
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    if asked.get("launchTemplate", {}).get("id"):
        asked = {"launchTemplate": {**asked["launchTemplate"], "id": template}}
    with refused("InvalidParameterException", text, 400):
        eks.update_nodegroup_version(clusterName="demo", nodegroupName=group, **asked)
    assert eks.list_updates(name="demo", nodegroupName=group)["updateIds"] == []


def test_a_template_must_go_on_naming_an_image_and_nothing_prohibited(bed, eks):
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    ec2 = bed.client("ec2")

    def version(**data) -> str:
        made = ec2.create_launch_template_version(
            LaunchTemplateId=template, LaunchTemplateData=data
        )
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    with refused("InvalidParameterException", "You cannot switch"):
        start(bed, eks, "web", version(InstanceType="m6i.large"))
    with refused("InvalidParameterException", "IamInstanceProfile"):
        start(bed, eks, "web", version(ImageId="ami-1", IamInstanceProfile={"Name": "p"}))
    with refused("InvalidParameterException", "AMI ID"):
        start(bed, eks, "web", version(ImageId="resolve:ssm:/my/ami"))


def test_what_is_not_there(bed, eks):
    bed.seed()
    with refused("ResourceNotFoundException", "No cluster found for name: nope.", 404):
        eks.list_nodegroups(clusterName="nope")
    with refused("ResourceNotFoundException", "No node group found for name: nope.", 404):
        describe(eks, "nope")
    with refused("ResourceNotFoundException", "No update found", 404):
        update(eks, "web", "00000000-0000-0000-0000-000000000000")


def test_an_update_of_a_group_is_not_found_without_its_name(bed, eks):
    bed.seed()
    started = start(bed, eks, "web", "1")
    with refused("ResourceNotFoundException"):
        eks.describe_update(name="demo", updateId=started["id"])


@pytest.mark.parametrize(("degraded", "status"), [(False, "ACTIVE"), (True, "DEGRADED")])
def test_a_failed_update_shows_the_previous_version(bed, eks, degraded, status):
    old = bed.seed()["initial_image"]
    version = new_version(bed, "web", bed.image("next"))
    bed.fault("nodegroup-update-fails", errorCode="PodEvictionFailure", degraded=degraded, count=1)
    started = start(bed, eks, "web", version)
    assert describe(eks, "web")["status"] == "UPDATING"
    bed.advance(60)
    failed = update(eks, "web", started["id"])
    assert failed["status"] == "Failed"
    assert failed["errors"][0]["errorCode"] == "PodEvictionFailure"
    assert "Reached max retries while trying to evict pods" in failed["errors"][0]["errorMessage"]
    web = describe(eks, "web")
    assert (web["status"], web["releaseVersion"], web["launchTemplate"]["version"]) == (
        status,
        old,
        "1",
    )
    assert [i["code"] for i in web["health"]["issues"]] == (
        ["PodEvictionFailure"] if degraded else []
    )
    assert node_images(bed, "web") == [old, old]
    if degraded:
        with refused("ResourceInUseException", BUSY):
            start(bed, eks, "web", version)


def test_an_update_to_an_image_that_is_gone_fails(bed, eks):
    image = bed.image("gone")
    version = new_version(bed, "web", image)
    bed.control("DELETE", "image", id=image)
    started = start(bed, eks, "web", version)
    bed.advance(60)
    assert update(eks, "web", started["id"])["errors"][0]["errorCode"] == "NodeCreationFailure"


def test_a_config_change_is_an_update_too(bed, eks):
    bed.seed()
    bed.control("POST", "clock", freeze=True)
    with refused("InvalidParameterException", "both"):
        eks.update_nodegroup_config(
            clusterName="demo",
            nodegroupName="web",
            updateConfig={"maxUnavailable": 1, "maxUnavailablePercentage": 5},
        )
    started = eks.update_nodegroup_config(
        clusterName="demo", nodegroupName="web", updateConfig={"maxUnavailablePercentage": 50}
    )["update"]
    assert (started["status"], started["type"]) == ("InProgress", "ConfigUpdate")
    with refused("ResourceInUseException", BUSY):
        start(bed, eks, "web", "1")
    assert describe(eks, "web")["updateConfig"] == {"maxUnavailable": 1}
    bed.advance(5)
    assert describe(eks, "web")["updateConfig"] == {"maxUnavailablePercentage": 50}
    assert update(eks, "web", started["id"])["status"] == "Successful"


def test_updates_come_in_pages(bed, eks):
    for _ in range(3):
        start(bed, eks, "web", "1")
        bed.advance(60)
    first = eks.list_updates(name="demo", nodegroupName="web", maxResults=2)
    rest = eks.list_updates(
        name="demo", nodegroupName="web", maxResults=2, nextToken=first["nextToken"]
    )
    assert (len(first["updateIds"]), len(rest["updateIds"])) == (2, 1)


def test_groups_are_made_and_deleted(bed, eks):
    seeded = bed.seed()
    image = bed.image("own")
    common = {
        "clusterName": "demo",
        "subnets": seeded["subnets"],
        "nodeRole": f"arn:aws:iam::{bed.account}:role/demo-node",
    }
    template = {"id": seeded["node_groups"]["web"]["launch_template"]["id"], "version": "$Latest"}
    new_version(bed, "web", image)
    made = eks.create_nodegroup(**common, nodegroupName="gpu", launchTemplate=template)["nodegroup"]
    assert (made["amiType"], made["releaseVersion"], made["launchTemplate"]["version"]) == (
        "CUSTOM",
        image,
        "2",
    )
    with refused("InvalidParameterException", "other than CUSTOM"):
        eks.create_nodegroup(
            **common, nodegroupName="x", launchTemplate=template, amiType="AL2023_x86_64_STANDARD"
        )
    with refused("ResourceInUseException", "already exists"):
        eks.create_nodegroup(**common, nodegroupName="gpu")
    assert node_images(bed, "gpu") == [image, image]
    eks.delete_nodegroup(clusterName="demo", nodegroupName="gpu")
    assert describe(eks, "gpu")["status"] == "DELETING"
    bed.advance(30)
    with refused("ResourceNotFoundException"):
        describe(eks, "gpu")
    assert node_images(bed, "gpu") == []


def test_a_group_on_images_of_eks_goes_to_the_newest_release(bed, eks):
    bed.seed()
    bed.control("POST", "base-image", version="20260901", created="2026-09-01T06:00:00Z")
    started = eks.update_nodegroup_version(clusterName="demo", nodegroupName="legacy")["update"]
    bed.advance(60)
    assert update(eks, "legacy", started["id"])["status"] == "Successful"
    assert describe(eks, "legacy")["releaseVersion"] == "1.31.0-20260901"


def test_a_group_disappears_during_its_update(bed, eks):
    start(bed, eks, "web", "1")
    bed.control("DELETE", "node-group", name="web")
    bed.advance(120)
    with refused("ResourceNotFoundException"):
        describe(eks, "web")


def test_a_group_is_set_degraded_or_updating_from_outside(bed, eks):
    bed.seed()
    bed.control("POST", "node-group", name="web", status="DEGRADED", issue="AmiIdNotFound")
    assert describe(eks, "web")["health"]["issues"][0]["code"] == "AmiIdNotFound"
    bed.control("POST", "node-group", name="web", status="UPDATING")
    with refused("ResourceInUseException", BUSY):
        start(bed, eks, "web", "1")
    bed.control("POST", "node-group", name="web", status="ACTIVE")
    assert start(bed, eks, "web", "1")["status"] == "InProgress"


def test_tags_of_groups(bed, eks):
    bed.seed()
    arn = describe(eks, "web")["nodegroupArn"]
    eks.tag_resource(resourceArn=arn, tags={"a": "b"})
    assert eks.list_tags_for_resource(resourceArn=arn)["tags"] == {"team": "platform", "a": "b"}
    eks.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert eks.list_tags_for_resource(resourceArn=arn)["tags"] == {"a": "b"}
