"""One bed for the whole run, in which every test has its own account."""

import itertools
import os
import shutil
from pathlib import Path

import pytest
from awsclient import Bed
from connected import Connected
from policies import Account

from bedkit import launch

_numbers = itertools.count(100000000001)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    port_file = tmp_path_factory.mktemp("bed") / "bed.json"
    with launch.bed("aws", port_file, "--ssh", output=None) as info:
        yield info


@pytest.fixture
def bed(server):
    bed = Bed(server, str(next(_numbers)))
    yield bed
    bed.release()


@pytest.fixture(scope="session")
def plane(tmp_path_factory):
    """The address of a real Kubernetes control plane."""
    folder = tmp_path_factory.mktemp("controlplane")
    with launch.control_plane(folder, folder / "address.json") as address:
        yield address


@pytest.fixture
def connected(bed, plane):
    """The seeded cluster of an account with a frozen clock, connected to the control plane."""
    cluster = Connected(bed, plane)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def silent(server, plane):
    """A connected cluster with a node whose heartbeats have stopped, which the control plane sees after 16 seconds."""
    taint = {"key": "silent", "effect": "NoSchedule"}
    cluster = Connected(Bed(server, str(next(_numbers))), plane, taints=[taint])
    name = cluster.known(group="batch")[0]["name"]
    cluster.bed.control("POST", "node", name=name, heartbeat=False)
    yield cluster
    cluster.close()


@pytest.fixture
def account(server, bed):
    """An account whose agent and Packer are restricted by their policies."""
    account = Account(server, bed)
    account.restrict()
    yield account
    account.close()


@pytest.fixture(params=["1.6", "current"])
def packer(request) -> Path:
    """The program: Debian's with built-in builders, or a current one next to the directory of its plugins."""
    if request.param == "1.6":
        program = shutil.which("packer")
    else:
        program = shutil.which("packer", path=os.environ.get("OPSY_BED_PACKER", ""))
    if program is None:
        pytest.fail(
            "no Packer in PATH, or no current Packer in OPSY_BED_PACKER: run the tests with `make test`, "
            "or set the variable to the output of tests/bed/bin/packer"
        )
    return Path(program)


@pytest.fixture
def packer_environment(bed, packer, tmp_path) -> dict:
    return {
        "PATH": f"{packer.parent}:{os.environ['PATH']}",
        "PACKER_PLUGIN_PATH": str(packer.with_name("plugins")),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "AWS_ENDPOINT_URL": bed.endpoint,
        "AWS_ACCESS_KEY_ID": bed.access_key,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "CHECKPOINT_DISABLE": "1",
    }
