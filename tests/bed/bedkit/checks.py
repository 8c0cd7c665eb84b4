"""Checks that the tests of several beds share."""

import json
import subprocess
import sys
from pathlib import Path

from .launch import PROGRAMS, command
from .process import is_running
from .wait import until

# Starts the command in its arguments, and waits until it is killed.
PARENT = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); time.sleep(600)"


def ends_with_parent(bed: str, port_file: Path, *flags) -> None:
    """Kill the process that started a bed, and check that the bed ends too."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *command(bed, port_file, *flags)], cwd=PROGRAMS[bed].folder
    )
    try:
        until("the start of the bed", port_file.exists)
    finally:
        parent.kill()
        parent.wait()
    pid = json.loads(port_file.read_text())["pid"]
    until("the end of the bed", lambda: not is_running(pid))


def shown(bed: str, port: int, *flags: str) -> str:
    """Return what the module `show` of a bed prints."""
    program = PROGRAMS[bed]
    arguments = ["-m", f"{program.arguments[-1]}.show", "--port", str(port), *flags]
    done = subprocess.run([sys.executable, *arguments], cwd=program.folder, check=True, capture_output=True, text=True)
    return done.stdout
