"""One bed for the whole run; every test has an account of its own in it."""

import itertools
import os

import pytest
from awsclient import Bed, start_bed

_numbers = itertools.count(100000000001)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    process, info = start_bed(tmp_path_factory.mktemp("bed"), "--ssh")
    yield info
    process.terminate()
    process.wait(10)


@pytest.fixture
def bed(server):
    bed = Bed(server, str(next(_numbers)))
    yield bed
    bed.release()


@pytest.fixture
def packer_environment(bed, tmp_path) -> dict:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "AWS_ENDPOINT_URL": bed.endpoint,
        "AWS_ACCESS_KEY_ID": bed.access_key,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "CHECKPOINT_DISABLE": "1",
    }
