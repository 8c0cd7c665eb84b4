"""Gives access to a bed as a client and through the control interface."""

from urllib.parse import quote

from bedkit.web import Answer, Client

REPOSITORY, OWNER = "platform/images", "platform"
PREFIX = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}


class Bed(Client):
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
