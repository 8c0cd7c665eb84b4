"""The parts of the measurements that have logic of their own."""

import os
import socket
import sys
import threading

import pytest

import scale
from bedkit.failure import Failure
from bedkit.wait import until
from scaling import cost, fleet, objects
from scaling.wire import counted

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 98.80    0.065000         164       396           fsync
  1.20    0.000789         197         4         1 fdatasync
------ ----------- ----------- --------- --------- ----------------
100.00    0.065789         164       400         1 total
"""


def test_a_command_has_a_cost_and_another_exit_code_is_a_failure():
    found = cost.once([sys.executable, "-c", "sum(range(3_000_000)); exit(3)"], code=3)
    assert 0 <= found.kernel <= found.cpu
    assert 0 < found.cpu < found.wall * os.cpu_count() and found.peak_mib > 1
    with pytest.raises(Failure, match="exit code 1 after 0 s: the reason"):
        cost.once([sys.executable, "-c", "print('more'); exit('the reason')"])


def test_the_memory_of_a_command_is_its_own():
    ballast = b"x" * (200 << 20)
    found = cost.once([sys.executable, "-c", "import time; time.sleep(0.2)"])
    assert 1 < found.peak_mib < len(ballast) >> 21


def test_a_command_that_takes_too_long_is_a_failure(monkeypatch):
    monkeypatch.setattr(cost, "LIMIT", 0.2)
    with pytest.raises(Failure, match="longer than 0.2 s"):
        cost.once([sys.executable, "-c", "import time; time.sleep(60)"])


def test_the_cpu_time_of_a_process_is_read_and_its_end_is_a_failure():
    before = cost.cpu(os.getpid())
    sum(range(1_000_000))
    assert 0.001 < cost.cpu(os.getpid()) - before < 60
    with pytest.raises(Failure, match="ended early"):
        cost.cpu(2**22 + 1)  # above the maximum of process IDs


def test_quiet_ends_with_the_work_and_counts_all_of_it(monkeypatch):
    used = iter([0.0, 1.0, 2.0, *[2.5] * 100])
    monkeypatch.setattr(cost, "cpu", lambda pid: next(used))
    monkeypatch.setattr(cost, "QUIET", 0.3)
    monkeypatch.setattr(cost, "PAUSE", 0.1)
    assert cost.until_quiet(0, 0.5) == 2.0
    busy = iter(range(100))
    monkeypatch.setattr(cost, "cpu", lambda pid: float(next(busy)))
    with pytest.raises(Failure, match="still busy"):
        cost.until_quiet(0, 0.0, 0.5)


def test_sync_calls_are_counted_without_the_total():
    assert objects.sync_calls(SUMMARY) == 400


def test_only_a_suspended_builder_in_its_current_generation_is_reconciled():
    def item(observed, *reasons):
        conditions = [{"type": "Ready", "reason": reason} for reason in reasons]
        return {"generation": 2, "status": {"observedGeneration": observed, "conditions": conditions}}

    assert fleet.is_reconciled(item(2, "Suspended"))
    assert not fleet.is_reconciled(item(1, "Suspended"))
    assert not fleet.is_reconciled(item(2, "Failed"))
    assert not fleet.is_reconciled(item(2))
    assert not fleet.is_reconciled({"generation": 1, "status": None})


def test_the_proxy_counts_both_directions_and_passes_the_end_on():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                while connection.recv(100):
                    pass
                connection.sendall(b"1234567")

        threading.Thread(target=answer, daemon=True).start()
        with counted(listener.getsockname()[1]) as wire:
            with socket.create_connection(("127.0.0.1", wire.port)) as client:
                client.sendall(b"123")
                client.shutdown(socket.SHUT_WR)
                assert client.makefile("rb").read() == b"1234567"
            until("both directions", lambda: wire.bytes == 10, 5)


def test_rows_are_selected_by_their_beginning():
    assert scale.selected(["clone", "readme"]) == ["readme", "clone-path", "clone-http"]
    assert scale.selected([]) == scale.NAMES
    with pytest.raises(Failure, match="no row nothing"):
        scale.selected(["nothing"])


def test_a_failure_has_no_figures_and_is_named(capsys):
    results = {"good": [{"CPU s": 2.0}, {"CPU s": 30.0}], "bad": [{"CPU s": 1.0}, Failure("too slow")]}
    assert scale.report("things", (1, 10), results) == ["bad"]
    printed = capsys.readouterr().out
    assert "15.0 times" in printed and "FAILED: too slow" in printed
    assert printed.count("times") == 1, "a failed run has no growth"
    assert scale.report("things", (1, 10), {"row": [cost.Skipped("no strace")] * 2}) == []
