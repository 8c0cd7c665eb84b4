"""A Git remote over loopback HTTP: `git http-backend` behind a small threaded server.

Repositories lie under --root and are served at /<name>; hooks run, so a refusing
pre-receive hook refuses. Everything under /_bed is the control interface:
  POST /_bed/away        {"away": true, "mode": "503" | "refuse"}
  POST /_bed/repository  {"name": "fleet.git", "branch": "main"}
  POST /_bed/moved       {"from": "/old", "to": "/fleet.git", "private": true}
  GET|DELETE /_bed/journal
"""

import argparse
import base64
import gzip
import hmac
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PARENT_LOOK_SECONDS = 0.2
AWAY_MODES = ("503", "refuse")
# Given to git in place of a configuration file: pushes by anyone the server
# let in, and repositories made by another user of this machine.
GIT_CONFIG = (("http.receivepack", "true"), ("safe.directory", "*"))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, root: Path, credentials: Path | None) -> None:
        self.root, self.credentials = root, credentials
        self.away: str | None = None
        self.moved: dict[str, tuple[str, bool]] = {}
        self.journal: list[dict] = []
        self.lock = threading.Lock()
        self.resetting: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), Handler)

    def shutdown_request(self, request) -> None:
        """After a reset no shutdown(): it would send FIN first."""
        if request in self.resetting:
            self.resetting.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def admits(self, authorization: str) -> bool:
        """The file is read each time, so a test rotates credentials by rewriting it."""
        if self.credentials is None:
            return True
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True).decode()
        except ValueError:
            return False
        if scheme.lower() != "basic" or ":" not in given:
            return False
        anyone = "*:" + given.partition(":")[2]
        lines = [line.strip() for line in self.credentials.read_text().splitlines()]
        return any(
            hmac.compare_digest(line.encode(), one.encode())
            for line in lines
            if line
            for one in (given, anyone)
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120
    server: Server

    def serve(self) -> None:
        body = self._body()
        if self.path.startswith("/_bed"):
            self._control(body)
            return
        if self.server.away == "refuse":
            self._note(None)
            self._reset()
        elif self.server.away:
            self._answer(503, {"Content-Type": "text/plain"}, b"the remote is away\n")
        elif (target := self._moved_to(admitted := self._is_admitted())) is not None:
            self._answer(301, {"Location": target}, b"")
        elif not admitted:
            challenge = {"WWW-Authenticate": 'Basic realm="git"', "Content-Type": "text/plain"}
            self._answer(401, challenge, b"authentication required\n")
        else:
            self._answer(*self._backend(body))

    do_GET = do_POST = do_DELETE = serve

    def _is_admitted(self) -> bool:
        return self.server.admits(self.headers.get("Authorization", ""))

    def _moved_to(self, admitted: bool) -> str | None:
        """Where a request is redirected to. Where a private repository went is told to those who may read it."""
        for old, (new, private) in self.server.moved.items():
            if self.path.startswith(old + "/") and (admitted or not private):
                return new + self.path.removeprefix(old)
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0], 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def _backend(self, body: bytes) -> tuple[int, dict, bytes]:
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            env=self._environment(len(body)),
            capture_output=True,
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        if not head:
            return 500, {"Content-Type": "text/plain"}, done.stderr
        return status, headers, answer

    def _environment(self, length: int) -> dict[str, str]:
        path, _, query = self.path.partition("?")
        settings = {"GIT_CONFIG_COUNT": str(len(GIT_CONFIG))}
        for index, (key, value) in enumerate(GIT_CONFIG):
            settings |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "GIT_PROJECT_ROOT": str(self.server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
            **settings,
        }

    def _control(self, body: bytes) -> None:
        route = CONTROLS.get((self.command, self.path.partition("?")[0].removeprefix("/_bed/")))
        try:
            if route is None:
                raise ValueError(f"no {self.command} {self.path}")
            document = route(self.server, json.loads(body or b"{}"))
            status = 200
        except (ValueError, KeyError, subprocess.CalledProcessError) as error:
            status, document = 400, {"error": str(error)}
        answer = json.dumps(document).encode() + b"\n"
        self._write(status, {"Content-Type": "application/json"}, answer)

    def _answer(self, status: int, headers: dict, body: bytes) -> None:
        self._note(status)
        self._write(status, headers, body)

    def _note(self, status: int | None) -> None:
        path, _, query = self.path.partition("?")
        entry = {
            "method": self.command,
            "path": path,
            "query": query,
            "status": status,
            "user": self._user(),
        }
        with self.server.lock:
            self.server.journal.append(entry)

    def _user(self) -> str | None:
        """Who the request says it is from."""
        _, _, encoded = self.headers.get("Authorization", "").partition(" ")
        try:
            return base64.b64decode(encoded, validate=True).decode().partition(":")[0] or None
        except ValueError:
            return None

    def _write(self, status: int, headers: dict, body: bytes) -> None:
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('',))[0]}"]
        lines += [f"{k}: {v}" for k, v in headers.items() if k.lower() != "content-length"]
        lines += [f"Content-Length: {len(body)}", "", ""]
        self.wfile.write("\r\n".join(lines).encode() + body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.resetting.add(self.connection)
        self.close_connection = True

    def log_message(self, *_) -> None:
        """The journal is the log."""


def set_away(server: Server, asked: dict) -> dict:
    mode = str(asked.get("mode", "503"))
    if mode not in AWAY_MODES:
        raise ValueError(f"mode must be one of {AWAY_MODES}")
    server.away = mode if asked["away"] else None
    return {"away": server.away}


def make_repository(server: Server, asked: dict) -> dict:
    path = (server.root / asked["name"]).resolve()
    if server.root.resolve() not in path.parents:
        raise ValueError("the repository must lie under the root")
    branch = f"--initial-branch={asked.get('branch', 'main')}"
    subprocess.run(["git", "init", "--quiet", "--bare", branch, path], check=True)
    port = server.server_address[1]
    return {"path": str(path), "url": f"http://127.0.0.1:{port}/{asked['name']}"}


def move_repository(server: Server, asked: dict) -> dict:
    server.moved[asked["from"]] = (asked["to"], bool(asked.get("private")))
    return {"moved": len(server.moved)}


def read_journal(server: Server, asked: dict) -> list[dict]:
    with server.lock:
        return list(server.journal)


def clear_journal(server: Server, asked: dict) -> list[dict]:
    with server.lock:
        gone, server.journal = server.journal, []
    return gone


CONTROLS = {
    ("POST", "away"): set_away,
    ("POST", "repository"): make_repository,
    ("POST", "moved"): move_repository,
    ("GET", "journal"): read_journal,
    ("DELETE", "journal"): clear_journal,
}


def die_with_parent() -> None:
    """SIGTERM when the parent process ends.

    Not the kernel's parent-death signal: that one fires when the *thread* that
    started us ends, and test runners start things from short-lived threads.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="gitbed", description="A Git remote on loopback.")
    parser.add_argument("--root", type=Path, required=True, help="folder of the repositories")
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="JSON with the address, written when ready")
    parser.add_argument(
        "--credentials", type=Path, help="lines of user:password; user * admits a token as password"
    )
    parser.add_argument("--die-with-parent", action="store_true")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if asked.die_with_parent:
        die_with_parent()
    asked.root.mkdir(parents=True, exist_ok=True)
    server = Server(asked.port, asked.root, asked.credentials)
    port = server.server_address[1]
    info = json.dumps({"url": f"http://127.0.0.1:{port}", "port": port, "pid": os.getpid()})
    if asked.port_file:
        partial = asked.port_file.with_name(f".{asked.port_file.name}.{os.getpid()}")
        partial.write_text(info + "\n")
        partial.replace(asked.port_file)
    print(info, flush=True)
    try:
        server.serve_forever(poll_interval=0.1)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
