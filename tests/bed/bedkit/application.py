"""An application that emulates web services: applies faults, dispatches requests, and writes the journal."""

import hashlib
import json
import sys
import threading
import time
import traceback
from datetime import UTC, datetime

from .control import changeable, control, reset
from .faults import CONTROLS as FAULTS
from .faults import RequestFault, RequestFaults
from .journal import CONTROLS as JOURNAL
from .journal import NumberedJournal
from .reply import Reply
from .server import Request

# Enough for hours of one agent.
JOURNAL_LIMIT = 20_000
# The control endpoints of every application.
CONTROLS = {
    **JOURNAL,
    **FAULTS,
    **changeable("settings"),
    **changeable("clock"),
    ("POST", "reset"): reset,
}


class Application:
    """Base of an application. Its world has `settings`, a `clock` and `stamp()`, the emulated time."""

    # functions of the control interface, by method and path
    controls: dict = CONTROLS
    # additional kinds of faults, with their effects
    fault_kinds: dict[str, str] = {}
    # the headers that can contain credentials
    credentials: tuple[str, ...] = ("authorization",)

    def __init__(self, speed: float) -> None:
        self.lock = threading.RLock()
        self.speed = speed
        self.info: dict = {}

    def new_world(self):
        """Return the state after startup."""
        raise NotImplementedError

    def play(self, request: Request) -> Reply:
        """Execute a request. The application is locked."""
        raise NotImplementedError

    def instead(self, fault: RequestFault) -> Reply | None:
        """Return the response of a fault that replaces the request; None if this kind executes it."""
        if fault.kind == "reset":
            return Reply(reset=True)
        return _status(fault) if fault.kind == "status" else None

    def meanwhile(self, fault: RequestFault) -> None:
        """Do what a fault does after the request was executed. The application is locked."""

    def forget(self) -> None:
        """Reset to the state after startup."""
        self.world = self.new_world()
        self.faults = RequestFaults(self.fault_kinds)
        self.journal = NumberedJournal(JOURNAL_LIMIT)
        self.down = False

    def __call__(self, request: Request) -> Reply:
        if request.path == "/_bed" or request.path.startswith("/_bed/"):
            return control(self, request, self.controls, Reply.json, (ValueError, TypeError))
        began = time.monotonic()
        note: dict = {"fault": None, "executed": False}
        reply = self._through_faults(request, note)
        note |= reply.note
        credentials = next(filter(None, (request.headers.get(name) for name in self.credentials)), None)
        with self.lock:
            self.journal.add(
                {
                    "real_time": datetime.now(UTC).isoformat(),
                    "time": self.world.stamp(),
                    "method": request.method,
                    "path": request.path,
                    "query": request.query,
                    "status": None if reply.reset else reply.status,
                    "body": body_of(request),
                    "authorization": digest(credentials),
                    "user_agent": request.headers.get("user-agent", ""),
                    **note,
                    "ms": round((time.monotonic() - began) * 1000, 1),
                }
            )
        return reply

    def _through_faults(self, request: Request, note: dict) -> Reply:
        with self.lock:
            if self.down:
                note["fault"] = "down"
                return Reply(reset=True)
            fault = self.faults.hit(request)
        if fault is None:
            return self._play(request, note)
        note["fault"] = fault.kind
        replaced = self.instead(fault)
        if replaced is not None:
            return replaced
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        reply = self._play(request, note)
        with self.lock:
            self.meanwhile(fault)
        if fault.kind == "slow_after":
            time.sleep(fault.seconds)
        return Reply(reset=True, note=reply.note) if fault.kind == "lost" else reply

    def _play(self, request: Request, note: dict) -> Reply:
        try:
            with self.lock:
                reply = self.play(request)
        except Exception as error:  # a defect of the bed is reported instead of dropping the connection
            traceback.print_exc(file=sys.stderr)
            return Reply.words(f"{type(error).__name__}: {error}\n", 501, error="BedDefect")
        note["executed"] = reply.status < 400 and not reply.note.get("error")
        return reply


def body_of(request: Request):
    """Return the body as parsed JSON, or as text if it is not JSON."""
    try:
        return json.loads(request.body) if request.body else None
    except ValueError:
        return request.text


def digest(credentials: str | None) -> str | None:
    """Return a digest that distinguishes credentials without storing them; for `Bearer TOKEN`, that of the token."""
    if not credentials:
        return None
    secret = credentials.partition(" ")[2] or credentials
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


def _status(fault: RequestFault) -> Reply:
    options = fault.options
    status = int(options.get("status", 503))
    headers = {name: str(value) for name, value in options.get("headers", {}).items()}
    body = options.get("body", "")
    return (Reply.words if isinstance(body, str) else Reply.json)(body, status, headers)
