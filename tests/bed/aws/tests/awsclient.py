"""A running bed, and one account of it, seen by AWS clients and by the control interface."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import boto3
import botocore.session
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[1]
REGION = "us-east-1"
# Loaded machines need seconds to import moto.
START_DEADLINE = 60


# Making a client costs a quarter of a second: tests that follow each other share them.
_idle: dict[tuple, list[tuple]] = {}


def make_client(endpoint: str, service: str, attempts: int) -> tuple:
    """A client and the credentials object it signs with."""
    session = botocore.session.get_session()
    session.set_credentials("AKIAEXAMPLE", "secret")
    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"}, read_timeout=10)
    client = boto3.Session(botocore_session=session).client(
        service, region_name=REGION, endpoint_url=endpoint, config=config
    )
    return client, session.get_credentials()


class ControlError(Exception):
    """The bed's reason for refusing a control request."""


class Bed:
    """One account of the running bed, seen by AWS clients and by the control interface."""

    def __init__(self, info: dict, account: str) -> None:
        self.info, self.account = info, account
        self.clients: dict[tuple, tuple] = {}
        self.endpoint = info["endpoint"]
        self.access_key = f"AKIA{account}TEST"

    def control(self, method: str, path: str, **asked):
        body = json.dumps({"account": self.account, **asked}).encode()
        query = "?" + urllib.parse.urlencode({"account": self.account, **asked})
        query = query if method == "GET" else ""
        request = urllib.request.Request(
            f"{self.endpoint}/_bed/{path}{query}",
            data=body if method != "GET" else None,
            method=method,
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ControlError(json.load(error)["error"]) from error

    def seed(self) -> dict:
        return self.control("POST", "seed")

    def state(self) -> dict:
        return self.control("GET", "state")

    def journal(self, operation: str | None = None) -> list[dict]:
        entries = self.control("GET", "journal")
        return [e for e in entries if operation in (None, e["operation"])]

    def fault(self, kind: str, **asked) -> dict:
        return self.control("POST", "faults", kind=kind, **asked)

    def advance(self, seconds: float) -> None:
        self.control("POST", "clock", advance=seconds)

    def client(self, service: str, attempts: int = 1):
        """One client per service and number of attempts, signing as this account."""
        key = (self.endpoint, service, attempts)
        if key not in self.clients:
            idle = _idle.setdefault(key, [])
            self.clients[key] = idle.pop() if idle else make_client(*key)
        client, credentials = self.clients[key]
        credentials.access_key = self.access_key
        return client

    def release(self) -> None:
        for key, client in self.clients.items():
            _idle[key].append(client)

    def group(self, name: str) -> dict:
        return next(g for g in self.state()["node_groups"] if g["name"] == name)

    def image(self, name: str, **tags) -> str:
        """An available image of this account, made the way Packer makes one."""
        ec2 = self.client("ec2")
        base = self.seed()["base_images"]["v20260801"]
        instance = ec2.run_instances(ImageId=base, MinCount=1, MaxCount=1, InstanceType="t3.micro")
        instance_id = instance["Instances"][0]["InstanceId"]
        specs = [
            {"ResourceType": "image", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
        ]
        asked = {"TagSpecifications": specs} if tags else {}
        image = ec2.create_image(InstanceId=instance_id, Name=name, **asked)["ImageId"]
        ec2.terminate_instances(InstanceIds=[instance_id])
        return image


def start_bed(directory: Path, *flags: str) -> tuple[subprocess.Popen, dict]:
    port_file = directory / "bed.json"
    command = [sys.executable, "-m", "opsybed", "--port", "0", "--port-file", str(port_file)]
    process = subprocess.Popen([*command, "--die-with-parent", *flags], cwd=ROOT)
    deadline = time.monotonic() + START_DEADLINE
    while not port_file.exists():
        assert process.poll() is None, f"the bed exited with {process.returncode}"
        assert time.monotonic() < deadline, "the bed did not start"
        time.sleep(0.05)
    return process, json.loads(port_file.read_text())
