"""The Git remote, used by git itself."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "gitbed.py"
START_DEADLINE = 30


class Remote:
    def __init__(self, directory: Path, *flags: str) -> None:
        self.root = directory / "repositories"
        port_file = directory / "git.json"
        command = [sys.executable, PROGRAM, "--root", self.root, "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--port-file", port_file, "--die-with-parent", *flags],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_DEADLINE
        while not port_file.exists():
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        self.url = json.loads(port_file.read_text())["url"]

    def control(self, method: str, path: str, **asked):
        body = json.dumps(asked).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self.url}/_bed/{path}", data=body, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


@pytest.fixture
def start(tmp_path):
    remotes = []

    def make(*flags: str) -> Remote:
        directory = tmp_path / f"remote{len(remotes)}"
        directory.mkdir()
        remotes.append(Remote(directory, *map(str, flags)))
        return remotes[-1]

    yield make
    for remote in remotes:
        remote.process.terminate()
        remote.process.wait(60)


def git(*arguments, where: Path | None = None, check: bool = True) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@example.com",
        "GIT_COMMITTER_NAME": "t",
        "GIT_COMMITTER_EMAIL": "t@example.com",
    }
    command = ["git", *map(str, arguments)]
    result = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True)
    assert not check or result.returncode == 0, result.stderr
    return result


def commit(work: Path, name: str, content: bytes = b"x\n") -> None:
    (work / name).write_bytes(content)
    git("add", "-A", where=work)
    git("commit", "-qm", name, where=work)


def clone(remote: Remote, tmp_path: Path, url: str | None = None) -> Path:
    work = tmp_path / f"work{len(list(tmp_path.glob('work*')))}"
    git("clone", "-q", url or f"{remote.url}/fleet.git", work)
    return work


def test_clone_push_and_fetch(start, tmp_path):
    remote = start()
    made = remote.control("POST", "repository", name="fleet.git")
    assert made["url"] == f"{remote.url}/fleet.git"
    work = clone(remote, tmp_path)
    commit(work, "a")
    git("push", "-q", "origin", "HEAD:main", where=work)
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
    # more than http.postBuffer (1 MiB), and incompressible
    commit(work, "large", os.urandom(3 << 20))
    git("push", "-q", "origin", "HEAD:main", where=work)
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


def test_a_hook_refuses_a_push_with_its_words(start, tmp_path):
    remote = start()
    path = Path(remote.control("POST", "repository", name="fleet.git")["path"])
    hook = path / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'main is protected' >&2\nexit 1\n")
    hook.chmod(0o755)
    work = clone(remote, tmp_path)
    commit(work, "a")
    refused = git("push", "origin", "HEAD:main", where=work, check=False)
    assert refused.returncode and "main is protected" in refused.stderr
    hook.unlink()
    git("push", "-q", "origin", "HEAD:main", where=work)


@pytest.mark.parametrize(("mode", "says"), [("503", "503"), ("refuse", "")])
def test_the_remote_goes_away_and_comes_back(start, mode, says):
    remote = start()
    remote.control("POST", "repository", name="fleet.git")
    remote.control("POST", "away", away=True, mode=mode)
    failed = git("ls-remote", f"{remote.url}/fleet.git", check=False)
    assert failed.returncode and says in failed.stderr
    remote.control("POST", "away", away=False)
    git("ls-remote", f"{remote.url}/fleet.git")


def test_a_repository_cannot_be_made_outside_the_root(start):
    remote = start()
    with pytest.raises(urllib.error.HTTPError):
        remote.control("POST", "repository", name="../outside.git")


def test_it_ends_with_its_parent(tmp_path):
    port_file = tmp_path / "git.json"
    script = (
        "import subprocess,sys,os,time\n"
        f"command = [sys.executable, {str(PROGRAM)!r}, '--root', {str(tmp_path)!r}]\n"
        f"command += ['--port', '0', '--port-file', {str(port_file)!r}, '--die-with-parent']\n"
        "subprocess.Popen(command, stdout=subprocess.DEVNULL)\n"
        f"while not os.path.exists({str(port_file)!r}): time.sleep(0.02)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=START_DEADLINE)
    pid = json.loads(port_file.read_text())["pid"]
    deadline = time.monotonic() + START_DEADLINE
    while _runs(pid):
        assert time.monotonic() < deadline, "the remote outlived its parent"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    """Zombies do not run: nobody may reap them where PID 1 does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
