"""The application: dispatches a request by its path."""

import re

import bedkit.application
from bedkit.faults import RequestFault
from bedkit.reply import Reply
from bedkit.server import Request

from . import discord, hooks, receiver, slack
from .control import ROUTES
from .world import World

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


class Application(bedkit.application.Application):
    controls = ROUTES
    fault_kinds = {"error": "responds with a Slack error and status 200, without executing"}

    def __init__(self, speed: float) -> None:
        super().__init__(speed)
        self.forget()

    def new_world(self) -> World:
        return World(self.speed)

    def play(self, request: Request) -> Reply:
        for pattern, part in PARTS:
            match = pattern.fullmatch(request.path)
            if match:
                return part(self.world, request, **match.groupdict())
        return Reply.words("not found\n", 404, error="no such path")

    def instead(self, fault: RequestFault) -> Reply | None:
        if fault.kind != "error":
            return super().instead(fault)
        error = fault.options.get("error", "internal_error")
        return Reply.json({"ok": False, "error": error}, error=error)
