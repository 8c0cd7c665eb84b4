"""What /proc says about processes."""

import os
from pathlib import Path


def is_running(pid: int) -> bool:
    """Return whether a process runs. A zombie does not, and may remain if PID 1 does not reap."""
    try:
        return _fields(pid)[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, in user mode and in the kernel."""
    user, kernel = _fields(pid)[11:13]
    return (int(user) + int(kernel)) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, which: str = "VmRSS") -> float:
    """Return the resident memory of a process: VmRSS is the current size, VmHWM the peak."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name of the program, which may contain spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
