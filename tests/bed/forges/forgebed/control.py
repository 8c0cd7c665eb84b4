"""The control interface under /_bed: JSON in, JSON out."""

from bedkit.application import CONTROLS

from .world import DEFAULT_USER, Pull, Token


def info(app, asked: dict) -> dict:
    return app.info


def add_repository(app, asked: dict) -> dict:
    """Create a repository with the branch main: `repository` (owner/name), `git` (a bare repository with its branches)."""
    repository = app.world.repository(asked["repository"])
    repository.git = asked.get("git")
    repository.read_branches()
    return {"id": repository.id, "branches": repository.branches}


def push(app, asked: dict) -> dict:
    """Push to a `branch` of a `repository`, or to that of its pull request `number`: `sha`, or a new commit."""
    path, branch = asked["repository"], asked.get("branch")
    if "number" in asked:
        pull = app.world.repositories[path].pulls[asked["number"]]
        path, branch = pull.source, pull.branch
    return {"head": app.world.push(path, branch, asked.get("sha"))}


def add_pull(app, asked: dict) -> dict:
    """Open a pull request as `user`: `repository`, `branch`, `base` (main), `fork` (a repository), `title`, `body`."""
    repository = app.world.repository(asked["repository"])
    branch, source = asked["branch"], asked.get("fork", repository.path)
    if branch not in app.world.repository(source).branches:
        app.world.push(source, branch)
    given = (asked.get("title", "Change"), asked.get("body", ""), source, branch, asked.get("base", "main"))
    pull = app.world.add_pull(repository, asked.get("user", "somebody"), *given)
    return {"number": pull.number, "head": app.world.head(pull), "base": repository.branches[pull.base]}


def find_pull(app, asked: dict) -> Pull:
    return app.world.repositories[asked["repository"]].pulls[asked["number"]]


def change_pull(app, asked: dict) -> dict:
    """Change a pull request as a person does: `repository`, `number`, `state`, `merged`, `title`, `body`."""
    pull = find_pull(app, asked)
    for name in ("state", "merged", "title", "body"):
        setattr(pull, name, asked.get(name, getattr(pull, name)))
    return show(app.world, pull)


def add_comments(app, asked: dict) -> dict:
    """Comment as `user` on a pull request: `repository`, `number`, `body`, `count` (1)."""
    pull, user = find_pull(app, asked), asked.get("user", "somebody")
    count = int(asked.get("count", 1))
    return {"ids": [app.world.add_comment(pull, user, asked["body"]).id for _ in range(count)]}


def change_token(app, asked: dict) -> dict:
    """Create or change a token: `token`, `user`, `kind`, `state`, `lacks` (rights), `repositories` (that it sees)."""
    token = app.world.tokens.setdefault(asked["token"], Token(asked.get("user", DEFAULT_USER)))
    for name in ("user", "kind", "state", "lacks", "repositories"):
        value = asked.get(name, getattr(token, name))
        setattr(token, name, tuple(value) if isinstance(value, list) else value)
    return {"user": token.user, "kind": token.kind, "state": token.state, "lacks": token.lacks}


def state(app, asked: dict) -> dict:
    """Return a `repository`: branches, pull requests with their comments, and statuses."""
    repository = app.world.repositories[asked["repository"]]
    return {
        "branches": repository.branches,
        "pulls": [show(app.world, pull) for pull in repository.pulls.values()],
        "statuses": [vars(status) for status in repository.statuses],
    }


def show(world, pull: Pull) -> dict:
    comments = [vars(comment) for comment in pull.comments]
    return vars(pull) | {"head": world.head(pull), "comments": comments}


ROUTES = {
    ("GET", ""): info,
    ("GET", "state"): state,
    **CONTROLS,
    ("POST", "repository"): add_repository,
    ("POST", "push"): push,
    ("POST", "pull"): add_pull,
    ("POST", "change-pull"): change_pull,
    ("POST", "comments"): add_comments,
    ("POST", "tokens"): change_token,
}
