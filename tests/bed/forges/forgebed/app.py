"""The application: dispatches a request by its path, and lets other people act between requests."""

import bedkit.application
from bedkit.faults import RequestFault
from bedkit.reply import Reply
from bedkit.server import Request

from . import gitea, github, gitlab
from .control import ROUTES, push
from .refused import Refused
from .world import World

PARTS = {"/api/v3": github.API, "/api/v4": gitlab.API, "/api/v1": gitea.API}


class Application(bedkit.application.Application):
    controls = ROUTES
    fault_kinds = {
        "push": "executes, then somebody pushes to the branch of a pull request",
        "comment": "executes, then somebody comments on a pull request",
    }
    credentials = ("authorization", "private-token", "job-token")

    def start(self, url: str, info: dict) -> None:
        self.url, self.info = url, info
        self.forget()

    def new_world(self) -> World:
        return World(self.speed, self.url)

    def __call__(self, request: Request) -> Reply:
        with self.lock:
            self.world.read_branches()
        return super().__call__(request)

    def play(self, request: Request) -> Reply:
        prefix = request.path[:7]
        if prefix not in PARTS:
            return Reply.words("not found\n", 404, error="no such path")
        try:
            return PARTS[prefix].call(self.world, request, request.path[7:])
        except Refused as refused:
            return refused.reply

    def meanwhile(self, fault: RequestFault) -> None:
        asked = fault.options
        if fault.kind == "push":
            push(self, asked)
        if fault.kind == "comment":
            pull = self.world.repositories[asked["repository"]].pulls[asked["number"]]
            self.world.add_comment(pull, asked.get("user", "somebody"), asked["body"])
