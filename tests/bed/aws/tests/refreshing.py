"""One self-managed Auto Scaling group of a frozen account, and the calls that refresh it."""

import pytest
from awsclient import Bed

WARMUP = 60
# of a replacement, with the default settings: pending for 30 seconds, then warming up
REPLACEMENT = 30 + WARMUP


def progress(refresh: dict) -> tuple[str, int, int]:
    return refresh["Status"], refresh["PercentageComplete"], refresh["InstancesToUpdate"]


class Group:
    """A group on version 1 of its own launch template; version 2 has another image."""

    def __init__(self, bed: Bed, count: int = 2, **asked) -> None:
        self.bed, self.name = bed, asked.pop("name", "workers")
        bed.control("POST", "clock", freeze=True)
        bed.seed()
        asked = {"warmup": WARMUP, "min": 0, "max": 20, **asked}
        self.made = bed.control("POST", "new-auto-scaling-group", name=self.name, count=count, **asked)
        self.template = self.made["launch_template"]["id"]
        self.old, self.new = self.made["image"], bed.control("POST", "image", name="next")["id"]
        self.calls = bed.client("autoscaling")
        self.version(self.new)

    def version(self, image: str, base: str = "1", **data) -> str:
        """Add a version of the template with this image, and return its number."""
        made = self.bed.client("ec2").create_launch_template_version(
            LaunchTemplateId=self.template,
            SourceVersion=base,
            LaunchTemplateData={"ImageId": image, **data},
        )
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    def desired(self, version: str = "2") -> dict:
        return {"LaunchTemplate": {"LaunchTemplateId": self.template, "Version": version}}

    def start(self, version: str | None = "2", **preferences) -> str:
        asked = {"DesiredConfiguration": self.desired(version)} if version else {}
        return self.start_with(**asked, Preferences=preferences)

    def start_with(self, **asked) -> str:
        started = self.calls.start_instance_refresh(AutoScalingGroupName=self.name, **asked)
        return started["InstanceRefreshId"]

    def refreshes(self, **asked) -> list[dict]:
        answer = self.calls.describe_instance_refreshes(AutoScalingGroupName=self.name, **asked)
        return answer["InstanceRefreshes"]

    def refresh(self) -> dict:
        return self.refreshes()[0]

    @property
    def status(self) -> str:
        return self.refresh()["Status"]

    def cancel(self, **asked) -> str:
        answer = self.calls.cancel_instance_refresh(AutoScalingGroupName=self.name, **asked)
        return answer["InstanceRefreshId"]

    def rollback(self) -> str:
        answer = self.calls.rollback_instance_refresh(AutoScalingGroupName=self.name)
        return answer["InstanceRefreshId"]

    def describe(self) -> dict:
        found = self.calls.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])
        return found["AutoScalingGroups"][0]

    def instances(self) -> list[dict]:
        return self.describe()["Instances"]

    def versions(self) -> str:
        """Return the versions of the instances that are not terminating, in order, such as 112."""
        running = [i for i in self.instances() if not i["LifecycleState"].startswith("Terminating")]
        return "".join(sorted(i["LaunchTemplate"]["Version"] for i in running))

    def state(self) -> dict:
        """Return the group in the state of the account."""
        return next(g for g in self.bed.state()["auto_scaling_groups"] if g["name"] == self.name)

    def states(self) -> list[str]:
        return sorted(i["LifecycleState"] for i in self.instances())

    def images(self) -> set[str]:
        ids = [i["InstanceId"] for i in self.instances()]
        found = self.bed.client("ec2").describe_instances(InstanceIds=ids)["Reservations"]
        return {i["ImageId"] for r in found for i in r["Instances"]}

    def change(self, **asked) -> dict:
        """Change the group as another writer would."""
        return self.bed.control("POST", "auto-scaling-group", name=self.name, **asked)

    def settle(self, seconds: float = 3600, step: float = 30) -> str:
        """Let time pass until no refresh is active, and return the status of the last one."""
        for _ in range(int(seconds / step)):
            status = self.status
            if status not in ("Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress"):
                return status
            self.bed.advance(step)
        pytest.fail(f"still active after {seconds} seconds: {self.refresh()}")
