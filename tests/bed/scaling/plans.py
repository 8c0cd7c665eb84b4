"""Many builders and refreshers with published status, and `opsy plan` of a change to all of the builders.

Half of the manifests are builders. Every other one is a refresher of the same cluster that rolls out the image of one of
the builders.
"""

import contextlib
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import bench
import boto3
from bedkit import agent
from bedkit.client import call
from bedkit.failure import Failure
from bedkit.git import commit, git, push

from .cost import LIMIT, once
from .fleet import OPSY
from .rollouts import ACCOUNTS, SEEDED

REGION, CLUSTER, OWNER = "us-east-1", "demo", "bench"
SINCE = "2026-11-20T00:00:00Z"
EXPIRY = 1  # seconds
REFRESHER = """\
apiVersion: ami.opsy.dev/v1alpha1
kind: AMIRefresher
metadata: {{name: {name}}}
spec:
  region: us-east-1
  clusterName: demo
  amiFrom: {{packerBuilder: {name}}}
"""

Figures = dict[str, float]


class Repository:
    """A clone in which the images of all builders expire at once. Nothing else is due."""

    def __init__(self, root: Path, count: int, endpoint: str) -> None:
        root.mkdir(parents=True)
        self.endpoint, self.account = endpoint, str(next(ACCOUNTS))
        self.call("POST", "seed", region=REGION, cluster=CLUSTER)
        self.keys = agent.aws(endpoint, f"AKIA{self.account}SIZE")
        self.remote, work = bench.repository(root)
        ec2 = boto3.client(
            "ec2",
            endpoint_url=endpoint,
            region_name=REGION,
            aws_access_key_id=self.keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.keys["AWS_SECRET_ACCESS_KEY"],
        )
        base, snapshot = newest_base(ec2), new_snapshot(ec2)
        for number in range(count // 2):
            write(work, number, register(ec2, number, base, snapshot), base)
        commit(work, "policy: all objects")
        push(work)
        self.clone = root / "clone"
        git("clone", "--quiet", str(self.remote), str(self.clone))
        for number in range(count // 2):
            manifest = active(bench.manifest(number)).replace("expiresIn: 30d", f"expiresIn: {EXPIRY}s")
            (self.clone / "builders" / f"{name(number)}.yaml").write_text(manifest)
        self.environment = {
            name: value
            for name, value in agent.environment(self.remote, root / "state", **self.keys).items()
            if not name.startswith("OPSY_")
        }
        self.count = count
        self.expired = time.monotonic() + EXPIRY

    def call(self, method: str, path: str, **body):
        return call(self.endpoint, method, path, {"account": self.account, **body})

    def plan(self, *flags: str) -> Figures:
        command = [OPSY, "plan", "--agent-id", OWNER, *flags, str(self.clone)]
        # The last images were registered just now if there are few.
        time.sleep(max(0.0, self.expired - time.monotonic()))
        call(self.endpoint, "DELETE", f"journal?account={self.account}")
        cost = once(command, self.environment)
        journal = call(self.endpoint, "GET", f"journal?account={self.account}")
        self.check([*command, "--output", "json"])
        return {
            "CPU s": cost.cpu,
            "wall s": cost.wall,
            "peak RSS MiB": cost.peak_mib,
            "AWS calls": float(len(journal)),
        }

    def check(self, command: list[str]) -> None:
        """Check that the plan has a build and a rollout for every other manifest."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=LIMIT)
        planned = json.loads(done.stdout) if done.returncode == 0 else {}
        actions = Counter(item["action"] for item in planned.get("because", []))
        if actions != {"Build": self.count // 2, "Rollout": self.count // 2}:
            raise Failure(f"{dict(actions)} of {self.count} objects: {done.stderr[-300:]}")


def newest_base(ec2) -> str:
    name = {"Name": "name", "Values": ["amazon-eks-node-al2023-x86_64-standard-1.31-*"]}
    images = ec2.describe_images(Owners=["602401143452"], Filters=[name])["Images"]
    return max(images, key=lambda image: image["CreationDate"])["ImageId"]


def new_snapshot(ec2) -> str:
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
    return ec2.create_snapshot(VolumeId=volume)["SnapshotId"]


def register(ec2, number: int, base: str, snapshot: str) -> str:
    """Register the active image of a builder."""
    mapping = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}]
    image = ec2.register_image(
        Name=f"opsy-{name(number)}",
        Architecture="x86_64",
        RootDeviceName="/dev/xvda",
        VirtualizationType="hvm",
        BlockDeviceMappings=mapping,
    )["ImageId"]
    tags = {
        "brought-to-you-by": "opsy-the-ami-operator",
        "created-by": name(number),
        "cluster-name": CLUSTER,
        "status": "active",
        "base-ami": base,
        "build-id": build(number),
        "opsy.dev/owner": OWNER,
        "opsy.dev/builder": f"{bench.NAMESPACE}/{name(number)}",
        "opsy.dev/build": build(number),
    }
    ec2.create_tags(Resources=[image], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    return image


def name(number: int) -> str:
    return f"node-{number:04}"


def active(manifest: str) -> str:
    return manifest.replace("  suspend: true\n", "")


def build(number: int) -> str:
    return f"b{number:015x}"


def write(work: Path, number: int, image: str, base: str) -> None:
    """Write a builder, the refresher that rolls out its image, and the published status of both."""
    own = name(number)
    run = {"id": build(number), "result": "Succeeded", "why": "Missing", "startedAt": SINCE, "endedAt": SINCE}
    current = {"region": REGION, "architecture": "x86_64", "id": image, "since": SINCE}
    built = {
        "state": "AMICreated",
        "observedGeneration": 1,
        "images": [current],
        "inputs": {"baseAMI": base},
        "history": [{**run, "images": [image]}],
    }
    groups = [{"name": group, "kind": "Managed", "currentAMI": image, "state": "Current"} for group in SEEDED]
    files = {
        f"builders/{own}.yaml": active(bench.manifest(number)),
        f"refreshers/{own}.yaml": REFRESHER.format(name=own),
        f"status/{bench.NAMESPACE}/packerbuilders/{own}.yaml": published("PackerBuilder", own, built),
        f"status/{bench.NAMESPACE}/amirefreshers/{own}.yaml": published(
            "AMIRefresher", own, {"targetAMI": image, "nodeGroups": groups}
        ),
    }
    for path, content in files.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(content)


def published(kind: str, own: str, status: dict) -> str:
    metadata = {"namespace": bench.NAMESPACE, "name": own}
    return json.dumps({"apiVersion": "ami.opsy.dev/v1alpha1", "kind": kind, "metadata": metadata, "status": status})


@contextlib.contextmanager
def repository(root: Path, count: int, endpoint: str) -> Iterator[Repository]:
    """Return a context with a clone that has `count` manifests."""
    yield Repository(root, count, endpoint)


def offline(subject: Repository) -> Figures:
    """`opsy plan --offline`."""
    return subject.plan("--offline")


def live(subject: Repository) -> Figures:
    """`opsy plan`, which reads AWS."""
    return subject.plan()
