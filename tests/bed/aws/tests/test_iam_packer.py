"""Real Packers under build.json, with what else each needs: nothing is denied, and nothing is left."""

import subprocess

import pytest
from policies import Account
from test_packer import BUILD_SECONDS

TEMPLATE = """
variable "source_ami" {{}}
variable "endpoint" {{}}
variable "tags" {{ type = map(string) }}
source "amazon-ebs" "node" {{
  region              = "us-east-1"
  custom_endpoint_ec2 = var.endpoint
  source_ami          = var.source_ami
  ami_name            = "node"
  ami_description     = "words"
  communicator        = "none"
  run_tags            = var.tags
  run_volume_tags     = var.tags
  tags                = merge(var.tags, {{ Name = "node" }})
  snapshot_tags       = var.tags
  {more}
}}
build {{ sources = ["source.amazon-ebs.node"] }}
"""
TYPE = 'instance_type = "t3.small"'
# Packer, its optional policies, lines of the template.
BUILDS = [
    pytest.param("1.6", ["build-packer-1.6"], [TYPE], id="packer-1.6"),
    pytest.param("current", [], [TYPE, 'imds_support = "v2.0"'], id="current"),
    pytest.param("current", ["build-regions"], [TYPE, 'ami_regions = ["eu-west-1"]'], id="regions"),
    pytest.param(
        "current",
        ["build-spot"],
        ['spot_price = "auto"', 'spot_instance_types = ["t3.small"]'],
        id="spot",
    ),
]


@pytest.mark.parametrize(("packer", "policies", "lines"), BUILDS, indirect=["packer"])
def test_a_build_needs_no_more_than_its_policies(
    server, bed, packer, packer_environment, tmp_path, policies, lines
):
    account = Account(server, bed)
    account.restrict(build=tuple(policies))
    template = tmp_path / "node.pkr.hcl"
    template.write_text(TEMPLATE.format(more="\n  ".join(lines)))
    environment = packer_environment | {
        "AWS_ACCESS_KEY_ID": account.packer.access_key,
        "PKR_VAR_source_ami": account.ids["base_images"]["v20260801"],
        "PKR_VAR_endpoint": bed.endpoint,
        "PKR_VAR_tags": '{"opsy.dev/build"="b-1","opsy.dev/owner"="me"}',
    }
    result = subprocess.run(
        [packer, "build", template],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )
    account.close()
    denied = [e["error"] for e in bed.journal() if e["status"] == 403]
    assert (result.returncode, denied) == (0, []), result.stdout
    state = bed.state()
    image = next(i for i in state["images"] if i["name"] == "node")
    assert image["tags"]["opsy.dev/build"] == "b-1"
    assert not any(state["leftovers"].values()), state["leftovers"]
    assert not [t for t in state["launch_templates"] if t["name"].startswith("packer-")]
