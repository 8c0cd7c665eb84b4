"""Real Packer builds with build.json and the optional policies they need: nothing is denied, nothing is left behind."""

import subprocess

import pytest
from helpers import refused
from policies import Account
from test_packer import BUILD_SECONDS

TEMPLATE = """
variable "source_ami" {{}}
variable "endpoint" {{}}
variable "tags" {{ type = map(string) }}
source "{builder}" "node" {{
  region              = "{region}"
  custom_endpoint_ec2 = var.endpoint
  source_ami          = var.source_ami
  ami_name            = "{name}"
  ami_description     = "words"
  communicator        = "none"
  run_tags            = var.tags
  run_volume_tags     = var.tags
  tags                = merge(var.tags, {{ Name = "node" }}, {{ {tags} }})
  snapshot_tags       = var.tags
  {more}
}}
build {{ sources = ["source.{builder}.node"] }}
"""
TYPE = 'instance_type = "t3.small"'
IMDS = 'imds_support = "v2.0"'
SPOT = ['spot_price = "auto"', 'spot_instance_types = ["t3.small"]']
# A volume that becomes the root device of the image.
SURROGATE = """
  ami_virtualization_type = "hvm"
  launch_block_device_mappings {
    device_name           = "/dev/xvdf"
    volume_size           = 16
    volume_type           = "gp3"
    delete_on_termination = true
  }
  ami_root_device {
    source_device_name    = "/dev/xvdf"
    device_name           = "/dev/xvda"
    volume_size           = 16
    volume_type           = "gp3"
    delete_on_termination = true
  }
"""
CREATE_IMAGE = "use_create_image = true"
CHINA = ["build-packer-1.6", "build-china"]
ENCRYPT = ["build-encrypt-boot"]
# The tag that marks the snapshot of a copy
COPY = '"opsy.dev/copy" = "true"'


def case(name: str, policies: list[str], *lines: str, packer="current", region="us-east-1"):
    return pytest.param(packer, policies, [TYPE, *lines], region, id=name)


# Packer, its optional policies, lines of the template, and the region of the build.
BUILDS = [
    case("packer-1.6", ["build-packer-1.6"], packer="1.6"),
    case("current", [], IMDS),
    case("regions", ["build-regions"], 'ami_regions = ["eu-west-1"]'),
    pytest.param("current", ["build-spot"], SPOT, "us-east-1", id="spot"),
    case("encrypt-boot", ENCRYPT, "encrypt_boot = true", 'ami_regions = ["eu-west-1"]'),
    case("surrogate", ["build-ebssurrogate"], IMDS, SURROGATE),
    case("surrogate-create-image", ["build-ebssurrogate-create-image"], IMDS, SURROGATE, CREATE_IMAGE),
    case("govcloud", ["build-govcloud"], IMDS, region="us-gov-west-1"),
    case("govcloud-surrogate", ["build-ebssurrogate"], SURROGATE, region="us-gov-west-1"),
    case("china", CHINA, IMDS, region="cn-north-1"),
    case("china-packer-1.6", CHINA, packer="1.6", region="cn-north-1"),
]


def build(account: Account, packer, environment: dict, folder, lines: list[str], name="node", tags=""):
    """Run Packer, and return the result and the denied calls."""
    template = folder / "node.pkr.hcl"
    builder = "amazon-ebssurrogate" if SURROGATE in lines else "amazon-ebs"
    more = "\n  ".join(lines)
    text = TEMPLATE.format(name=name, builder=builder, region=account.region, tags=tags, more=more)
    template.write_text(text)
    environment = environment | {
        "AWS_ACCESS_KEY_ID": account.packer.access_key,
        "PKR_VAR_source_ami": account.ids["base_images"]["v20260801"],
        "PKR_VAR_endpoint": account.root.endpoint,
        "PKR_VAR_tags": '{"opsy.dev/build"="b-1","opsy.dev/owner"="me"}',
    }
    result = subprocess.run(
        [packer, "build", template],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )
    denied = [e["error"] for e in account.root.journal() if e["status"] == 403]
    return result, denied


@pytest.mark.parametrize(("packer", "policies", "lines", "region"), BUILDS, indirect=["packer"])
def test_a_build_needs_no_more_than_its_policies(
    server, bed, packer, packer_environment, tmp_path, policies, lines, region
):
    account = Account(server, bed, region)
    account.restrict(build=tuple(policies), BUILD_ROLE="builder")
    tags = COPY if policies == ENCRYPT else ""
    result, denied = build(account, packer, packer_environment, tmp_path, lines, tags=tags)
    account.close()
    assert (result.returncode, denied) == (0, []), result.stdout
    state = bed.control("GET", "state", region=region)
    image = next(i for i in state["images"] if i["name"] == "node")
    snapshot = next(s for s in state["snapshots"] if s["id"] == image["snapshot"])
    assert image["tags"]["opsy.dev/build"] == snapshot["tags"]["opsy.dev/build"] == "b-1"
    assert not any(state["leftovers"].values()), state["leftovers"]
    assert not [t for t in state["launch_templates"] if t["name"].startswith("packer-")]


def profile(bed, name: str, role: str) -> None:
    iam = bed.client("iam")
    iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)


CURRENT = pytest.mark.parametrize("packer", ["current"], indirect=True)


@CURRENT
@pytest.mark.parametrize(
    ("region", "policies", "action"),
    [
        ("us-gov-west-1", [], "CreateImage"),
        ("cn-north-1", ["build-packer-1.6"], "RunInstances"),
    ],
)
def test_in_these_partitions_a_build_needs_a_policy_of_its_own(
    server, bed, packer, packer_environment, tmp_path, region, policies, action
):
    account = Account(server, bed, region)
    account.restrict(build=tuple(policies))
    result, denied = build(account, packer, packer_environment, tmp_path, [TYPE])
    account.close()
    assert result.returncode == 1, result.stdout
    assert f"is not authorized to perform: ec2:{action} on resource: " in denied[0]


@CURRENT
def test_a_build_with_an_instance_profile_needs_its_policy(
    server, bed, packer, packer_environment, tmp_path
):
    account = Account(server, bed)
    profile(bed, "builder", "builder")
    lines = [TYPE, 'iam_instance_profile = "builder"']
    account.restrict()
    result, denied = build(account, packer, packer_environment, tmp_path, lines)
    assert result.returncode == 1, result.stdout
    assert "is not authorized to perform: iam:GetInstanceProfile on resource: " in denied[0]
    assert "Couldn't find specified instance profile" in result.stdout
    assert not bed.journal("RunInstances")

    account.restrict(build=("build-instance-profile",), BUILD_ROLE="builder")
    result, denied = build(account, packer, packer_environment, tmp_path, lines)
    account.close()
    assert (result.returncode, len(denied)) == (0, 1), (result.stdout, denied)
    (launched,) = bed.journal("RunInstances")
    assert launched["params"]["IamInstanceProfile"] == {"Name": "builder"}
    assert not any(bed.state()["leftovers"].values())


def test_only_the_role_of_the_policy_is_passed(server, bed):
    account = Account(server, bed)
    profile(bed, "builder", "builder")
    profile(bed, "dressed-up", "admin")
    account.restrict(build=("build-instance-profile",), BUILD_ROLE="builder")
    account.instance(account.packer, IamInstanceProfile={"Name": "builder"})
    with refused("UnauthorizedOperation", "is not authorized to perform: iam:PassRole", 403):
        account.instance(account.packer, IamInstanceProfile={"Name": "dressed-up"})
    with refused("InvalidParameterValue", "Invalid IAM Instance Profile name"):
        account.instance(bed, IamInstanceProfile={"Name": "none"})
    account.close()


def kms_key(bed) -> str:
    return bed.client("kms").create_key()["KeyMetadata"]["KeyId"]


def encrypted(bed, name: str) -> bool:
    ec2 = bed.client("ec2")
    (image,) = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])["Images"]
    snapshot = image["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    return ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["Encrypted"]


@CURRENT
def test_an_image_is_encrypted_by_a_key_only_with_its_policy(
    server, bed, packer, packer_environment, tmp_path
):
    """Packer deletes the snapshot that it has copied, and must not be able to delete others."""
    account = Account(server, bed)
    key = kms_key(bed)
    lines = [TYPE, "encrypt_boot = true", f'kms_key_id = "{key}"']
    account.restrict(build=("build-encrypt-boot",))
    result, denied = build(account, packer, packer_environment, tmp_path, lines, tags=COPY)
    assert (result.returncode, denied) == (1, []), result.stdout
    (failed,) = [i for i in bed.client("ec2").describe_images(Owners=["self"])["Images"] if i["Name"] == "node"]
    assert failed["State"] == "failed"
    assert "Given key ID is not accessible" in failed["StateReason"]["Message"]
    bed.client("ec2").deregister_image(ImageId=failed["ImageId"], DeleteAssociatedSnapshots=True)

    account.restrict(build=("build-encrypt-boot", "build-kms"), KEY=key)
    result, denied = build(account, packer, packer_environment, tmp_path, lines, tags=COPY)
    assert (result.returncode, denied) == (0, []), result.stdout
    assert encrypted(bed, "node")
    assert not any(bed.state()["leftovers"].values())

    result, denied = build(account, packer, packer_environment, tmp_path, lines, "again")
    account.close()
    assert result.returncode == 1
    assert "is not authorized to perform: ec2:CreateTags" in denied[0], "a copy must be marked as one"
