"""A Git remote over loopback HTTP: `git http-backend` behind a small threaded server.

Repositories are in the directory --root and are served at /<name>. Hooks run, so a
pre-receive hook can reject pushes. Everything under /_bed is the control interface:
  POST /_bed/away        {"away": true, "mode": "503" | "refuse"}
  POST /_bed/repository  {"name": "fleet.git", "branch": "main"}
  POST /_bed/moved       {"from": "/old", "to": "/fleet.git", "private": true}
  POST /_bed/protocol    {"version": 0}: do not speak version 2 of Git's protocol
  POST /_bed/readers     {"users": ["ann"]}: these users may not push
  GET|DELETE /_bed/journal
"""

import argparse
import base64
import gzip
import hmac
import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # contains bedkit
import bedkit.server
from bedkit import journal, program

AWAY_MODES = ("503", "refuse")


class Server(bedkit.server.Server):
    def __init__(self, port: int, root: Path, credentials: Path | None) -> None:
        self.root, self.credentials = root, credentials
        self.away: str | None = None
        self.moved: dict[str, tuple[str, bool]] = {}
        self.is_old = False
        self.readers: set[str] = set()
        self.journal = journal.Journal()
        super().__init__(port, Handler)

    def admits(self, authorization: str) -> bool:
        """Check credentials. The file is read for each request, so a test can rotate them by rewriting it."""
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


class Handler(bedkit.server.Handler):
    server: Server

    def serve(self) -> None:
        if self.path.startswith("/_bed"):
            self._control()
            return
        body = self.read_body()
        self.is_ls_refs = b"command=ls-refs" in body[:64]
        if self.server.away == "refuse":
            self._note(None, b"")
            self.reset()
        elif self.server.away:
            self._answer(503, {"Content-Type": "text/plain"}, b"the remote is unavailable\n")
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
        """Return the redirect target. That of a private repository is returned only to users who may read it."""
        for old, (new, private) in self.server.moved.items():
            if self.path.startswith(old + "/") and (admitted or not private):
                return new + self.path.removeprefix(old)
        return None

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
        headers.pop("Content-Length", None)  # the server adds it
        if not head:
            return 500, {"Content-Type": "text/plain"}, done.stderr
        return status, headers, answer

    def _environment(self, length: int) -> dict[str, str]:
        path, _, query = self.path.partition("?")
        # Git answers 403 to a push that is not allowed, as GitHub and GitLab do. The repositories may belong to
        # another user of this machine.
        may_push = "false" if self._user() in self.server.readers else "true"
        config = (("http.receivepack", may_push), ("safe.directory", "*"))
        settings = {"GIT_CONFIG_COUNT": str(len(config))}
        for index, (key, value) in enumerate(config):
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
            "HTTP_GIT_PROTOCOL": "" if self.server.is_old else self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
            **settings,
        }

    def _control(self) -> None:
        status, document = self.call_control(CONTROLS, (subprocess.CalledProcessError,))
        answer = json.dumps(document).encode() + b"\n"
        self.write(status, {"Content-Type": "application/json"}, answer)

    def _answer(self, status: int, headers: dict, body: bytes) -> None:
        self._note(status, body)
        self.write(status, headers, body)

    def _note(self, status: int | None, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        self.server.journal.add(
            {
                "method": self.command,
                "path": path,
                "query": query,
                "status": status,
                "bytes": len(body),
                "command": "ls-refs" if self.is_ls_refs else None,
                "user": self._user(),
            }
        )

    def _user(self) -> str | None:
        """Return the user name in the request, which is not verified here."""
        _, _, encoded = self.headers.get("Authorization", "").partition(" ")
        try:
            return base64.b64decode(encoded, validate=True).decode().partition(":")[0] or None
        except ValueError:
            return None


def set_away(server: Server, asked: dict) -> dict:
    mode = str(asked.get("mode", "503"))
    if mode not in AWAY_MODES:
        raise ValueError(f"mode must be one of {AWAY_MODES}")
    server.away = mode if asked["away"] else None
    return {"away": server.away}


def make_repository(server: Server, asked: dict) -> dict:
    path = (server.root / asked["name"]).resolve()
    if server.root.resolve() not in path.parents:
        raise ValueError("the repository must be inside the root directory")
    branch = f"--initial-branch={asked.get('branch', 'main')}"
    subprocess.run(["git", "init", "--quiet", "--bare", branch, path], check=True)
    return {"path": str(path), "url": f"{server.url}/{asked['name']}"}


def move_repository(server: Server, asked: dict) -> dict:
    server.moved[asked["from"]] = (asked["to"], bool(asked.get("private")))
    return {"moved": len(server.moved)}


def set_protocol(server: Server, asked: dict) -> dict:
    server.is_old = int(asked["version"]) < 2
    return {"old": server.is_old}


def set_readers(server: Server, asked: dict) -> dict:
    server.readers = set(asked["users"])
    return {"readers": sorted(server.readers)}


CONTROLS = {
    ("POST", "readers"): set_readers,
    ("POST", "away"): set_away,
    ("POST", "repository"): make_repository,
    ("POST", "moved"): move_repository,
    ("POST", "protocol"): set_protocol,
    **journal.CONTROLS,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="gitbed", description="A Git remote on loopback.")
    parser.add_argument("--root", type=Path, required=True, help="directory of the repositories")
    program.add_port(parser)
    parser.add_argument(
        "--credentials",
        type=Path,
        help="file with lines of user:password; with * as user, any user name is accepted",
    )
    asked = program.begin(parser)
    asked.root.mkdir(parents=True, exist_ok=True)
    server = Server(asked.port, asked.root, asked.credentials)
    program.announce({"url": server.url, "port": server.port, "pid": os.getpid()}, asked.port_file)
    program.serve(server)


if __name__ == "__main__":
    main()
