"""Measures the time from `git push` to the start of Packer with a push webhook, by step.

Run by `make bench-push`. The interval of the agent is one hour, so that only the delivery triggers a fetch. A script
replaces Packer: it records its start time and fails.
"""

import datetime
import hashlib
import hmac
import json
import pathlib
import shutil
import statistics
import tempfile
import time
import urllib.request

from bedkit import agent, launch
from bedkit.client import call
from bedkit.failure import run
from bedkit.git import commit, git, make_bare, push
from bedkit.wait import until
from idle import ACCOUNT, FIXTURE

PUSHES = 7
LIMIT = 60  # seconds for any one step
SECRET = "0123456789abcdef0123456789abcdef"
PACKER = """#!/bin/sh
date +%s.%N >> "{notes}"
exit 1
"""
STEPS = ("git push", "delivery to response", "fetch to loaded commit", "plan to start of Packer")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        aws = launch.bed("aws", root / "aws.json", output=None)
        git_server = launch.bed("git", root / "git.json", "--root", root / "served")
        with aws as emulated, git_server as server:
            measure(root, emulated["endpoint"], f"{server['url']}/policy.git")


def measure(root: pathlib.Path, endpoint: str, url: str) -> None:
    call(endpoint, "POST", "seed", {"account": ACCOUNT, "region": "us-east-1", "cluster": "demo"})
    work, notes, log = root / "work", root / "packer.log", root / "agent.log"
    make_bare(root / "served" / "policy.git")
    shutil.copytree(FIXTURE, work)
    git("init", "--quiet", "--initial-branch=main", work)
    # Without publishing, no commit of the agent interferes.
    (work / "opsy.yaml").write_text("agentID: push\npublish: {enabled: false}\n")
    commit(work, "policy: first")
    push(work, url)
    packer = root / "packer"
    packer.write_text(PACKER.format(notes=notes))
    packer.chmod(0o755)
    environment = agent.environment(url, root / "state") | agent.aws(endpoint, f"AKIA{ACCOUNT}PUSH")
    environment |= {
        "OPSY_INTERVAL": "1h",
        "OPSY_PACKER": str(packer),
        "OPSY_WEBHOOK_LISTEN": "127.0.0.1:0",
        "OPSY_WEBHOOK_SECRET": SECRET,
    }
    with agent.run_agent(environment, log):
        hook = wait("the receiver", lambda: next((line["webhook"] for line in lines(log) if "webhook" in line), None))
        wait("the first start of Packer", lambda: starts(notes, 0))
        splits = [once(work, url, f"http://{hook}/hook", notes, log) for _ in range(PUSHES)]
    print(f"{PUSHES} pushes, seconds: median (maximum)")
    for number, step in enumerate(STEPS):
        seconds = [split[number] for split in splits]
        print(f"{step:35} {statistics.median(seconds):7.3f} ({max(seconds):.3f})")
    sums = [sum(split) for split in splits]
    print(f"{'from git push to Packer':35} {statistics.median(sums):7.3f} ({max(sums):.3f})")


def once(work: pathlib.Path, url: str, hook: str, notes: pathlib.Path, log: pathlib.Path) -> list[float]:
    time.sleep(2)  # until the effects of the last push have ended
    template = work / "packer" / "node" / "node.pkr.hcl"
    template.write_text(template.read_text() + "\n# one more\n")
    tip = commit(work, "policy: another template")
    before = len(starts(notes, 0) or [])
    at = [time.time()]
    push(work, url)
    at.append(time.time())
    deliver(hook, url)
    at.append(time.time())

    def loaded():
        found = (line for line in lines(log) if is_sync(line, tip))
        return next((instant(line["timestamp"]) for line in found), None)

    at.append(wait("the commit", loaded))
    at.append((wait("Packer", lambda: starts(notes, before)) or [0.0])[0])
    return [later - earlier for earlier, later in zip(at, at[1:])]


def is_sync(line: dict, tip: str) -> bool:
    return line.get("message", "").startswith("synced") and line.get("commit") == tip


def deliver(hook: str, url: str) -> None:
    body = json.dumps({"ref": "refs/heads/main", "repository": {"clone_url": url}}).encode()
    request = urllib.request.Request(hook, data=body)
    request.add_header("content-type", "application/json")
    request.add_header("x-gitea-event", "push")
    request.add_header("x-gitea-signature", hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest())
    urllib.request.urlopen(request).close()


def starts(notes: pathlib.Path, behind: int) -> list[float] | None:
    text = notes.read_text() if notes.exists() else ""
    return [float(line) for line in text.splitlines()][behind:] or None


def lines(log: pathlib.Path) -> list[dict]:
    complete = log.read_text().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in complete if line.startswith("{")]


def instant(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def wait(what: str, look):
    return until(what, look, LIMIT, pause=0.005)


if __name__ == "__main__":
    run(main)
