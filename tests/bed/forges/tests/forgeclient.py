"""Gives access to a bed as a client and through the control interface."""

import json
import urllib.error
import urllib.request
from urllib.parse import quote

REPOSITORY, OWNER = "platform/images", "platform"
PREFIX = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}


class Answer:
    def __init__(self, status: int, headers, body: bytes) -> None:
        self.status, self.headers, self.text = status, headers, body.decode()

    @property
    def json(self):
        return json.loads(self.text or "null")


class Bed:
    def __init__(self, info: dict) -> None:
        self.info, self.url = info, info["url"]

    def call(self, method: str, path: str, body=None, headers: dict | None = None) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        named = {"User-Agent": "test", "Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def control(self, method: str, path: str, /, **asked):
        answer = self.call(method, f"/_bed/{path}", asked if method != "GET" else None)
        assert answer.status == 200, answer.text
        return answer.json

    def api(self, forge: str, method: str, path: str, body=None, token: str = "forge-demo") -> Answer:
        name = {"gitlab": "PRIVATE-TOKEN"}.get(forge, "Authorization")
        value = token if forge == "gitlab" else f"token {token}"
        return self.call(method, PREFIX[forge] + path, body, {name: value})


class Forge:
    """One forge of a bed, with a pull request number 1 from the branch `change`."""

    def __init__(self, bed: Bed, name: str) -> None:
        self.bed, self.name = bed, name
        self.is_gitlab = name == "gitlab"
        encoded = quote(REPOSITORY, safe="")
        self.root = f"/projects/{encoded}" if self.is_gitlab else f"/repos/{REPOSITORY}"
        self.pulls = self.root + ("/merge_requests" if self.is_gitlab else "/pulls")
        self.pull = f"{self.pulls}/1"
        self.comments = f"{self.pull}/notes" if self.is_gitlab else f"{self.root}/issues/1/comments"

    def call(self, method: str, path: str, body=None, token: str = "forge-demo") -> Answer:
        return self.bed.api(self.name, method, path, body, token)

    def comment(self, comment_id: int) -> str:
        return f"{self.comments}/{comment_id}" if self.is_gitlab else f"{self.root}/issues/comments/{comment_id}"

    def edit(self, path: str, body: dict) -> Answer:
        return self.call("PUT" if self.is_gitlab else "PATCH", path, body)

    def new_pull(self, head: str, base: str = "main", title: str = "t") -> dict:
        names = ("source_branch", "target_branch") if self.is_gitlab else ("head", "base")
        return {names[0]: head, names[1]: base, "title": title}
