"""One bed for the whole run, which is reset before every test."""

import pytest
from chatclient import Bed

from bedkit import launch


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with launch.bed("chat", tmp_path_factory.mktemp("chat") / "chat.json") as info:
        yield info


@pytest.fixture
def bed(server):
    bed = Bed(server)
    bed.control("POST", "reset")
    # only the tests of rate limits use the default burst
    bed.control("POST", "settings", slack_post_burst=1000)
    return bed
