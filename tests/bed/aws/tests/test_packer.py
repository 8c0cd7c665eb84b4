"""Real Packer, old and current, against the bed, with and without provisioning over SSH."""

import os
import subprocess
from pathlib import Path

from bedkit.process import is_running

TEMPLATE = Path(__file__).with_name("node.pkr.hcl")
PROVISIONED = Path(__file__).with_name("provisioned.pkr.hcl")
# A build takes one to two seconds, and much longer on a loaded machine.
BUILD_SECONDS = 120


def build(bed, environment, template: Path, name: str, **variables) -> subprocess.CompletedProcess:
    variables |= {
        "endpoint": bed.endpoint,
        "source_ami": bed.seed()["base_images"]["v20260801"],
        "ami_name": name,
    }
    flags = [flag for k, v in variables.items() for flag in ("-var", f"{k}={v}")]
    return subprocess.run(
        ["packer", "build", "-machine-readable", *flags, str(template)],
        env=environment,
        cwd=environment["HOME"],
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )


def test_a_build_without_communicator_leaves_an_image_and_nothing_else(bed, packer_environment):
    result = build(bed, packer_environment, TEMPLATE, "opsy-plain")
    assert result.returncode == 0, result.stdout
    state = bed.state()
    image = next(i for i in state["images"] if i["name"] == "opsy-plain")
    assert image["state"] == "available"
    assert image["tags"]["status"] == "new"
    assert f"artifact,0,id,us-east-1:{image['id']}" in result.stdout
    snapshot = next(s for s in state["snapshots"] if s["image"] == image["id"])
    assert snapshot["tags"]["kind"] == "node"
    assert not any(state["leftovers"].values()), state["leftovers"]
    assert len(bed.journal("RunInstances")) == len(bed.journal("CreateImage")) == 1


def test_a_build_provisions_over_ssh(bed, server, packer_environment, tmp_path):
    note = f"/tmp/{bed.account}-provisioned"
    result = build(
        bed,
        packer_environment,
        PROVISIONED,
        "opsy-ssh",
        ssh_user=server["ssh_user"],
        ssh_port=server["ssh_port"],
        note=note,
    )
    assert result.returncode == 0, result.stdout
    assert "provisioned as " + server["ssh_user"] in result.stdout
    # the background process of the script ended with its instance
    assert not is_running(int(Path(note).read_text()))
    assert not any(bed.state()["leftovers"].values())
    Path(note).unlink()


def test_a_failing_provisioner_fails_the_build_and_is_cleaned_up(bed, server, packer_environment):
    result = build(
        bed,
        packer_environment,
        PROVISIONED,
        "opsy-broken",
        ssh_user=server["ssh_user"],
        ssh_port=server["ssh_port"],
        note="/nonexistent/note",
    )
    assert result.returncode == 1
    assert "Script exited with non-zero exit status" in result.stdout
    state = bed.state()
    assert not any(state["leftovers"].values())
    assert not [i for i in state["images"] if i["name"] == "opsy-broken"]


def test_a_taken_name_fails_before_anything_is_started(bed, packer_environment):
    assert build(bed, packer_environment, TEMPLATE, "opsy-twice").returncode == 0
    result = build(bed, packer_environment, TEMPLATE, "opsy-twice")
    assert result.returncode == 1
    assert "is used by an existing AMI" in result.stdout
    assert len(bed.journal("RunInstances")) == 1


def test_an_image_that_fails_fails_the_build(bed, packer_environment):
    bed.fault("image-fails", count=1)
    result = build(bed, packer_environment, TEMPLATE, "opsy-failed")
    assert result.returncode == 1
    assert "Error waiting for AMI" in result.stdout


def test_a_build_copies_its_image_into_other_regions(bed, packer_environment, tmp_path):
    template = tmp_path / "node.pkr.hcl"
    regions = 'ami_regions = ["us-east-1", "eu-west-1"]'
    text = TEMPLATE.read_text()
    template.write_text(text.replace("  communicator ", f"  {regions}\n  communicator ", 1))
    assert regions in template.read_text()
    result = build(bed, packer_environment, template, "opsy-copied")
    assert result.returncode == 0, result.stdout
    assert "Copying to: eu-west-1" in result.stdout
    home, copied = bed.state(), bed.control("GET", "state", region="eu-west-1")
    image = next(i for i in home["images"] if i["name"] == "opsy-copied")
    (copy,) = copied["images"]
    assert (copy["name"], copy["source_image"]) == ("opsy-copied", image["id"])
    assert copy["tags"] == image["tags"]
    (snapshot,) = copied["snapshots"]
    assert snapshot["tags"]["kind"] == "node"
    assert not any(copied["leftovers"].values()), copied["leftovers"]


def test_only_the_old_packer_waits_for_an_image_that_is_seen_late(bed, packer_environment, packer):
    bed.seed()
    bed.control("POST", "settings", stale_images_seconds=2, stale_snapshots_seconds=2)
    result = build(bed, packer_environment, TEMPLATE, "opsy-late")
    assert [e for e in bed.journal("DescribeImages") if "NotFound" in (e["error"] or "")]
    image = next(i for i in bed.state()["images"] if i["name"] == "opsy-late")
    if str(packer.parent) == os.environ["OPSY_BED_PACKER"]:
        # It gives up and leaves an image that has only the tags of the instance.
        assert result.returncode == 1
        assert "Unknown error waiting for AMI" in result.stdout
        assert image["tags"] == {"build": "b-1"}
    else:
        assert result.returncode == 0, result.stdout
        assert image["tags"]["status"] == "new"
    assert not any(bed.state()["leftovers"].values())
