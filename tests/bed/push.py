"""From `git push` to the start of Packer, with a push webhook: seconds, and how they split.

Run by `make bench-push`. The agent's own interval is an hour, so that nothing but the delivery makes it fetch. A program
in place of Packer notes when it is started, and fails.
"""

import datetime
import hashlib
import hmac
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from clones import serve
from idle import ACCOUNT, FIXTURE, call, start_bed

PUSHES = 7
LIMIT = 60  # seconds for any one step
SECRET = "0123456789abcdef0123456789abcdef"
PACKER = """#!/bin/sh
date +%s.%N >> "{notes}"
exit 1
"""
STEPS = ("git push", "delivery until its answer", "fetch until the commit is loaded", "decision until Packer runs")


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        endpoint, aws = start_bed(root)
        (root / "served").mkdir()
        url, server = serve(root)
        try:
            measure(root, endpoint, f"{url}/policy.git")
        finally:
            for process in (aws, server):
                process.terminate()
                process.wait()


def measure(root: pathlib.Path, endpoint: str, url: str) -> None:
    call(endpoint, "POST", "seed", {"account": ACCOUNT, "region": "us-east-1", "cluster": "demo"})
    work, notes, log = root / "work", root / "packer.log", root / "agent.log"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", root / "served" / "policy.git"], check=True)
    subprocess.run(["cp", "-r", FIXTURE, work], check=True)
    subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
    # No commit of the agent gets in between.
    (work / "opsy.yaml").write_text("agentID: push\npublish: {enabled: false}\n")
    commit(work, "policy: first")
    push(work, url)
    packer = root / "packer"
    packer.write_text(PACKER.format(notes=notes))
    packer.chmod(0o755)
    environment = os.environ | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": f"AKIA{ACCOUNT}PUSH",
        "AWS_SECRET_ACCESS_KEY": "emulated",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OPSY_REPO": url,
        "OPSY_STATE": str(root / "state"),
        "OPSY_OUTPUT": "json",
        "OPSY_INTERVAL": "1h",
        "OPSY_PACKER": str(packer),
        "OPSY_WEBHOOK_LISTEN": "127.0.0.1:0",
        "OPSY_WEBHOOK_SECRET": SECRET,
    }
    with open(log, "wb") as target:
        agent = subprocess.Popen([os.environ["OPSY"], "run"], env=environment, stderr=target)
    try:
        hook = wait("the receiver", lambda: next((line["webhook"] for line in lines(log) if "webhook" in line), None))
        wait("the first start of Packer", lambda: starts(notes, 0))
        splits = [once(work, url, f"http://{hook}/hook", notes, log) for _ in range(PUSHES)]
    finally:
        agent.terminate()
        agent.wait()
    print(f"{PUSHES} pushes, median (longest) of seconds")
    for number, step in enumerate(STEPS):
        seconds = [split[number] for split in splits]
        print(f"{step:35} {statistics.median(seconds):7.3f} ({max(seconds):.3f})")
    sums = [sum(split) for split in splits]
    print(f"{'from git push to Packer':35} {statistics.median(sums):7.3f} ({max(sums):.3f})")


def once(work: pathlib.Path, url: str, hook: str, notes: pathlib.Path, log: pathlib.Path) -> list[float]:
    time.sleep(2)  # what the last push started is over
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
        found = (line for line in lines(log) if line.get("message") == "synced" and line.get("commit") == tip)
        return next((instant(line["timestamp"]) for line in found), None)

    at.append(wait("the commit", loaded))
    at.append((wait("Packer", lambda: starts(notes, before)) or [0.0])[0])
    return [later - earlier for earlier, later in zip(at, at[1:])]


def deliver(hook: str, url: str) -> None:
    body = json.dumps({"ref": "refs/heads/main", "repository": {"clone_url": url}}).encode()
    request = urllib.request.Request(hook, data=body)
    request.add_header("content-type", "application/json")
    request.add_header("x-gitea-event", "push")
    request.add_header("x-gitea-signature", hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest())
    urllib.request.urlopen(request).close()


def push(work: pathlib.Path, url: str) -> None:
    subprocess.run(["git", "-C", work, "push", "-q", url, "HEAD:main"], check=True)


def commit(work: pathlib.Path, message: str) -> str:
    subprocess.run(["git", "-C", work, "add", "-A"], check=True)
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@test.invalid"]
    subprocess.run(["git", "-C", work, *identity, "commit", "-qm", message], check=True)
    tip = subprocess.run(["git", "-C", work, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return tip.stdout.strip()


def starts(notes: pathlib.Path, behind: int) -> list[float] | None:
    text = notes.read_text() if notes.exists() else ""
    return [float(line) for line in text.splitlines()][behind:] or None


def lines(log: pathlib.Path) -> list[dict]:
    complete = log.read_text().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in complete if line.startswith("{")]


def instant(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def wait(what: str, look):
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.005)
    sys.exit(f"{what} did not come within {LIMIT} s")


if __name__ == "__main__":
    main()
