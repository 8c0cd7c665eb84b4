"""Ending a process together with the process that started it."""

import ctypes
import os
import signal
import threading
import time

LOOK_SECONDS = 0.2
PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Send SIGTERM to this process when the parent process exits.

    The kernel's parent-death signal is not suitable for beds: it is sent when the *thread*
    that started the process ends, and test runners start processes from short-lived threads.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def end_with_parent_thread() -> None:
    """Let the kernel send SIGTERM to this process when the thread that started it ends.

    It can be the preexec_fn of a program that does not watch its parent itself.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
