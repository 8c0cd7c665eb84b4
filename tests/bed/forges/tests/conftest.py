"""One bed for the whole run, which is reset before every test."""

import pytest
from forgeclient import PREFIX, REPOSITORY, Bed, Forge

from bedkit import launch


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with launch.bed("forges", tmp_path_factory.mktemp("forges") / "forges.json") as info:
        yield info


@pytest.fixture
def bed(server):
    bed = Bed(server)
    bed.control("POST", "reset")
    bed.control("POST", "pull", repository=REPOSITORY, branch="change")
    return bed


@pytest.fixture(params=sorted(PREFIX))
def forge(bed, request):
    return Forge(bed, request.param)
