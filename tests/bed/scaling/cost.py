"""What a process costs: wall time, CPU time, and peak resident memory."""

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bedkit.failure import Failure
from bedkit.process import memory_mib

LIMIT = float(os.environ.get("OPSY_SCALE_LIMIT", "300"))  # seconds for any one step
QUIET = 5.0  # seconds
STILL = 0.1  # an agent that uses fewer CPU seconds than this in QUIET seconds has nothing left to do
SAMPLE = 0.01  # seconds between two looks at the memory of a short process
PAUSE = 0.25  # seconds between two looks
CPUCLOCK_SCHED = 2  # the number of the clock that counts the time on a CPU, from the kernel's posix-timers.h


class Skipped(Exception):
    """A row cannot be measured on this machine. The message is the reason."""


class Cost(NamedTuple):
    wall: float
    cpu: float
    kernel: float
    """CPU seconds in the kernel, which `cpu` includes. With many syncs, they depend on the disk."""
    peak_mib: float


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process so far, and of its children that it has waited for.

    The process clock has nanoseconds, where /proc/PID/stat counts hundredths of a second.
    """
    try:
        own = time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise Failure(f"the agent ended early: {error}") from error
    return own + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def once(command: list, environment: dict[str, str] | None = None, code: int = 0) -> Cost:
    """Run a command to its end, and return its cost. Another exit code is a failure.

    The CPU time includes that of its children, and the memory does not.
    """
    name = " ".join(Path(str(part)).name for part in command[:4])
    with tempfile.TemporaryFile() as said:
        started = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], env=environment, stdout=said, stderr=said)
        late = threading.Timer(LIMIT, process.kill)
        late.start()
        with watched_peak(process.pid) as peak:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            wall = time.monotonic() - started
        _, status, usage = os.wait4(process.pid, 0)
        late.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if wall >= LIMIT:
            raise Failure(f"{name} took longer than {LIMIT:g} s")
        if process.returncode != code:
            said.seek(max(0, said.seek(0, os.SEEK_END) - 300))
            last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise Failure(f"{name} ended with exit code {process.returncode} after {wall:.0f} s: {last}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_stime, peak[-1])


@contextlib.contextmanager
def watched_peak(pid: int) -> Iterator[list[float]]:
    """Return a context that samples the peak resident memory of a process in MiB. The last value is the result.

    What the kernel returns with the exit code is at least the memory of this process, from which it was forked.
    """
    peaks, ended = [0.0], threading.Event()

    def sample() -> None:
        while not ended.wait(SAMPLE):
            # At any time, the process may end.
            with contextlib.suppress(OSError, StopIteration):
                peaks.append(memory_mib(pid, "VmHWM"))

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        yield peaks
    finally:
        ended.set()
        sampling.join()


def until_quiet(pid: int, since: float, limit: float = LIMIT) -> float:
    """Wait until an agent has nothing left to do, and return the CPU seconds that it used since `since`.

    The wait is at least QUIET seconds, so the result includes work that starts a little later.
    """
    looks = [(time.monotonic(), cpu(pid))]
    deadline = looks[0][0] + limit
    while looks[-1][0] < deadline:
        time.sleep(PAUSE)
        looks.append((time.monotonic(), cpu(pid)))
        now, used = looks[-1]
        before = next((at for at in reversed(looks) if at[0] <= now - QUIET), None)
        if before and used - before[1] < STILL:
            return used - since
    raise Failure(f"the agent is still busy after {limit:g} s, in which it used {looks[-1][1] - since:.1f} CPU seconds")
