"""The state of the emulated forges: repositories with branches, pull requests, comments and statuses; users and tokens.

All three APIs show the same state. A branch is a name and the ID of its head; there are no Git objects. The branches of a
repository can be those of a Git directory.
"""

import hashlib
import itertools
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import bedkit.settings
from bedkit.clock import Clock

from .rates import Rates

DEFAULT_TOKEN, DEFAULT_USER = "forge-demo", "opsy-bot"
ACTIONS_USER = "github-actions[bot]"


@dataclass
class Settings(bedkit.settings.Settings):
    """Limits that depend on the instance, or that the real services do not document."""

    # what GitHub's message says; it stores 262,144 bytes at times
    github_body_characters: int = 65_536
    # requests per hour and token; 0: no limit
    github_requests: int = 0
    # writes per minute and token, the secondary rate limit
    github_writes: int = 80
    # a limit of the repository's settings
    github_actions_create_pulls: bool = False
    gitlab_body_characters: int = 1_000_000
    # notes per minute and user
    gitlab_notes: int = 60
    # versions before 18.3 refuse to set a status again
    gitlab_strict_transitions: bool = True
    # a limit of a proxy in front of Gitea; 0: no limit
    gitea_body_bytes: int = 0
    gitea_page: int = 50


@dataclass
class Token:
    """A token of a user. `kind` is user, actions (GITHUB_TOKEN) or job (CI_JOB_TOKEN)."""

    user: str = DEFAULT_USER
    kind: str = "user"
    # ok, revoked or expired
    state: str = "ok"
    # what the token lacks: names of rights of the forge, such as pull_requests:write, api, write:issue
    lacks: tuple[str, ...] = ()
    # repositories that it sees; None: all
    repositories: tuple[str, ...] | None = None


@dataclass
class Comment:
    id: int
    user: str
    body: str
    created: str
    updated: str
    system: bool = False


@dataclass
class Pull:
    number: int
    user: str
    title: str
    body: str
    branch: str
    base: str
    # the repository of the head branch; another one for a fork
    source: str
    created: str
    updated: str
    state: str = "open"
    merged: bool = False
    comments: list[Comment] = field(default_factory=list)


@dataclass
class Status:
    id: int
    sha: str
    context: str
    state: str
    description: str
    url: str
    user: str
    created: str


@dataclass
class Repository:
    id: int
    path: str
    branches: dict[str, str] = field(default_factory=dict)
    # the last heads of all branches, also of those that were deleted
    heads: dict[str, str] = field(default_factory=dict)
    # the directory of a bare repository that has the branches
    git: str | None = None
    # every commit that was ever the head of a branch
    commits: set[str] = field(default_factory=set)
    pulls: dict[int, Pull] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)

    def read_branches(self) -> None:
        """Read the branches from the Git directory, if there is one. After it was removed, they stay as they were."""
        if self.git is None or not Path(self.git).is_dir():
            return
        command = ["git", "--git-dir", self.git, "for-each-ref", "refs/heads"]
        command.append("--format=%(refname:lstrip=2) %(objectname)")
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        self.branches = dict(line.split(" ") for line in lines)
        self.heads |= self.branches
        self.commits |= set(self.branches.values())


class World:
    def __init__(self, speed: float, url: str) -> None:
        self.url = url
        self.clock = Clock(speed)
        self.settings = Settings()
        self.rates = Rates()
        self.tokens = {DEFAULT_TOKEN: Token()}
        self.repositories: dict[str, Repository] = {}
        self.users: dict[str, int] = {}
        self._ids = itertools.count(1001)

    def now(self) -> float:
        return self.clock.timestamp()

    def stamp(self) -> str:
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def next_id(self) -> int:
        return next(self._ids)

    def user_id(self, name: str) -> int:
        return self.users.setdefault(name, len(self.users) + 1)

    def repository(self, path: str) -> Repository:
        """Return a repository, which is created with the branch main if it does not exist."""
        if path not in self.repositories:
            self.repositories[path] = Repository(self.next_id(), path)
            self.push(path, "main")
        return self.repositories[path]

    def read_branches(self) -> None:
        for repository in self.repositories.values():
            repository.read_branches()

    def push(self, path: str, branch: str, sha: str | None = None) -> str:
        """Set the head of a branch, by default to a new commit, and return it."""
        repository = self.repository(path)
        head = sha or hashlib.sha1(f"{path} {branch} {self.next_id()}".encode()).hexdigest()
        repository.branches[branch] = repository.heads[branch] = head
        repository.commits.add(head)
        return head

    def close_without_branch(self, repository: Repository) -> None:
        """Close the pull requests whose branch was deleted."""
        for pull in repository.pulls.values():
            if pull.state == "open" and pull.branch not in self.repositories[pull.source].branches:
                pull.state = "closed"

    def head(self, pull: Pull) -> str:
        return self.repositories[pull.source].heads[pull.branch]

    def knows(self, repository: Repository, sha: str) -> bool:
        """Return whether a commit can be found in a repository, which includes the heads of its pull requests."""
        return sha in repository.commits or any(self.head(pull) == sha for pull in repository.pulls.values())

    def open_pull(self, repository: Repository, source: str, branch: str, base: str) -> Pull | None:
        found = (
            pull
            for pull in repository.pulls.values()
            if (pull.state, pull.source, pull.branch, pull.base) == ("open", source, branch, base)
        )
        return next(found, None)

    def add_pull(
        self, repository: Repository, user: str, title: str, body: str, source: str, branch: str, base: str
    ) -> Pull:
        number, now = len(repository.pulls) + 1, self.stamp()
        pull = Pull(number, user, title, body, branch, base, source, now, now)
        repository.pulls[number] = pull
        return pull

    def add_comment(self, pull: Pull, user: str, body: str, system: bool = False) -> Comment:
        now = self.stamp()
        comment = Comment(self.next_id(), user, body, now, now, system)
        pull.comments.append(comment)
        return comment

    def edit_comment(self, comment: Comment, body: str) -> None:
        comment.body, comment.updated = body, self.stamp()

    def comment(self, repository: Repository, comment_id: int) -> tuple[Pull, Comment] | None:
        every = ((pull, comment) for pull in repository.pulls.values() for comment in pull.comments)
        return next(((pull, comment) for pull, comment in every if comment.id == comment_id), None)

    def add_status(
        self, repository: Repository, sha: str, context: str, state: str, description: str, url: str, user: str
    ) -> Status:
        status = Status(self.next_id(), sha, context, state, description, url, user, self.stamp())
        repository.statuses.append(status)
        return status
