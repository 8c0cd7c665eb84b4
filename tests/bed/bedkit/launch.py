"""Starting and ending beds and other programs that write a port file when they are ready."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .failure import Failure
from .wait import until

BEDS = Path(__file__).resolve().parents[1]
# The first start builds the control plane.
CONTROL_PLANE_SECONDS = 900
# The control plane itself ends within 60 seconds.
END_SECONDS = 90


class Program(NamedTuple):
    """How a bed is started with Python: its arguments, and the directory in which they are valid."""

    name: str
    arguments: list[str]
    folder: Path | None = None


PROGRAMS = {
    "aws": Program("the emulated AWS", ["-m", "opsybed"], BEDS / "aws"),
    "chat": Program("the chat bed", ["-m", "chatbed"], BEDS / "chat"),
    "forges": Program("the forges", ["-m", "forgebed"], BEDS / "forges"),
    "git": Program("the Git server", [str(BEDS / "git" / "gitbed.py")]),
    "network": Program("the network bed", [str(BEDS / "network" / "netbed.py")]),
    "registry": Program("the registry", [str(BEDS / "registry" / "registrybed.py")]),
}


def command(bed: str, port_file: Path, *flags) -> list[str]:
    """Return the command line that starts a bed on a free port."""
    fixed = ["--port", "0", "--port-file", str(port_file), "--die-with-parent"]
    return [sys.executable, *PROGRAMS[bed].arguments, *fixed, *map(str, flags)]


def bed(name: str, port_file: Path, *flags, output=subprocess.DEVNULL, seconds: float = 60):
    """Run a bed as a context, whose value is the content of the port file. `output` receives the bed's own output."""
    program = PROGRAMS[name]
    return started(program.name, command(name, port_file, *flags), port_file, program.folder, output, seconds)


def control_plane(folder: Path, address_file: Path):
    """Run a Kubernetes control plane without a node as a context, whose value is the content of the address file."""
    flags = ["--die-with-parent", "--dir", str(folder), "--address-file", str(address_file)]
    command = [str(BEDS / "controlplane" / "up"), *flags]
    return started("the control plane", command, address_file, None, subprocess.DEVNULL, CONTROL_PLANE_SECONDS)


@contextlib.contextmanager
def started(
    name: str, command: list[str], port_file: Path, folder: Path | None, output=None, seconds: float = 60
) -> Iterator[dict]:
    """Run a program as a context, whose value is the content of the file that the program writes when it is ready."""
    with running(command, cwd=folder, stdout=output) as process:

        def ready() -> bool:
            if process.poll() is not None and not port_file.exists():
                raise Failure(f"{name} did not start")
            return port_file.exists()

        until(f"the start of {name}", ready, seconds)
        yield json.loads(port_file.read_text())


@contextlib.contextmanager
def running(command: list[str], **options) -> Iterator[subprocess.Popen]:
    """Run a program as a context, whose value is the process. At the end, the process gets SIGTERM."""
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(END_SECONDS)
