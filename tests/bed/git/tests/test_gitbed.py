"""The Git remote, tested with the git command."""

import contextlib
import os
import urllib.error
from pathlib import Path

import pytest

from bedkit import launch
from bedkit.checks import ends_with_parent
from bedkit.client import call
from bedkit.git import commit, git, push


class Remote:
    def __init__(self, url: str) -> None:
        self.url = url

    def control(self, method: str, path: str, **asked):
        return call(self.url, method, path, asked if method == "POST" else None)


@pytest.fixture
def start(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(*flags) -> Remote:
            folder = tmp_path / "remote"
            server = launch.bed("git", folder / "git.json", "--root", folder / "repositories", *flags)
            folder.mkdir()
            return Remote(stack.enter_context(server)["url"])

        yield make


def write(work: Path, name: str, content: bytes = b"x\n") -> None:
    """Commit a file."""
    (work / name).write_bytes(content)
    commit(work, name)


def clone(remote: Remote, tmp_path: Path, url: str | None = None) -> Path:
    work = tmp_path / f"work{len(list(tmp_path.glob('work*')))}"
    git("clone", "-q", url or f"{remote.url}/fleet.git", work)
    return work


def test_clone_push_and_fetch(start, tmp_path):
    remote = start()
    made = remote.control("POST", "repository", name="fleet.git")
    assert made["url"] == f"{remote.url}/fleet.git"
    work = clone(remote, tmp_path)
    write(work, "a")
    push(work)
    assert (
        git("rev-parse", "main", where=made["path"]).stdout
        == git("rev-parse", "HEAD", where=work).stdout
    )
    assert (clone(remote, tmp_path) / "a").exists()
    assert any(e["path"].endswith("/git-receive-pack") for e in remote.control("GET", "journal"))


def test_a_large_push_comes_in_chunks(start, tmp_path):
    remote = start()
    remote.control("POST", "repository", name="fleet.git")
    work = clone(remote, tmp_path)
    # larger than http.postBuffer (1 MiB), and incompressible
    write(work, "large", os.urandom(3 << 20))
    push(work)
    assert (clone(remote, tmp_path) / "large").stat().st_size == 3 << 20


def test_credentials_are_asked_for_and_can_be_rotated(start, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.write_text("ann:secret\n*:token-1\n")
    remote = start("--credentials", credentials)
    remote.control("POST", "repository", name="fleet.git")
    address = remote.url.removeprefix("http://")
    assert (
        "terminal prompts disabled"
        in git("ls-remote", f"{remote.url}/fleet.git", check=False).stderr
    )
    git("ls-remote", f"http://ann:secret@{address}/fleet.git")
    git("ls-remote", f"http://anyone:token-1@{address}/fleet.git")
    wrong = git("ls-remote", f"http://ann:token-2@{address}/fleet.git", check=False)
    assert "Authentication failed" in wrong.stderr
    credentials.write_text("*:token-2\n")
    git("ls-remote", f"http://ann:token-2@{address}/fleet.git")
    assert git("ls-remote", f"http://ann:secret@{address}/fleet.git", check=False).returncode


def test_a_reader_may_not_push(start, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.write_text("ann:secret\nbob:secret\n")
    remote = start("--credentials", credentials)
    remote.control("POST", "repository", name="fleet.git")
    remote.control("POST", "readers", users=["ann"])
    address = remote.url.removeprefix("http://") + "/fleet.git"
    work = tmp_path / "work"
    git("clone", f"http://ann:secret@{address}", work)
    write(work, "a")
    refused = git("push", "origin", "HEAD:main", where=work, check=False)
    assert refused.returncode and "403" in refused.stderr
    git("push", f"http://bob:secret@{address}", "HEAD:main", where=work)


def test_a_hook_refuses_a_push_with_its_words(start, tmp_path):
    remote = start()
    path = Path(remote.control("POST", "repository", name="fleet.git")["path"])
    hook = path / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'main is protected' >&2\nexit 1\n")
    hook.chmod(0o755)
    work = clone(remote, tmp_path)
    write(work, "a")
    refused = git("push", "origin", "HEAD:main", where=work, check=False)
    assert refused.returncode and "main is protected" in refused.stderr
    hook.unlink()
    push(work)


@pytest.mark.parametrize(("mode", "says"), [("503", "503"), ("refuse", "")])
def test_the_remote_goes_away_and_comes_back(start, mode, says):
    remote = start()
    remote.control("POST", "repository", name="fleet.git")
    remote.control("POST", "away", away=True, mode=mode)
    failed = git("ls-remote", f"{remote.url}/fleet.git", check=False)
    assert failed.returncode and says in failed.stderr
    remote.control("POST", "away", away=False)
    git("ls-remote", f"{remote.url}/fleet.git")


def test_the_server_speaks_the_old_protocol_on_request(start):
    remote = start()
    remote.control("POST", "repository", name="fleet.git")

    def commands(version: int) -> list:
        remote.control("POST", "protocol", version=version)
        remote.control("DELETE", "journal")
        git("-c", "protocol.version=2", "ls-remote", f"{remote.url}/fleet.git")
        entries = remote.control("GET", "journal")
        assert all(entry["bytes"] > 0 for entry in entries)
        return [entry["command"] for entry in entries]

    assert commands(2) == [None, "ls-refs"]
    assert commands(0) == [None]


def test_a_repository_cannot_be_made_outside_the_root(start):
    remote = start()
    with pytest.raises(urllib.error.HTTPError):
        remote.control("POST", "repository", name="../outside.git")


def test_it_ends_with_its_parent(tmp_path):
    ends_with_parent("git", tmp_path / "git.json", "--root", tmp_path)
