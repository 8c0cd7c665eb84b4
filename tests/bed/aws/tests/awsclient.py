"""Gives access to one account of a bed through AWS clients and the control interface."""

import json
import urllib.error
import urllib.parse

import boto3
import botocore.session
from botocore.config import Config

from bedkit.client import call

REGION = "us-east-1"

# Creating a client takes a quarter of a second, so successive tests share clients.
_idle: dict[tuple, list[tuple]] = {}


def make_client(endpoint: str, service: str, attempts: int) -> tuple:
    """Return a client and the credentials object with which it signs."""
    session = botocore.session.get_session()
    session.set_credentials("AKIAEXAMPLE", "secret")
    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"}, read_timeout=10)
    client = boto3.Session(botocore_session=session).client(
        service, region_name=REGION, endpoint_url=endpoint, config=config
    )
    return client, session.get_credentials()


class ControlError(Exception):
    """The reason why the bed refused a control request."""


class Bed:
    """One account of the running bed, with its AWS clients and the control interface."""

    def __init__(self, info: dict, account: str) -> None:
        self.info, self.account = info, account
        self.clients: dict[tuple, tuple] = {}
        self.endpoint = info["endpoint"]
        self.access_key = f"AKIA{account}TEST"

    def control(self, method: str, path: str, **asked):
        asked = {"account": self.account, **asked}
        try:
            if method == "GET":
                return call(self.endpoint, method, f"{path}?{urllib.parse.urlencode(asked)}")
            return call(self.endpoint, method, path, asked)
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
        """Return the client of this account for a service and a number of attempts."""
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
        """Create an image of this account with the same calls as Packer."""
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
