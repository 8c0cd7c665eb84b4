"""Starting the agent whose program the variable OPSY names."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .launch import running


def environment(repository, state: Path, **more: str) -> dict[str, str]:
    """Return the environment of an agent. Of the variables for AWS and Opsy, only OPSY_LOG is inherited."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name == "OPSY_LOG" or not name.startswith(("AWS_", "OPSY_"))
    }
    return inherited | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "OPSY_REPO": str(repository),
        "OPSY_STATE": str(state),
        "OPSY_OUTPUT": "json",
        **more,
    }


def aws(endpoint: str, access_key: str) -> dict[str, str]:
    """Return the variables for an emulated AWS."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": "emulated",
    }


@contextlib.contextmanager
def run_agent(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """Run the agent as a context, whose value is the process. Standard error goes to the log."""
    with open(log, "wb") as target, running([os.environ["OPSY"], "run"], env=environment, stderr=target) as process:
        yield process
