"""What an idle agent costs: 20 builders and 5 refreshers of one cluster at a 10 s timer, for a minute.

Run by `make idle`. Prints AWS calls by operation, CPU seconds and resident memory of the agent.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

BED = pathlib.Path(__file__).resolve().parent
FIXTURE = BED.parent / "it" / "fixtures" / "repo"
ACCOUNT = "200000000001"
BUILDERS, REFRESHERS, SECONDS = 20, 5, 60


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        endpoint, bed = start_bed(root)
        try:
            measure(root, endpoint)
        finally:
            bed.terminate()
            bed.wait()


def start_bed(root: pathlib.Path):
    port_file = root / "aws.json"
    command = [sys.executable, "-m", "opsybed", "--port", "0", "--port-file", str(port_file), "--die-with-parent"]
    bed = subprocess.Popen(command, cwd=BED / "aws")
    deadline = time.monotonic() + 60
    while not port_file.exists():
        if time.monotonic() > deadline or bed.poll() is not None:
            sys.exit("the emulated AWS did not start")
        time.sleep(0.1)
    return json.loads(port_file.read_text())["endpoint"], bed


def measure(root: pathlib.Path, endpoint: str) -> None:
    call(endpoint, "POST", "seed", {"account": ACCOUNT, "region": "us-east-1", "cluster": "demo"})
    remote = make_repository(root)
    environment = os.environ | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": f"AKIA{ACCOUNT}IDLE",
        "AWS_SECRET_ACCESS_KEY": "emulated",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PKR_VAR_endpoint": endpoint,
        "OPSY_REPO": str(remote),
        "OPSY_STATE": str(root / "state"),
        "OPSY_OUTPUT": "json",
    }
    opsy = os.environ["OPSY"]
    subprocess.run([opsy, "run", "--once"], env=environment, check=True, stderr=subprocess.DEVNULL)
    with open(root / "agent.log", "wb") as log:
        agent = subprocess.Popen([opsy, "run"], env=environment, stderr=log)
    try:
        time.sleep(15)  # a first pass over everything
        call(endpoint, "DELETE", f"journal?account={ACCOUNT}")
        before = cpu_seconds(agent.pid)
        time.sleep(SECONDS)
        report(endpoint, agent.pid, cpu_seconds(agent.pid) - before)
    finally:
        agent.terminate()
        agent.wait()


def make_repository(root: pathlib.Path) -> pathlib.Path:
    work, remote = root / "work", root / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True)
    subprocess.run(["git", "clone", "-q", str(remote), str(work)], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["cp", "-r", f"{FIXTURE}/packer", f"{FIXTURE}/opsy.yaml", str(work)], check=True)
    builder = (FIXTURE / "builders" / "node.yaml").read_text()
    refresher = (FIXTURE / "refreshers" / "demo.yaml").read_text()
    for number in range(BUILDERS):
        (work / f"builder-{number}.yaml").write_text(builder.replace("name: node\n", f"name: node-{number}\n", 1))
    for number in range(REFRESHERS):
        text = refresher.replace("name: demo\n", f"name: demo-{number}\n", 1)
        (work / f"refresher-{number}.yaml").write_text(text.replace("packerBuilder: node", "packerBuilder: node-0"))
    identity = ["-c", "user.name=Platform Team", "-c", "user.email=platform@example.com"]
    for command in (["add", "-A"], [*identity, "commit", "-qm", "policy"], ["push", "-q", "origin", "HEAD:main"]):
        subprocess.run(["git", "-C", str(work), *command], check=True)
    return remote


def report(endpoint: str, pid: int, cpu: float) -> None:
    journal = call(endpoint, "GET", f"journal?account={ACCOUNT}")
    entries = journal if isinstance(journal, list) else journal["entries"]
    calls = collections.Counter(f"{entry['service']}:{entry['operation']}" for entry in entries)
    print(f"{BUILDERS} builders, {REFRESHERS} refreshers, {SECONDS} s idle at a 10 s timer")
    print(f"AWS calls: {sum(calls.values())}")
    for name, count in calls.most_common():
        print(f"  {count:4} {name}")
    memory = [line for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line]
    print(f"CPU: {cpu:.2f} s")
    print(f"RSS: {int(memory[0].split()[1]) / 1024:.1f} MiB")


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def call(endpoint: str, method: str, path: str, body: dict | None = None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{endpoint}/_bed/{path}", data=data, method=method)
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


if __name__ == "__main__":
    main()
