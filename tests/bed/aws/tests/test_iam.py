"""IAM policies: the evaluation of a call, and AWS's error for a denied one."""

import json
import re

import pytest
from awsclient import Bed, ControlError
from helpers import refused

TAGGED = "arn:aws:ec2:*:*:instance/*"


def statement(action, resource="*", effect="Allow", **more) -> dict:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def document(*statements: dict) -> dict:
    return {"Version": "2012-10-17", "Statement": list(statements)}


@pytest.fixture
def user(server, bed):
    """Another key of the same account; the bed's own key remains unrestricted."""
    user = Bed(server, bed.account)
    user.access_key = f"AKIA{bed.account}USER"
    user.admin = bed
    bed.seed()
    yield user
    user.release()


def attach(user: Bed, *statements: dict, **more) -> dict:
    return user.control(
        "POST", "policy", access_key=user.access_key, user="mia", document=document(*statements), **more
    )


def launched(bed: Bed, *specs: tuple[str, dict], **more) -> str:
    given = [
        {"ResourceType": kind, "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
        for kind, tags in specs
    ]
    base = bed.seed()["base_images"]["v20260801"]
    asked = {"TagSpecifications": given} if given else {}
    answer = bed.client("ec2").run_instances(
        ImageId=base, MinCount=1, MaxCount=1, InstanceType="m6i.large", **asked, **more
    )
    return answer["Instances"][0]["InstanceId"]


def test_a_key_without_a_policy_may_do_everything_and_one_with_a_policy_only_that(user):
    ec2 = user.client("ec2")
    ec2.describe_images(Owners=["self"])
    attach(user, statement("ec2:DescribeInstances"))
    ec2.describe_instances()
    with refused("UnauthorizedOperation", "ec2:DescribeImages because no identity-based policy", 403):
        ec2.describe_images(Owners=["self"])
    user.admin.client("ec2").describe_images(Owners=["self"])
    user.control("DELETE", "policy", access_key=user.access_key)
    ec2.describe_images(Owners=["self"])


def test_the_words_of_ec2_name_user_action_resource_and_an_encoded_message(user):
    instance = launched(user.admin)
    attach(user, statement("ec2:Describe*"))
    arn = f"arn:aws:ec2:us-east-1:{user.account}:instance/{instance}"
    words = (
        "You are not authorized to perform this operation. "
        f"User: arn:aws:iam::{user.account}:user/mia is not authorized to perform: "
        f"ec2:TerminateInstances on resource: {arn} because no identity-based policy allows the "
        "ec2:TerminateInstances action. Encoded authorization failure message: "
    )
    for _ in range(2):
        with refused("UnauthorizedOperation", words, 403):
            user.client("ec2").terminate_instances(InstanceIds=[instance])
    errors = [e["error"] for e in user.admin.journal("TerminateInstances")]
    encoded = [error.rpartition(": ")[2] for error in errors]
    assert encoded[0] != encoded[1], "AWS encodes each denial differently"
    sts = user.admin.client("sts")
    decoded = json.loads(
        sts.decode_authorization_message(EncodedMessage=encoded[0])["DecodedMessage"]
    )
    assert (decoded["allowed"], decoded["explicitDeny"]) == (False, False)
    assert decoded["context"]["resource"] == arn
    with refused("InvalidAuthorizationMessageException"):
        sts.decode_authorization_message(EncodedMessage="nonsense")


def test_an_explicit_deny_wins_and_says_so(user):
    instance = launched(user.admin)
    attach(user, statement("ec2:*"), statement("ec2:Stop*", effect="Deny"))
    with refused("UnauthorizedOperation", "with an explicit deny in an identity-based policy", 403):
        user.client("ec2").stop_instances(InstanceIds=[instance])
    user.client("ec2").terminate_instances(InstanceIds=[instance])


def test_every_resource_of_a_call_is_asked_about(user):
    image = user.admin.image("mine")
    snapshot = next(s["id"] for s in user.state()["snapshots"] if s["image"] == image)
    attach(user, statement("ec2:CreateTags", "arn:aws:ec2:*::image/*"))
    ec2, tags = user.client("ec2"), [{"Key": "a", "Value": "b"}]
    ec2.create_tags(Resources=[image], Tags=tags)
    with refused("UnauthorizedOperation", f"snapshot/{snapshot} because", 403):
        ec2.create_tags(Resources=[image, snapshot], Tags=tags)
    assert not next(s for s in user.state()["snapshots"] if s["id"] == snapshot)["tags"]


def test_a_launch_asks_about_everything_it_uses(user):
    launch = statement("ec2:RunInstances")
    attach(user, launch)
    instance = launched(user)
    kinds = ("image", "instance", "network-interface", "security-group", "subnet", "volume")
    for left_out in kinds:
        denied = statement("ec2:RunInstances", f"arn:aws:ec2:*:*:{left_out}/*", "Deny")
        attach(user, launch, denied)
        with refused("UnauthorizedOperation", f":{left_out}/", 403):
            launched(user)
    instances = {i["id"] for i in user.state()["instances"] if not i["group"]}
    assert instances == {instance}


def test_tags_on_creation_are_an_authorization_of_their_own(user):
    attach(user, statement("ec2:RunInstances"))
    launched(user)
    with refused("UnauthorizedOperation", "ec2:CreateTags on resource: arn:aws:ec2:us-east-1:", 403):
        launched(user, ("instance", {"a": "b"}))
    condition = {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    attach(user, statement("ec2:RunInstances"), statement("ec2:CreateTags", Condition=condition))
    instance = launched(user, ("instance", {"a": "b"}))
    with refused("UnauthorizedOperation", f"instance/{instance}", 403):
        user.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": "a", "Value": "c"}])


def test_request_tags_are_those_of_each_kind_of_resource(user):
    other = statement("ec2:*", [f"arn:aws:ec2:*:*:{k}/*" for k in ("image", "subnet", "network-interface", "security-group")])
    tagged = statement(
        ["ec2:RunInstances", "ec2:CreateTags"],
        ["arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:*:*:volume/*"],
        Condition={"StringLike": {"aws:RequestTag/Build": "b-*"}},
    )
    attach(user, other, tagged)
    with refused("UnauthorizedOperation", ":volume/* because", 403):
        launched(user, ("instance", {"build": "b-1"}))
    with refused("UnauthorizedOperation", ":instance/* because", 403):
        launched(user, ("instance", {"build": "c-1"}), ("volume", {"build": "b-1"}))
    # The tag name in a condition key is not case-sensitive; its value is.
    launched(user, ("instance", {"build": "b-1"}), ("volume", {"build": "b-1"}))


def test_resource_tags_are_those_the_resource_has(user):
    mine, other = launched(user.admin, ("instance", {"team": "a"})), launched(user.admin)
    attach(user, statement("ec2:*", Condition={"StringEquals": {"aws:ResourceTag/team": "a"}}))
    user.client("ec2").stop_instances(InstanceIds=[mine])
    with refused("UnauthorizedOperation", other, 403):
        user.client("ec2").stop_instances(InstanceIds=[mine, other])
    attach(user, statement("ec2:*", Condition={"Null": {"ec2:ResourceTag/team": "true"}}))
    user.client("ec2").stop_instances(InstanceIds=[other])
    with refused("UnauthorizedOperation", mine, 403):
        user.client("ec2").terminate_instances(InstanceIds=[mine])


@pytest.mark.parametrize(
    ("condition", "keys", "allowed"),
    [
        ({"ForAllValues:StringLike": {"aws:TagKeys": ["a*", "b"]}}, ["a1", "b"], True),
        ({"ForAllValues:StringLike": {"aws:TagKeys": ["a*", "b"]}}, ["a1", "c"], False),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a", "b"]}}, ["x", "b"], True),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a", "b"]}}, ["x", "y"], False),
        ({"ForAllValues:StringNotEquals": {"aws:TagKeys": ["a"]}}, ["x", "y"], True),
        ({"ForAllValues:StringNotEquals": {"aws:TagKeys": ["a"]}}, ["x", "a"], False),
        # The values of aws:TagKeys are case-sensitive.
        ({"ForAllValues:StringEquals": {"aws:TagKeys": ["status"]}}, ["Status"], False),
        # An absent set is a subset of every set and has no member.
        ({"ForAllValues:StringEquals": {"ec2:CreateAction": ["x"]}}, ["a"], True),
        ({"ForAnyValue:StringEquals": {"ec2:CreateAction": ["x"]}}, ["a"], False),
        ({"StringEquals": {"ec2:CreateAction": "x"}}, ["a"], False),
        ({"StringEqualsIfExists": {"ec2:CreateAction": "x"}}, ["a"], True),
        ({"StringNotEquals": {"ec2:CreateAction": "x"}}, ["a"], True),
        ({"StringNotEquals": {"aws:RequestTag/a": ["v", "w"]}}, ["a"], False),
        ({"StringEquals": {"aws:RequestTag/a": ["u", "v"]}}, ["a"], True),
        ({"StringEquals": {"aws:RequestTag/a": "v", "aws:RequestTag/b": "v"}}, ["a"], False),
        ({"Null": {"aws:RequestTag/a": "false"}}, ["a"], True),
        ({"Null": {"aws:RequestTag/b": "false"}}, ["a"], False),
        ({"StringLike": {"aws:RequestedRegion": "us-*"}}, ["a"], True),
    ],
)
def test_conditions(user, condition, keys, allowed):
    group = user.admin.client("ec2").create_security_group(GroupName="g", Description="d")["GroupId"]
    attach(user, statement("ec2:CreateTags", Condition=condition))
    tags = [{"Key": key, "Value": "v"} for key in keys]
    if allowed:
        user.client("ec2").create_tags(Resources=[group], Tags=tags)
    else:
        with refused("UnauthorizedOperation", group, 403):
            user.client("ec2").create_tags(Resources=[group], Tags=tags)


def test_security_groups_can_be_told_by_their_network(user):
    ec2 = user.admin.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    groups = {
        where: ec2.create_security_group(GroupName=f"in-{where}", Description="d", VpcId=where)["GroupId"]
        for where in (vpc, user.seed()["vpc"])
    }
    condition = {"ArnLike": {"ec2:Vpc": f"arn:aws:ec2:*:{user.account}:vpc/{vpc}"}}
    attach(user, statement("ec2:DeleteSecurityGroup", Condition=condition))
    user.client("ec2").delete_security_group(GroupId=groups.pop(vpc))
    (other,) = groups.values()
    with refused("UnauthorizedOperation", other, 403):
        user.client("ec2").delete_security_group(GroupId=other)


def test_a_role_is_passed_by_its_own_right_to_its_own_service(user):
    run, role = statement("ec2:*"), f"arn:aws:iam::{user.account}:role/builder"
    attach(user, run)
    with refused("UnauthorizedOperation", f"iam:PassRole on resource: {role}", 403):
        launched(user, IamInstanceProfile={"Name": "builder"})
    for service, allowed in (("eks.amazonaws.com", False), ("ec2.amazonaws.com", True)):
        condition = {"StringEquals": {"iam:PassedToService": service}}
        attach(user, run, statement("iam:PassRole", role, Condition=condition))
        for name in ("builder", "admin"):
            if allowed and name == "builder":
                continue
            with refused("UnauthorizedOperation", "iam:PassRole", 403):
                launched(user, IamInstanceProfile={"Name": name})


def test_an_attribute_can_be_told_from_another(user):
    image = user.admin.image("mine")
    condition = {"StringEquals": {"ec2:Attribute": "Description"}}
    attach(user, statement("ec2:ModifyImageAttribute", Condition=condition))
    ec2, everybody = user.client("ec2"), {"Add": [{"Group": "all"}]}
    ec2.modify_image_attribute(ImageId=image, Description={"Value": "words"})
    with refused("UnauthorizedOperation", image, 403):
        ec2.modify_image_attribute(ImageId=image, LaunchPermission=everybody)
    # EC2 accepts one attribute per call; otherwise, two would be authorized as the first one.
    with refused("InvalidParameterCombination"):
        ec2.modify_image_attribute(
            ImageId=image, Description={"Value": "words"}, LaunchPermission=everybody
        )
    assert not user.admin.client("ec2").describe_images(ImageIds=[image])["Images"][0]["Public"]


def test_a_snapshot_that_one_may_not_delete_outlives_its_image(user):
    image = user.admin.image("mine")
    snapshot = next(s["id"] for s in user.state()["snapshots"] if s["image"] == image)
    attach(user, statement("ec2:DeregisterImage"))
    answer = user.client("ec2").deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    assert answer["DeleteSnapshotResults"] == [
        {"SnapshotId": snapshot, "ReturnCode": "missing-permissions"}
    ]
    assert snapshot in [s["id"] for s in user.state()["snapshots"]]


def test_eks_asks_by_cluster_and_group(user):
    resource = f"arn:aws:eks:*:{user.account}:nodegroup/demo/web/*"
    attach(user, statement("eks:*", resource))
    eks = user.client("eks")
    eks.describe_nodegroup(clusterName="demo", nodegroupName="web")
    words = "eks:DescribeNodegroup on resource: arn:aws:eks:us-east-1:"
    with refused("AccessDeniedException", words, 403):
        eks.describe_nodegroup(clusterName="demo", nodegroupName="batch")
    with refused("AccessDeniedException", ":cluster/demo because no identity-based policy", 403):
        eks.list_nodegroups(clusterName="demo")


def test_eks_launches_nothing_that_its_caller_could_not(user):
    template = user.seed()["node_groups"]["web"]["launch_template"]["id"]
    image = user.admin.image("newer")
    user.admin.client("ec2").create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"ImageId": image}
    )
    roll = statement("eks:*", "*")
    run, tag = statement("ec2:RunInstances"), statement("ec2:CreateTags")
    role = statement("iam:PassRole", f"arn:aws:iam::{user.account}:role/demo-node")

    def update():
        user.client("eks").update_nodegroup_version(
            clusterName="demo", nodegroupName="web", launchTemplate={"id": template, "version": "2"}
        )

    words = (
        "You are not authorized to launch instances with this launch template. "
        "Encoded authorization failure message: "
    )
    for granted in ([tag, role], [run, role], [run, tag]):
        attach(user, roll, *granted)
        with refused("InvalidRequestException", words, 400):
            update()
    assert user.admin.group("web")["status"] == "ACTIVE"
    attach(user, roll, run, tag, role)
    update()
    assert user.admin.group("web")["status"] == "UPDATING"


def test_the_words_of_sns_and_ses(user):
    topic = user.admin.client("sns").create_topic(Name="opsy")["TopicArn"]
    user.admin.client("sesv2").create_email_identity(EmailIdentity="example.com")
    content = {"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "b"}}}}

    def mail(sender: str) -> None:
        user.client("sesv2").send_email(
            FromEmailAddress=sender, Destination={"ToAddresses": ["a@example.org"]}, Content=content
        )

    attach(user, statement("ses:SendEmail", Condition={"StringEquals": {"ses:FromAddress": "opsy@example.com"}}))
    mail("Opsy <opsy@example.com>")
    with refused("AccessDeniedException", "ses:SendEmail on resource: arn:aws:ses:", 403):
        mail("boss@example.com")
    words = f"is not authorized to perform: SNS:Publish on resource: {topic} because no"
    with refused("AuthorizationError", words, 403):
        user.client("sns").publish(TopicArn=topic, Message="m")
    attach(user, statement("sns:Publish", topic))
    user.client("sns").publish(TopicArn=topic, Message="m")


def test_one_may_always_ask_who_one_is(user):
    attach(user, statement("*", effect="Deny"))
    assert user.client("sts").get_caller_identity()["Arn"].endswith(":user/mia")


def test_the_id_of_the_caller_is_the_one_variable(user):
    group = user.admin.client("ec2").create_security_group(GroupName="g", Description="d")["GroupId"]
    own = {"StringEquals": {"aws:RequestTag/by": "${aws:userid}"}}
    attach(user, statement("ec2:CreateTags", Condition=own))
    with refused("UnauthorizedOperation", group, 403):
        user.client("ec2").create_tags(Resources=[group], Tags=[{"Key": "by", "Value": "AIDABOB"}])
    user.client("ec2").create_tags(Resources=[group], Tags=[{"Key": "by", "Value": "AIDAMIA"}])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (statement("ec2:DescribeImage"), "there is no action 'ec2:DescribeImage'"),
        (statement("ec3:Run"), "there is no service 'ec3'"),
        (statement("ec2:*", "instance/*"), "is not an ARN"),
        (statement("ec2:*", "arn:aws:ec2:*:${aws:PrincipalAccount}:x/*"), "no policy variable except"),
        (statement("ec2:*", Condition={"StringIs": {"ec2:Vpc": "x"}}), "unknown condition operator"),
        (statement("ec2:*", Condition={"StringEquals": {"ec2:Colour": "x"}}), "does not support the condition key"),
        (statement("ec2:*", Condition={"StringEquals": {"aws:TagKeys": "x"}}), "can have several values"),
        (statement("ec2:*", Condition={"Null": {"ec2:Vpc": "no"}}), "must be true or false"),
        (statement("ec2:*", effect="Permit"), "Effect must be Allow or Deny"),
        ({**statement("ec2:*"), "Principal": "*"}, "unknown members ['Principal']"),
        ({**statement("ec2:*"), "Sid": "look at"}, "must contain only letters and digits"),
        ({"Effect": "Allow", "Action": "ec2:*"}, "needs Resource or NotResource"),
        (statement([f"ec2:Describe{'*' * n}" for n in range(120)]), "IAM allows at most 6144"),
    ],
)
def test_a_document_the_bed_cannot_evaluate_is_refused(user, given, reason):
    with pytest.raises(ControlError, match=re.escape(reason)):
        attach(user, given)


def test_an_operation_of_unknown_resources_is_refused_loudly(user):
    attach(user, statement("ec2:*"))
    with refused("UnsupportedOperation", "does not know which resources IAM authorizes", 400):
        user.client("ec2").create_vpc(CidrBlock="10.1.0.0/16")


def test_what_is_not_named_can_be_allowed_too(user):
    group = user.admin.client("ec2").create_security_group(GroupName="g", Description="d")["GroupId"]
    given = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:ec2:*:*:vpc/*"}
    attach(user, given)
    user.client("ec2").delete_security_group(GroupId=group)
    with refused("UnauthorizedOperation", ":vpc/", 403):
        user.client("ec2").create_security_group(GroupName="g", Description="d")
