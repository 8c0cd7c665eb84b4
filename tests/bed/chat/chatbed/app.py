"""The application: applies faults, dispatches a request by its path, and writes the journal."""

import re
import sys
import threading
import time
import traceback
from datetime import UTC, datetime

from bedkit.journal import NumberedJournal
from bedkit.server import Request

from . import discord, hooks, receiver, slack
from .clock import stamp
from .control import control
from .faults import Fault, Faults
from .journal import body_of, digest
from .reply import Reply
from .world import World

# Enough for hours of one agent.
JOURNAL_LIMIT = 20_000
DISCORD = (
    r"/api(?:/v\d+)?/webhooks/(?P<webhook_id>\d+)/(?P<token>[^/]+)"
    r"(?:/messages/(?P<message_id>[^/]+))?"
)
PARTS = (
    (re.compile(r"/api/(?P<method>[\w.]+)"), slack.api),
    (re.compile(r"/services/.+"), hooks.deliver),
    (re.compile(DISCORD), discord.webhook),
    (re.compile(r"/hook/(?P<name>[^/]+)"), receiver.receive),
)


class Application:
    def __init__(self, speed: float) -> None:
        self.lock = threading.RLock()
        self.speed = speed
        self.info: dict = {}
        self.forget()

    def forget(self) -> None:
        """Reset to the state after startup."""
        self.world = World(self.speed)
        self.faults = Faults()
        self.journal = NumberedJournal(JOURNAL_LIMIT)
        self.down = False

    def __call__(self, request: Request) -> Reply:
        if request.path == "/_bed" or request.path.startswith("/_bed/"):
            return control(self, request)
        began = time.monotonic()
        note: dict = {"fault": None, "executed": False}
        reply = self._through_faults(request, note)
        note |= reply.note
        with self.lock:
            self.journal.add(
                {
                    "real_time": datetime.now(UTC).isoformat(),
                    "time": stamp(self.world.now()),
                    "method": request.method,
                    "path": request.path,
                    "query": request.query,
                    "status": None if reply.reset else reply.status,
                    "body": body_of(request),
                    "authorization": digest(request.headers.get("authorization")),
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
            fault = self.faults.hit(request.path, request.text)
        if fault is None:
            return self._play(request, note)
        note["fault"] = fault.kind
        if fault.kind in ("status", "error", "reset"):
            return _instead(fault)
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        reply = self._play(request, note)
        if fault.kind == "slow_after":
            time.sleep(fault.seconds)
        return Reply(reset=True, note=reply.note) if fault.kind == "lost" else reply

    def _play(self, request: Request, note: dict) -> Reply:
        for pattern, part in PARTS:
            match = pattern.fullmatch(request.path)
            if not match:
                continue
            try:
                with self.lock:
                    reply = part(self.world, request, **match.groupdict())
            except Exception as error:  # a defect of the bed is reported instead of dropping the connection
                traceback.print_exc(file=sys.stderr)
                return Reply.words(f"{type(error).__name__}: {error}\n", 501, error="BedDefect")
            note["executed"] = reply.status < 400 and not reply.note.get("error")
            return reply
        return Reply.words("not found\n", 404, error="no such path")


def _instead(fault: Fault) -> Reply:
    options = fault.options
    if fault.kind == "reset":
        return Reply(reset=True)
    if fault.kind == "error":
        error = options.get("error", "internal_error")
        return Reply.json({"ok": False, "error": error}, error=error)
    status = int(options.get("status", 503))
    headers = {name: str(value) for name, value in options.get("headers", {}).items()}
    body = options.get("body", "")
    if isinstance(body, str):
        return Reply.words(body, status, headers)
    return Reply.json(body, status, headers)
