"""The application: applies faults, dispatches a request by its path, and writes the journal."""

import hashlib
import json
import sys
import threading
import time
import traceback

from bedkit.journal import NumberedJournal
from bedkit.server import Request

from . import gitea, github, gitlab
from .control import control, push
from .faults import Fault, Faults
from .reply import Refused, Reply
from .world import World

JOURNAL_LIMIT = 20_000
PARTS = {"/api/v3": github.API, "/api/v4": gitlab.API, "/api/v1": gitea.API}


class Application:
    def __init__(self, speed: float) -> None:
        self.lock = threading.RLock()
        self.speed = speed
        self.info: dict = {}

    def start(self, url: str, info: dict) -> None:
        self.url, self.info = url, info
        self.forget()

    def forget(self) -> None:
        """Reset to the state after startup."""
        self.world = World(self.speed, self.url)
        self.faults = Faults()
        self.journal = NumberedJournal(JOURNAL_LIMIT)

    def __call__(self, request: Request) -> Reply:
        if request.path == "/_bed" or request.path.startswith("/_bed/"):
            return control(self, request)
        note: dict = {"fault": None, "executed": False}
        reply = self._through_faults(request, note)
        note |= reply.note
        with self.lock:
            self.journal.add(
                {
                    "time": self.world.stamp(),
                    "method": request.method,
                    "path": request.path,
                    "query": request.query,
                    "status": None if reply.reset else reply.status,
                    "body": body_of(request),
                    "authorization": digest(request),
                    "user_agent": request.headers.get("user-agent", ""),
                    **note,
                }
            )
        return reply

    def _through_faults(self, request: Request, note: dict) -> Reply:
        with self.lock:
            fault = self.faults.hit(request.method, request.path, request.text)
        if fault is None:
            return self._play(request, note)
        note["fault"] = fault.kind
        if fault.kind == "reset":
            return Reply(reset=True)
        if fault.kind == "status":
            return _instead(fault)
        if fault.kind == "slow":
            time.sleep(float(fault.options.get("seconds", 1)))
        reply = self._play(request, note)
        if fault.kind in ("push", "comment"):
            self._meanwhile(fault)
        return Reply(reset=True, note=reply.note) if fault.kind == "lost" else reply

    def _meanwhile(self, fault: Fault) -> None:
        with self.lock:
            if fault.kind == "push":
                push(self, fault.options)
                return
            asked = fault.options
            pull = self.world.repositories[asked["repository"]].pulls[asked["number"]]
            self.world.add_comment(pull, asked.get("user", "somebody"), asked["body"])

    def _play(self, request: Request, note: dict) -> Reply:
        prefix = request.path[:7]
        if prefix not in PARTS:
            return Reply.words("not found\n", 404, error="no such path")
        try:
            with self.lock:
                self.world.read_branches()
                reply = PARTS[prefix].call(self.world, request, request.path[7:])
        except Refused as refused:
            reply = refused.reply
        except Exception as error:  # a defect of the bed is reported instead of dropping the connection
            traceback.print_exc(file=sys.stderr)
            return Reply.words(f"{type(error).__name__}: {error}\n", 501, error="BedDefect")
        note["executed"] = reply.status < 400
        return reply


def body_of(request: Request):
    """Return the body as parsed JSON, or as text if it is not JSON."""
    try:
        return json.loads(request.body) if request.body else None
    except ValueError:
        return request.text


def digest(request: Request) -> str | None:
    """Return a digest that distinguishes tokens without storing them."""
    named = (request.headers.get(name) for name in ("authorization", "private-token", "job-token"))
    secret = next((value for value in named if value), None)
    if secret is None:
        return None
    return hashlib.sha256((secret.partition(" ")[2] or secret).encode()).hexdigest()[:12]


def _instead(fault: Fault) -> Reply:
    options = fault.options
    status = int(options.get("status", 503))
    headers = {name: str(value) for name, value in options.get("headers", {}).items()}
    body = options.get("body", "")
    return (Reply.words if isinstance(body, str) else Reply.json)(body, status, headers)
