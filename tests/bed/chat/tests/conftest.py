"""One bed for the whole run, forgotten before every test."""

import pytest
from chatclient import Bed, start_bed


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    process, info = start_bed(tmp_path_factory.mktemp("chat"))
    yield info
    process.terminate()
    process.wait(60)


@pytest.fixture
def bed(server):
    bed = Bed(server)
    bed.control("POST", "reset")
    # what a rate is, is tested where rates are
    bed.control("POST", "settings", slack_post_burst=1000)
    return bed
