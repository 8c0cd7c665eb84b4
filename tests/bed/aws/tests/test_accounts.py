"""Settings of accounts, realistic errors, and faults that last for a while; all off by default."""

import pytest
from helpers import refused
from test_eks import describe, new_version, start, update


def launch(bed, image: str | None = None, **asked):
    image = image or bed.seed()["base_images"]["v20260801"]
    return bed.client("ec2").run_instances(ImageId=image, MinCount=1, MaxCount=1, **asked)


def settings(bed, **wanted) -> None:
    bed.control("POST", "settings", **wanted)


def test_accounts_enforce_nothing_by_default(bed):
    shown = bed.control("GET", "settings")
    assert (shown["imds_required"], shown["default_vpc"]) == (False, True)
    assert shown["allowed_image_providers"] == []
    assert not shown["config_update_resets"]
    assert not shown["request_ids_in_messages"]
    launch(bed, MetadataOptions={"HttpTokens": "optional"})
    assert bed.client("ec2").describe_vpcs()["Vpcs"][0]["IsDefault"]
    assert bed.client("ec2").get_allowed_images_settings()["State"] == "disabled"


def test_instances_need_imdsv2_where_it_is_enforced(bed):
    settings(bed, imds_required=True)
    words = "You can't launch instances with IMDSv1 because httpTokensEnforced is enabled"
    with refused("UnsupportedOperation", words, 400):
        launch(bed, MetadataOptions={"HttpTokens": "optional", "HttpEndpoint": "enabled"})
    launch(bed, MetadataOptions={"HttpTokens": "required"})
    launch(bed)  # images of Amazon Linux 2023 require tokens themselves
    plain = bed.control("POST", "image", name="plain")["id"]
    with refused("UnsupportedOperation", words):
        launch(bed, plain)
    with refused("UnsupportedOperation", words):
        template = bed.client("ec2").create_launch_template(
            LaunchTemplateName="spot",
            LaunchTemplateData={"MetadataOptions": {"HttpTokens": "optional"}},
        )["LaunchTemplate"]["LaunchTemplateId"]
        launch(bed, LaunchTemplate={"LaunchTemplateId": template})


def test_an_image_is_made_to_ask_for_imdsv2(bed):
    ec2, image = bed.client("ec2"), bed.control("POST", "image", name="plain")["id"]
    assert "ImdsSupport" not in ec2.describe_images(ImageIds=[image])["Images"][0]
    ec2.modify_image_attribute(ImageId=image, ImdsSupport={"Value": "v2.0"})
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["ImdsSupport"] == "v2.0"
    settings(bed, imds_required=True)
    launch(bed, image)


def test_groups_need_imdsv2_where_it_is_enforced(bed):
    bed.seed()
    eks = bed.client("eks")
    plain = bed.control("POST", "image", name="plain")["id"]
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    made = bed.client("ec2").create_launch_template_version(
        LaunchTemplateId=template, LaunchTemplateData={"ImageId": plain}
    )["LaunchTemplateVersion"]
    settings(bed, imds_required=True)
    with refused("InvalidRequestException", "httpTokensEnforced", 400):
        start(bed, eks, "web", str(made["VersionNumber"]))
    start(bed, eks, "web", new_version(bed, "web", plain))


def test_an_account_without_a_default_vpc_wants_a_subnet(bed):
    subnet, vpc = bed.seed()["subnets"][0], bed.seed()["vpc"]
    settings(bed, default_vpc=False)
    ec2 = bed.client("ec2")
    with refused("VPCIdNotSpecified", "No default VPC for this user"):
        launch(bed)
    with refused("VPCIdNotSpecified", "No default VPC for this user"):
        ec2.create_security_group(GroupName="g", Description="g")
    assert not any(v["IsDefault"] for v in ec2.describe_vpcs()["Vpcs"])
    default = [{"Name": "is-default", "Values": ["true"]}]
    assert ec2.describe_vpcs(Filters=default)["Vpcs"] == []
    assert not any(s["DefaultForAz"] for s in ec2.describe_subnets()["Subnets"])
    ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)
    launch(bed, SubnetId=subnet)
    launch(bed, NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnet}])
    # its node groups name their subnets
    eks = bed.client("eks")
    started = start(bed, eks, "web", new_version(bed, "web", bed.seed()["initial_image"]))
    bed.advance(60)
    assert update(eks, "web", started["id"])["status"] == "Successful"


def test_images_of_providers_that_are_not_allowed_are_hidden(bed):
    base = bed.seed()["base_images"]["v20260801"]
    ec2 = bed.client("ec2")
    settings(bed, allowed_image_providers=["099720109477"])
    assert ec2.get_allowed_images_settings()["State"] == "enabled"
    assert ec2.describe_images(Owners=["amazon"])["Images"] == []
    assert ec2.describe_images(ImageIds=[base])["Images"] == []
    assert ec2.describe_images(Owners=["self"])["Images"]
    settings(bed, allowed_image_providers=["amazon"])
    assert ec2.describe_images(ImageIds=[base])["Images"]


def test_a_config_update_keeps_or_resets_what_it_does_not_name(bed):
    bed.seed()
    eks = bed.client("eks")
    minimal = {"maxUnavailable": 1, "updateStrategy": "MINIMAL"}
    bed.control("POST", "new-node-group", name="own", update_config=minimal)
    assert describe(eks, "own")["updateConfig"] == minimal

    def change() -> dict:
        eks.update_nodegroup_config(
            clusterName="demo", nodegroupName="own", updateConfig={"maxUnavailable": 2}
        )
        bed.advance(5)
        return describe(eks, "own")["updateConfig"]

    assert change() == {"maxUnavailable": 2, "updateStrategy": "MINIMAL"}
    settings(bed, config_update_resets=True)
    assert change() == {"maxUnavailable": 2, "updateStrategy": "DEFAULT"}


@pytest.mark.parametrize("service", ["ec2", "eks", "ssm", "sts", "autoscaling"])
def test_no_two_errors_have_the_same_request_id(bed, service):
    calls = {
        "ec2": lambda c: c.describe_instances(InstanceIds=["i-12345678"]),
        "eks": lambda c: c.describe_cluster(name="nope"),
        "ssm": lambda c: c.get_parameter(Name="/nope"),
        "sts": lambda c: c.get_caller_identity(),
        "autoscaling": lambda c: c.delete_auto_scaling_group(AutoScalingGroupName="nope"),
    }
    client, ids = bed.client(service), set()
    if service == "sts":
        bed.fault("deny", service="sts")
    for _ in range(2):
        with pytest.raises(client.exceptions.ClientError) as caught:
            calls[service](client)
        ids.add(caught.value.response["ResponseMetadata"]["RequestId"])
    assert len(ids) == 2


def test_eks_can_put_request_ids_into_its_words(bed):
    bed.seed()
    eks = bed.client("eks")
    settings(bed, request_ids_in_messages=True)
    seen = set()
    for _ in range(2):
        with refused("InvalidParameterException", "(Service: Eks, Status Code: 400, Request ID: "):
            start(bed, eks, "web", "9")
        seen.add(bed.journal("UpdateNodegroupVersion")[-1]["error"])
    assert len(seen) == 2
    bed.fault("error", code="Odd", status=400, message="see {request_id}", service="ec2", count=2)
    for _ in range(2):
        with refused("Odd", "see "):
            bed.client("ec2").describe_regions()
        seen.add(bed.journal("DescribeRegions")[-1]["error"])
    assert len(seen) == 4


def test_a_fault_lasts_for_a_while(bed):
    bed.control("POST", "clock", freeze=True)
    bed.seed()
    bed.fault(
        "error", operation="RunInstances", code="InsufficientInstanceCapacity", status=500,
        message="We currently do not have sufficient t3.micro capacity.", lasting=1800, after=60,
    )  # fmt: skip
    launch(bed)
    bed.advance(61)
    with refused("InsufficientInstanceCapacity", "sufficient t3.micro", 500):
        launch(bed)
    bed.advance(1798)
    with refused("InsufficientInstanceCapacity"):
        launch(bed)
    bed.advance(2)
    launch(bed)
    bed.fault("expired", until="2020-01-01T00:00:00Z")
    launch(bed)


def test_a_build_s_credentials_expire(bed):
    bed.control("POST", "clock", freeze=True)
    bed.seed()
    bed.fault("expired", access_key=bed.access_key, after=900)
    launch(bed)
    bed.advance(900)
    with refused("RequestExpired"):
        launch(bed)


def test_an_eviction_failure_names_the_nodes(bed):
    bed.seed()
    eks = bed.client("eks")
    bed.fault("nodegroup-update-fails", errorCode="PodEvictionFailure", count=1)
    started = start(bed, eks, "web", new_version(bed, "web", bed.image("next")))
    bed.advance(60)
    (node,) = update(eks, "web", started["id"])["errors"][0]["resourceIds"]
    assert node.startswith("ip-")
    assert node.endswith(".ec2.internal")


def test_tags_of_tools_are_put_on_groups_that_are_there(bed):
    bed.seed()
    bed.control("POST", "node-group", name="web", made_by="cloudformation", tags={"a": "b"})
    web = describe(bed.client("eks"), "web")
    assert web["status"] == "ACTIVE"
    assert web["tags"] == {
        "team": "platform",
        "a": "b",
        "aws:cloudformation:stack-name": "demo-nodes",
    }
