"""The optional policies of deploy/iam, and all policies in other partitions, evaluated without calls."""

import re

import pytest
from opsybed.iam_files import FOLDER, PLACEHOLDER, documents
from opsybed.iam_launch import launch, pass_role
from opsybed.iam_policy import policy_of
from opsybed.iam_scope import Check, Scope

ACCOUNT = "100000000000"
VALUES = {
    "BUILD_ROLE": "build",
    "KEY": "11111111-2222",
    "SHARED_WITH": "200000000000",
    "VPC": "vpc-1",
}
REGIONS = {"us-east-1": "aws", "us-gov-west-1": "aws-us-gov", "cn-north-1": "aws-cn"}
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.json"))
OURS = {"aws:resourcetag/opsy.dev/build": ["b-1"]}
BORN = {"aws:requesttag/opsy.dev/build": ["b-1"], "aws:tagkeys": ["opsy.dev/build"]}


def policy(*names: str, region: str = "us-east-1"):
    return policy_of(documents(list(names), ACCOUNT, region, VALUES))


def ec2(action: str, resource: str, context: dict | None = None) -> Check:
    kind = resource.partition("/")[0]
    account = "" if kind in ("image", "snapshot") else ACCOUNT
    return Check(f"ec2:{action}", f"arn:aws:ec2:us-east-1:{account}:{resource}", context or {})


def created(action: str) -> dict:
    return {**BORN, "ec2:createaction": [action]}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("name", FILES)
def test_every_policy_is_one_of_its_partition(name, region):
    (document,) = documents([name], ACCOUNT, region, VALUES)
    policy_of([document])
    text = str(document)
    assert set(re.findall(r"arn:(aws[\w-]*):", text)) <= {REGIONS[region]}
    assert not set(PLACEHOLDER.findall(text)) - set(VALUES.values()), "a placeholder was not replaced"


@pytest.mark.parametrize("region", REGIONS)
def test_nodes_roles_are_passed_to_ec2_as_each_partition_calls_it(region):
    scope = Scope(ACCOUNT, region)
    allowed = policy("agent.json", region=region)
    assert allowed.decide(pass_role(scope, scope.role("demo-node")))[0]
    assert not allowed.decide(pass_role(scope, scope.role("admin")))[0]
    assert not allowed.decide(pass_role(scope, scope.role("demo-node"), "lambda.amazonaws.com"))[0]


def session(name: str, of: str | None = None) -> Check:
    """Check the termination of a session; a tag names the user who started it."""
    context = {"ssm:resourcetag/aws:ssmmessages:session-id": [of]} if of else {}
    return Check("ssm:TerminateSession", f"arn:aws:ssm:us-east-1:{ACCOUNT}:session/{name}", context)


KMS = {"kms:viaservice": ["ec2.us-east-1.amazonaws.com"]}
KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/11111111-2222"
# The resources with which a fleet of Packer launches
LAUNCHED = (
    "image", "instance", "key-pair", "network-interface", "security-group", "spot-instances-request",
    "subnet", "volume",
)  # fmt: skip
COPY = {"aws:resourcetag/opsy.dev/copy": ["true"]}
BORN_COPY = {**BORN, "aws:requesttag/opsy.dev/copy": ["true"]}
VPC = {"ec2:vpc": [f"arn:aws:ec2:us-east-1:{ACCOUNT}:vpc/vpc-1"]}
OTHER_VPC = {"ec2:vpc": [f"arn:aws:ec2:us-east-1:{ACCOUNT}:vpc/vpc-2"]}
ROLE = {"ec2:instanceprofile": [f"arn:aws:iam::{ACCOUNT}:instance-profile/build"]}
OTHER_ROLE = {"ec2:instanceprofile": [f"arn:aws:iam::{ACCOUNT}:instance-profile/shop"]}
NAMED = {"aws:resourcetag/name": ["shop"]}
ACTIVE = {"aws:resourcetag/status": ["active"]}
DESCRIPTION = {"ec2:attribute": ["Description"]}
# The policy, the checks that it allows, and those that it denies.
ROWS = [
    ("build-instance-profile",
     [pass_role(Scope(ACCOUNT, "us-east-1"), f"arn:aws:iam::{ACCOUNT}:role/build")],
     [pass_role(Scope(ACCOUNT, "us-east-1"), f"arn:aws:iam::{ACCOUNT}:role/admin"),
      pass_role(Scope(ACCOUNT, "us-east-1"), f"arn:aws:iam::{ACCOUNT}:role/build", "eks.amazonaws.com")]),
    ("build-session-manager",
     [Check("ssm:StartSession", f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/i-1", OURS),
      session("AIDAOPSY-0a1b"), session("role-session-0a1b", "AIDAOPSY")],
     [Check("ssm:StartSession", f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/i-1", {}),
      Check("ssm:StartSession", "arn:aws:ssm:us-east-1::document/AWS-RunShellScript", {}),
      session("AIDAOPERATOR-0a1b"), session("bob-0a1b", "AIDABOB"), session("AIDAOPSY2-0a1b")]),
    ("build-spot",
     [ec2("CreateLaunchTemplate", "launch-template/*"), ec2("CreateFleet", "fleet/*"),
      ec2("CreateFleet", "launch-template/lt-1"), ec2("RunInstances", "launch-template/lt-1"),
      *(ec2("CreateFleet", f"{kind}/*") for kind in LAUNCHED),
      ec2("RunInstances", "spot-instances-request/*"),
      ec2("DeleteLaunchTemplate", "launch-template/lt-1"),
      ec2("CreateTags", "instance/*", created("CreateFleet"))],
     [ec2("DeleteLaunchTemplate", "launch-template/lt-1", {"aws:resourcetag/opsy.dev/roll": ["true"]}),
      ec2("DeleteLaunchTemplate", "launch-template/lt-1", {"aws:resourcetag/name": ["shop"]}),
      ec2("CreateLaunchTemplateVersion", "launch-template/lt-1"),
      ec2("CreateTags", "launch-template/lt-1", BORN), ec2("RunInstances", "instance/*"),
      ec2("CreateFleet", "snapshot/snap-1")]),
    ("build-regions",
     [ec2("CopyImage", "image/ami-1", OURS), ec2("CopyImage", "image/*"), ec2("CopyImage", "snapshot/*"),
      ec2("CreateTags", "image/*", created("CopyImage")), ec2("CreateTags", "snapshot/snap-1", BORN)],
     [ec2("CopyImage", "image/ami-1"), ec2("CreateTags", "image/ami-1", BORN),
      ec2("DeleteSnapshot", "snapshot/snap-1", OURS),
      ec2("ModifySnapshotAttribute", "snapshot/snap-1", {**OURS, "ec2:add/userid": ["200000000000"]})]),
    ("build-share",
     [ec2("ModifyImageAttribute", "image/ami-1", OURS),
      ec2("ModifySnapshotAttribute", "snapshot/snap-1", {**OURS, "ec2:add/userid": ["200000000000"]})],
     [ec2("ModifyImageAttribute", "image/ami-1"),
      ec2("ModifySnapshotAttribute", "snapshot/snap-1", {"ec2:add/userid": ["200000000000"]}),
      ec2("ModifySnapshotAttribute", "snapshot/snap-1", {**OURS, "ec2:add/userid": ["300000000000"]}),
      ec2("ModifySnapshotAttribute", "snapshot/snap-1", {**OURS, "ec2:add/group": ["all"]})]),
    ("build-ebssurrogate",
     [ec2("CreateSnapshot", "volume/vol-1", OURS), ec2("CreateSnapshot", "snapshot/*", BORN),
      ec2("RegisterImage", "image/*"), ec2("RegisterImage", "snapshot/snap-1", OURS),
      ec2("CreateTags", "snapshot/*", created("CreateSnapshot")), ec2("CreateTags", "image/ami-1", BORN),
      ec2("ModifyImageAttribute", "image/ami-1", DESCRIPTION), ec2("DeleteSnapshot", "snapshot/snap-1", OURS)],
     [ec2("CreateSnapshot", "volume/vol-1"), ec2("RegisterImage", "snapshot/snap-1"),
      ec2("CreateSnapshot", "snapshot/*"), ec2("CreateTags", "snapshot/snap-1", BORN),
      ec2("CreateTags", "image/ami-1", {**BORN, **NAMED}), ec2("CreateTags", "image/ami-1", {**BORN, **ACTIVE}),
      ec2("ModifyImageAttribute", "image/ami-1", {**DESCRIPTION, **NAMED}),
      ec2("DeregisterImage", "image/ami-1", OURS)]),
    ("build-ebssurrogate-create-image",
     [ec2(action, resource, OURS) for action in ("AttachVolume", "DetachVolume")
      for resource in ("instance/i-1", "volume/vol-1")],
     [ec2(action, resource) for action in ("AttachVolume", "DetachVolume")
      for resource in ("instance/i-1", "volume/vol-1")]),
    ("build-encrypt-boot",
     [ec2("CopyImage", "image/ami-1", OURS), ec2("CopyImage", "image/*"), ec2("CopyImage", "snapshot/*"),
      ec2("CreateTags", "image/*", created("CopyImage")), ec2("CreateTags", "snapshot/snap-1", BORN_COPY),
      ec2("DeleteSnapshot", "snapshot/snap-1", OURS)],
     [ec2("CopyImage", "image/ami-1"), ec2("CreateTags", "image/ami-1", BORN_COPY),
      ec2("CreateTags", "image/*", {**created("CopyImage"), "aws:tagkeys": ["opsy.dev/build", "status"]}),
      ec2("CreateTags", "snapshot/snap-1", BORN), ec2("DeleteSnapshot", "snapshot/snap-1", {**OURS, **COPY}),
      ec2("DeleteSnapshot", "snapshot/snap-1")]),
    ("build-govcloud",
     [ec2("CreateImage", "image/*"), ec2("CreateImage", "snapshot/*"), ec2("CreateTags", "image/ami-1", BORN),
      ec2("CreateTags", "snapshot/snap-1", BORN), ec2("ModifyImageAttribute", "image/ami-1", DESCRIPTION),
      ec2("ModifyImageAttribute", "image/ami-1", {"ec2:attribute": ["ImdsSupport"]})],
     [ec2("CreateImage", "instance/i-1"), ec2("RunInstances", "instance/*"),
      ec2("CreateTags", "image/ami-1", {**BORN, **NAMED}), ec2("CreateTags", "snapshot/snap-1", {**BORN, **NAMED}),
      ec2("CreateTags", "instance/i-1", BORN), ec2("DeregisterImage", "image/ami-1", OURS),
      ec2("DeleteSnapshot", "snapshot/snap-1", OURS), ec2("RegisterImage", "snapshot/snap-1", OURS)]),
    ("build-china",
     [ec2("RunInstances", "instance/*"), ec2("CreateTags", "instance/i-1", BORN),
      ec2("CreateTags", "instance/i-1", {**BORN, **ROLE}), ec2("CreateTags", "volume/vol-1", BORN),
      ec2("CreateTags", "network-interface/eni-1", {**BORN, **VPC})],
     [ec2("RunInstances", "subnet/subnet-1", OTHER_VPC), ec2("CreateTags", "instance/i-1", {**BORN, **NAMED}),
      ec2("CreateTags", "instance/i-1", {**BORN, **OTHER_ROLE}),
      ec2("CreateTags", "instance/i-1", {**BORN, "aws:resourcetag/aws:autoscaling:groupname": ["web"]}),
      ec2("CreateTags", "network-interface/eni-1", {**BORN, **OTHER_VPC}),
      ec2("CreateTags", "volume/vol-1", {**BORN, **NAMED}), ec2("DeleteVolume", "volume/vol-1", OURS),
      ec2("CreateSnapshot", "volume/vol-1", OURS)]),
    ("agent-china",
     [ec2("TerminateInstances", "instance/i-1"), ec2("TerminateInstances", "instance/i-1", ROLE)],
     [ec2("TerminateInstances", "instance/i-1", NAMED), ec2("TerminateInstances", "instance/i-1", OTHER_ROLE),
      ec2("TerminateInstances", "instance/i-1", {"aws:resourcetag/aws:autoscaling:groupname": ["web"]})]),
    ("build-deregistration-protection",
     [ec2("EnableImageDeregistrationProtection", "image/ami-1", OURS)],
     [ec2("DisableImageDeregistrationProtection", "image/ami-1")]),
    ("build-kms",
     [Check("kms:GenerateDataKeyWithoutPlaintext", KEY, KMS),
      Check("kms:CreateGrant", KEY, {**KMS, "kms:grantisforawsresource": ["true"]})],
     [Check("kms:Decrypt", KEY, {}), Check("kms:CreateGrant", KEY, KMS),
      Check("kms:Decrypt", KEY.replace("1111", "9999"), KMS)]),
    ("agent-kms",
     [Check("kms:Decrypt", KEY, KMS)],
     [Check("kms:Decrypt", KEY, {"kms:viaservice": ["s3.us-east-1.amazonaws.com"]})]),
    ("agent-placement",
     [ec2("RunInstances", "placement-group/pg"), ec2("RunInstances", "capacity-reservation/cr-1"),
      Check("ec2:RunInstances", f"arn:aws:resource-groups:us-east-1:{ACCOUNT}:group/hosts", {}),
      Check("ec2:RunInstances", f"arn:aws:license-manager:us-east-1:{ACCOUNT}:license-configuration:lic-1", {})],
     [ec2("TerminateInstances", "instance/i-1")]),
    ("agent-untagged-templates",
     [ec2("CreateTags", "image/ami-1", BORN),
      ec2("DeregisterImage", "image/ami-1", {**OURS, "aws:resourcetag/status": ["new"]})],
     [ec2("CreateTags", "image/ami-1", {"aws:tagkeys": ["Name"]}), ec2("CreateTags", "instance/i-1", BORN),
      ec2("DeregisterImage", "image/ami-1", {"aws:resourcetag/status": ["new"]}),
      ec2("DeregisterImage", "image/ami-1", {**OURS, **ACTIVE})]),
    ("agent-packer-1.6",
     [ec2("DeleteKeyPair", "key-pair/packer_1"),
      ec2("DeleteSecurityGroup", "security-group/sg-1",
          {"ec2:vpc": [f"arn:aws:ec2:us-east-1:{ACCOUNT}:vpc/vpc-1"]})],
     [ec2("DeleteKeyPair", "key-pair/admin"),
      ec2("DeleteSecurityGroup", "security-group/sg-1",
          {"ec2:vpc": [f"arn:aws:ec2:us-east-1:{ACCOUNT}:vpc/vpc-2"]}),
      ec2("DeregisterImage", "image/ami-1")]),
    ("agent-packer-1.6-images",
     [ec2("DeregisterImage", "image/ami-1"), ec2("DeleteSnapshot", "snapshot/snap-1")],
     [ec2("DeregisterImage", "image/ami-1", {"aws:resourcetag/name": ["golden"]}),
      ec2("DeregisterImage", "image/ami-1", {"aws:resourcetag/status": ["active"]})]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "allowed", "denied"), ROWS, ids=[row[0] for row in ROWS])
def test_an_optional_policy_adds_what_it_says_and_no_more(name, allowed, denied):
    base = policy(f"{name.partition('-')[0]}.json")
    with_it = policy(f"{name.partition('-')[0]}.json", f"optional/{name}.json")
    for check in allowed:
        assert with_it.decide(check)[0], check
    assert not all(base.decide(check)[0] for check in allowed), "the policy adds nothing"
    for check in denied:
        assert not with_it.decide(check)[0], check


def test_every_optional_policy_has_its_row():
    tried = {f"optional/{row[0]}.json" for row in ROWS} | {"optional/build-packer-1.6.json"}
    assert {name for name in FILES if name.startswith("optional/")} == tried


def test_a_launch_template_asks_about_where_its_nodes_are_placed():
    host_group = f"arn:aws:resource-groups:us-east-1:{ACCOUNT}:group/hosts"
    asked = {
        "InstanceType": "m6i.large",
        "Placement": {"GroupName": "close", "HostResourceGroupArn": host_group},
        "CapacityReservationSpecification": {
            "CapacityReservationTarget": {"CapacityReservationId": "cr-1"}
        },
    }
    checks = list(launch(Scope(ACCOUNT, "us-east-1"), asked))
    base, more = policy("agent.json"), policy("agent.json", "optional/agent-placement.json")
    denied = {c.resource for c in checks if not base.decide(c)[0]}
    prefix = f"arn:aws:ec2:us-east-1:{ACCOUNT}"
    assert denied == {f"{prefix}:placement-group/close", f"{prefix}:capacity-reservation/cr-1", host_group}
    assert all(more.decide(check)[0] for check in checks)
