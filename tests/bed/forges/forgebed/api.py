"""What the three APIs have in common: a table of endpoints, tokens, pages, and rates."""

import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlencode

from bedkit.reply import Reply
from bedkit.server import Request

from .refused import Refused
from .world import Repository, Token, World


class Call:
    """One request to an endpoint, with the token that it was made with."""

    def __init__(self, world: World, request: Request, secret: str, token: Token) -> None:
        self.world, self.request, self.secret, self.token = world, request, secret, token
        self.query = {name: values[-1] for name, values in parse_qs(request.query).items()}

    @property
    def body(self) -> dict:
        """The JSON object that was sent."""
        if not self.request.headers.get("content-type", "").startswith("application/json"):
            raise Refused(415, {"message": "Unsupported content type: send JSON"})
        try:
            document = json.loads(self.request.body)
        except ValueError:
            raise Refused(400, {"message": "Problems parsing JSON"}) from None
        if not isinstance(document, dict):
            raise Refused(400, {"message": "Body should be a JSON object"})
        return document


class Api:
    """A table of endpoints. `authorize` returns a call from a request, or refuses it; `missing` is the 404.

    With `closes`, a pull request is closed when its branch is deleted.
    """

    def __init__(
        self, authorize: Callable, missing: Callable, before: Callable | None = None, closes: bool = True
    ) -> None:
        self.authorize, self.missing, self.before, self.closes = authorize, missing, before, closes
        self.endpoints: list[tuple[str, re.Pattern, Callable]] = []

    def endpoint(self, method: str, pattern: str):
        """Register a function. `{name}` matches one segment of a path, as it is written in the URL."""
        compiled = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", pattern))

        def register(function: Callable) -> Callable:
            self.endpoints.append((method, compiled, function))
            return function

        return register

    def call(self, world: World, request: Request, path: str) -> Reply:
        call = self.authorize(world, request)
        if self.before:
            self.before(call)
        for method, pattern, function in self.endpoints:
            match = pattern.fullmatch(path)
            if match and method == request.method:
                named = {name: unquote(value) for name, value in match.groupdict().items()}
                return function(call, **named)
        raise Refused(404, self.missing("Not Found"))

    def repository(self, call: Call, path: str) -> Repository:
        """Return a repository that the token sees. Any other is hidden, as if it did not exist."""
        seen = call.token.repositories
        if path not in call.world.repositories or (seen is not None and path not in seen):
            raise Refused(404, self.missing("Project Not Found"))
        repository = call.world.repositories[path]
        if self.closes:
            call.world.close_without_branch(repository)
        return repository

    def pull(self, call: Call, repository: Repository, number: str):
        pull = repository.pulls.get(int(number)) if number.isdigit() else None
        if pull is None:
            raise Refused(404, self.missing("Not found"))
        return pull


def number(call: Call, name: str, default: int) -> int:
    value = call.query.get(name, "")
    return int(value) if value.isdigit() and int(value) > 0 else default


def page(call: Call, items: list, size_name: str, default: int, most: int) -> tuple[list, int, int, int]:
    """Return the items of the requested page, its number, the size of a page, and the number of the last one."""
    size, at = min(number(call, size_name, default), most), number(call, "page", 1)
    last = max(1, -(-len(items) // size))
    return items[(at - 1) * size : at * size], at, size, last


def links(call: Call, at: int, last: int) -> str:
    """Return the content of the header Link."""
    to = {"prev": at - 1, "next": at + 1, "last": last, "first": 1}
    wanted = [name for name in to if (at < last if name in ("next", "last") else at > 1)]
    url = call.world.url + call.request.path

    def link(name: str) -> str:
        return f'<{url}?{urlencode(call.query | {"page": to[name]})}>; rel="{name}"'

    return ", ".join(map(link, wanted))
