"""The parts of the package that have logic of their own."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field

import pytest

from bedkit import agent, launch, program
from bedkit.client import call
from bedkit.clock import Clock
from bedkit.control import control
from bedkit.failure import Failure, run
from bedkit.faults import Fault, Faults
from bedkit.git import commit, git, make_bare, push
from bedkit.journal import Journal, NumberedJournal
from bedkit.process import cpu_seconds, is_running, memory_mib
from bedkit.server import ApplicationServer, Reply
from bedkit.settings import Settings
from bedkit.wait import until


@pytest.mark.parametrize("bed", ["git", "network", "registry"])
def test_programs_start_in_any_directory(bed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flag = "--root" if bed == "git" else "--dir"
    with launch.bed(bed, tmp_path / "address.json", flag, tmp_path / "files") as info:
        assert call(info["url"], "GET", "journal") == []
        assert is_running(info["pid"])
    assert not is_running(info["pid"])


def test_a_program_that_does_not_start_is_an_error(tmp_path):
    with pytest.raises(Failure, match="the example did not start"):
        with launch.started("the example", [sys.executable, "-c", ""], tmp_path / "file", None):
            pass


def test_the_port_file_is_the_printed_line(tmp_path, capsys):
    program.announce({"port": 1, "pid": 2}, tmp_path / "address.json")
    line = (tmp_path / "address.json").read_text()
    assert line == capsys.readouterr().out == '{"port": 1, "pid": 2}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["address.json"]


@pytest.fixture
def server():
    def application(request):
        if request.path == "/reset":
            return Reply(reset=True)
        if request.path == "/nothing":
            return Reply(204, {"X-Name": "value"}, b"ignored")
        return Reply(200, {}, request.method.encode() + b" " + request.body)

    server = ApplicationServer(application, 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_server_reads_chunked_bodies_and_keeps_connections(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("PUT", "/", b"plain")
    assert connection.getresponse().read() == b"PUT plain"
    kept = connection.sock
    connection.request("PUT", "/", iter([b"in ", b"chunks"]))
    assert connection.getresponse().read() == b"PUT in chunks"
    connection.request("GET", "/nothing")
    answer = connection.getresponse()
    assert (answer.status, answer.headers.items(), answer.read()) == (204, [("X-Name", "value")], b"")
    connection.request("HEAD", "/")
    answer = connection.getresponse()
    assert (answer.headers["Content-Length"], answer.read()) == ("5", b"")
    assert connection.sock is kept
    connection.close()


def test_a_server_resets_connections(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /reset HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert not server.resetting


def test_control_requests_are_documents_or_reasons():
    @dataclass
    class Request:
        method: str
        path: str
        query: str = ""
        body: bytes = b""

    class Application:
        lock = threading.Lock()

    def add(app, asked):
        assert app.lock.locked()
        return int(asked["one"]) + int(asked["other"])

    def ask(method, path, query="", body=None):
        request = Request(method, path, query, json.dumps(body).encode() if body else b"")
        routes = {("POST", "add"): add}
        return control(Application, request, routes, lambda document, status: (status, document), (ValueError,))

    assert ask("POST", "/_bed/add", "one=1", {"other": 2}) == (200, 3)
    assert ask("POST", "/_bed/add", "one=1") == (400, {"error": "missing or unknown: 'other'"})
    assert ask("POST", "/_bed/add", "one=x&other=1")[0] == 400
    assert ask("GET", "/_bed/add") == (404, {"error": "no GET /_bed/add", "known": ["POST /_bed/add"]})


def test_a_journal_returns_what_it_removes():
    journal = Journal()
    for number in range(4):
        journal.add({"n": number})
    assert journal.remove(lambda entry: entry["n"] % 2) == [{"n": 1}, {"n": 3}]
    assert journal.read() == journal.clear() == [{"n": 0}, {"n": 2}]
    assert journal.read() == []


def test_a_numbered_journal_drops_the_oldest_entries():
    journal = NumberedJournal(2)
    for name in "abc":
        journal.add({"name": name})
    assert journal.clear() == [{"number": 2, "name": "b"}, {"number": 3, "name": "c"}]
    assert journal.dropped == 1
    journal.add({"name": "d"})
    assert journal.read() == [{"number": 4, "name": "d"}]


def test_a_clock_is_frozen_advanced_and_sped_up():
    clock = Clock()
    clock.change({"freeze": True})
    start = clock.timestamp()
    clock.change({"advance": "60"})
    assert clock.timestamp() == start + 60
    clock.change({"freeze": False, "speed": 1_000_000})
    until("a fast clock", lambda: clock.timestamp() > start + 3600, 10)


def test_a_fault_skips_and_counts():
    @dataclass
    class Rule(Fault):
        id: int
        skip: int = 0
        count: int | None = None
        hits: int = 0
        options: dict = field(default_factory=dict)

    faults = Faults()
    limited, unlimited = Rule(1, skip=1, count=2, options={"status": 503}), Rule(2)
    faults._rules += [limited, unlimited]
    assert [faults.applies(limited) for _ in range(3)] == [False, True, True]
    assert faults._rules == [unlimited]
    assert limited.describe() == {"id": 1, "skip": 0, "count": 2, "hits": 2, "status": 503}
    assert all(faults.applies(unlimited) for _ in range(3))
    assert (faults.keep(lambda rule: rule.id == 1), faults._rules) == (1, [])


def test_settings_keep_their_types():
    @dataclass
    class Example(Settings):
        seconds: float = 1
        enabled: bool = False

    example = Example()
    example.change({"seconds": "2", "enabled": True})
    assert example.describe() == {"seconds": 2.0, "enabled": True}
    for wanted, reason in (({"second": 1}, "unknown settings"), ({"enabled": "no"}, "of type bool")):
        with pytest.raises(ValueError, match=reason):
            example.change(wanted)


def test_waiting_ends_with_the_last_error():
    attempts = iter([OSError("not yet"), None, "found"])

    def look():
        attempt = next(attempts)
        if isinstance(attempt, OSError):
            raise attempt
        return attempt

    assert until("it", look, pause=0, errors=(OSError,)) == "found"
    with pytest.raises(Failure, match="it: timed out after 0 s: 'never'"):
        until("it", lambda: {}["never"], 0, errors=(KeyError,))


def test_a_failure_ends_a_script_with_its_message():
    def main():
        raise Failure("the reason")

    with pytest.raises(SystemExit, match="^the reason$"):
        run(main)


def test_processes_that_ended_do_not_run():
    child = subprocess.Popen(["sleep", "60"])
    assert is_running(child.pid)
    child.kill()
    until("a zombie", lambda: not is_running(child.pid))
    child.wait()
    assert not is_running(child.pid)
    assert cpu_seconds(os.getpid()) > 0
    assert 1 < memory_mib(os.getpid()) <= memory_mib(os.getpid(), "VmHWM")


def test_git_ignores_the_configuration_of_the_user(tmp_path, monkeypatch):
    (tmp_path / ".gitconfig").write_text("[commit]\ngpgSign = true\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    make_bare(tmp_path / "remote.git")
    work = tmp_path / "work"
    git("clone", "--quiet", tmp_path / "remote.git", work)
    (work / "file").write_text("content\n")
    tip = commit(work, "a message")
    push(work)
    log = git("log", "--format=%H %an %s", "main", where=tmp_path / "remote.git").stdout
    assert log == f"{tip} Platform Team a message\n"
    with pytest.raises(Failure, match="git switch nowhere: fatal: "):
        git("switch", "nowhere", where=work)
    assert git("switch", "nowhere", where=work, check=False).returncode


def test_an_agent_inherits_no_settings(monkeypatch):
    for name in ("AWS_PROFILE", "OPSY_INTERVAL", "OPSY_LOG"):
        monkeypatch.setenv(name, "value")
    variables = agent.environment("a.git", "state", OPSY_PACKER="packer") | agent.aws("http://aws", "AKIA")
    assert variables["PATH"] == os.environ["PATH"]
    assert {name for name in variables if name.startswith(("AWS_", "OPSY_"))} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SHARED_CREDENTIALS_FILE",
        "OPSY_LOG",
        "OPSY_OUTPUT",
        "OPSY_PACKER",
        "OPSY_REPO",
        "OPSY_STATE",
    }
