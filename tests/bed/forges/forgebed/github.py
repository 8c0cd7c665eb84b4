"""GitHub's REST API (version 2022-11-28), as an Enterprise server has it below /api/v3.

Rights of a token are permissions of an App or a workflow: `contents`, `issues`, `pull_requests`, `statuses`, each with
`:read` or `:write`. A comment on a pull request needs `issues:write` or `pull_requests:write`.
"""

from bedkit.reply import Reply
from bedkit.server import Request

from .api import Api, Call, links, page
from .refused import Refused
from .world import ACTIONS_USER, Comment, Pull, Repository, Status, Token, World

DOCUMENTATION = "https://docs.github.com/rest"
STATES = ("error", "failure", "pending", "success")
DESCRIPTION_CHARACTERS = 140
# statuses per commit and context
MOST_STATUSES = 1000


def message(text: str, status: int, errors: list | None = None) -> dict:
    listed = {} if errors is None else {"errors": errors}
    return {"message": text, **listed, "documentation_url": DOCUMENTATION, "status": str(status)}


def invalid(resource: str, code: str, field: str | None = None, text: str | None = None) -> Refused:
    error = {"resource": resource, "code": code, "field": field, "message": text}
    given = {name: value for name, value in error.items() if value is not None}
    return Refused(422, message("Validation Failed", 422, [given]))


def authorize(world: World, request: Request) -> Call:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() not in ("bearer", "token") or not secret:
        raise Refused(401, message("Requires authentication", 401))
    token = world.tokens.get(secret)
    if token is None or token.state != "ok" or token.kind == "job":
        raise Refused(401, message("Bad credentials", 401))
    if "user-agent" not in request.headers:
        raise Refused(403, message("Request forbidden by administrative rules.", 403))
    return Call(world, request, secret, token)


def limit(call: Call) -> None:
    """Apply the primary rate limit to every request, and the secondary one to writes."""
    settings, rates, now = call.world.settings, call.world.rates, call.world.now()
    if settings.github_requests:
        wait = rates.wait(("github", call.secret), settings.github_requests, 3600, now)
        if wait:
            headers = {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(now) + wait)}
            text = f"API rate limit exceeded for user ID {call.world.user_id(user(call.token))}."
            raise Refused(403, message(text, 403), **headers)
    if call.request.method != "GET":
        wait = rates.wait(("github writes", call.secret), settings.github_writes, 60, now)
        if wait:
            text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
            raise Refused(403, message(text, 403), retry_after=str(wait))


API = Api(authorize, lambda text: message("Not Found", 404), limit)


def user(token: Token) -> str:
    return ACTIONS_USER if token.kind == "actions" else token.user


def need(call: Call, *rights: str) -> None:
    """Refuse a request unless the token has one of the rights."""
    if all(right in call.token.lacks for right in rights):
        by = "integration" if call.token.kind == "actions" else "personal access token"
        accepted = "; ".join(right.replace(":", "=") for right in rights)
        text = f"Resource not accessible by {by}"
        raise Refused(403, message(text, 403), x_accepted_github_permissions=accepted)


@API.endpoint("GET", "/user")
def get_user(call: Call) -> Reply:
    if call.token.kind == "actions":
        raise Refused(403, message("Resource not accessible by integration", 403))
    return Reply.json(show_user(call.world, call.token.user))


@API.endpoint("GET", "/repos/{owner}/{name}/pulls/{number}")
def get_pull(call: Call, owner: str, name: str, number: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    need(call, "pull_requests:read", "contents:read")
    return Reply.json(show_pull(call.world, repository, API.pull(call, repository, number)))


@API.endpoint("GET", "/repos/{owner}/{name}/pulls")
def list_pulls(call: Call, owner: str, name: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    need(call, "pull_requests:read")
    state, base, head = (call.query.get(key, "") for key in ("state", "base", "head"))
    user_name, colon, branch = head.partition(":")

    def is_wanted(pull: Pull) -> bool:
        in_state = state == "all" or pull.state == (state or "open")
        # a filter without a user is not applied
        has_head = not colon or (pull.source.split("/")[0], pull.branch) == (user_name, branch)
        return in_state and has_head and base in ("", pull.base)

    # the newest first
    wanted = [pull for pull in reversed(repository.pulls.values()) if is_wanted(pull)]
    return listed(call, wanted, lambda pull: show_pull(call.world, repository, pull))


@API.endpoint("POST", "/repos/{owner}/{name}/pulls")
def create_pull(call: Call, owner: str, name: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    need(call, "pull_requests:write")
    if call.token.kind == "actions" and not call.world.settings.github_actions_create_pulls:
        text = "GitHub Actions is not permitted to create or approve pull requests."
        raise Refused(403, message(text, 403))
    asked = call.body
    head, base = asked.get("head", "").removeprefix(f"{owner}:"), asked.get("base", "")
    for field, branch in (("head", head), ("base", base)):
        if branch not in repository.branches:
            raise invalid("PullRequest", "invalid", field)
    if not asked.get("title"):
        raise invalid("PullRequest", "missing_field", "title")
    check_body("PullRequest", call, asked.get("body") or "")
    if call.world.open_pull(repository, repository.path, head, base):
        text = f"A pull request already exists for {owner}:{head}."
        raise invalid("PullRequest", "custom", text=text)
    if repository.branches[head] == repository.branches[base]:
        raise invalid("PullRequest", "custom", text=f"No commits between {base} and {head}")
    given = (asked["title"], asked.get("body") or "", repository.path, head, base)
    pull = call.world.add_pull(repository, user(call.token), *given)
    return Reply.json(show_pull(call.world, repository, pull), 201)


@API.endpoint("PATCH", "/repos/{owner}/{name}/pulls/{number}")
def edit_pull(call: Call, owner: str, name: str, number: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    need(call, "pull_requests:write")
    pull, asked = API.pull(call, repository, number), call.body
    check_body("PullRequest", call, asked.get("body") or "")
    if asked.get("state", pull.state) not in ("open", "closed"):
        raise invalid("PullRequest", "invalid", "state")
    pull.title, pull.body = asked.get("title", pull.title), asked.get("body", pull.body)
    pull.state, pull.updated = asked.get("state", pull.state), call.world.stamp()
    return Reply.json(show_pull(call.world, repository, pull))


@API.endpoint("GET", "/repos/{owner}/{name}/issues/{number}/comments")
def list_comments(call: Call, owner: str, name: str, number: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    need(call, "issues:read", "pull_requests:read")
    pull = API.pull(call, repository, number)
    return listed(call, pull.comments, lambda comment: show_comment(call.world, repository, pull, comment))


@API.endpoint("POST", "/repos/{owner}/{name}/issues/{number}/comments")
def create_comment(call: Call, owner: str, name: str, number: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    pull = API.pull(call, repository, number)
    need(call, "issues:write", "pull_requests:write")
    comment = call.world.add_comment(pull, user(call.token), checked_comment(call))
    return Reply.json(show_comment(call.world, repository, pull, comment), 201)


@API.endpoint("PATCH", "/repos/{owner}/{name}/issues/comments/{comment_id}")
def edit_comment(call: Call, owner: str, name: str, comment_id: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    pull, comment = find_comment(call, repository, comment_id)
    need(call, "issues:write", "pull_requests:write")
    call.world.edit_comment(comment, checked_comment(call))
    return Reply.json(show_comment(call.world, repository, pull, comment))


@API.endpoint("GET", "/repos/{owner}/{name}/issues/comments/{comment_id}")
def get_comment(call: Call, owner: str, name: str, comment_id: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    need(call, "issues:read", "pull_requests:read")
    return Reply.json(show_comment(call.world, repository, *find_comment(call, repository, comment_id)))


@API.endpoint("DELETE", "/repos/{owner}/{name}/issues/comments/{comment_id}")
def delete_comment(call: Call, owner: str, name: str, comment_id: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    pull, comment = find_comment(call, repository, comment_id)
    need(call, "issues:write", "pull_requests:write")
    pull.comments.remove(comment)
    return Reply(204)


@API.endpoint("POST", "/repos/{owner}/{name}/statuses/{sha}")
def create_status(call: Call, owner: str, name: str, sha: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    need(call, "statuses:write")
    asked, world = call.body, call.world
    if not world.knows(repository, sha):
        raise Refused(422, message(f"No commit found for SHA: {sha}", 422))
    if asked.get("state") not in STATES:
        raise invalid("Status", "custom", "state", "state is not included in the list")
    description, context = asked.get("description") or "", asked.get("context", "default")
    if len(description) > DESCRIPTION_CHARACTERS:
        text = f"description is too long (maximum is {DESCRIPTION_CHARACTERS} characters)"
        raise invalid("Status", "custom", "description", text)
    if sum((s.sha, s.context) == (sha, context) for s in repository.statuses) >= MOST_STATUSES:
        raise invalid("Status", "custom", text="This SHA and context has reached the maximum number of statuses.")
    by, url = user(call.token), asked.get("target_url") or ""
    status = world.add_status(repository, sha, context, asked["state"], description, url, by)
    return Reply.json(show_status(world, status), 201)


@API.endpoint("GET", "/repos/{owner}/{name}/commits/{sha}/statuses")
def list_statuses(call: Call, owner: str, name: str, sha: str) -> Reply:
    repository = API.repository(call, f"{owner}/{name}")
    need(call, "statuses:read")
    wanted = [status for status in reversed(repository.statuses) if status.sha == sha]
    return listed(call, wanted, lambda status: show_status(call.world, status))


def find_comment(call: Call, repository: Repository, comment_id: str) -> tuple[Pull, Comment]:
    found = call.world.comment(repository, int(comment_id))
    if found is None:
        raise Refused(404, message("Not Found", 404))
    return found


def listed(call: Call, items: list, show) -> Reply:
    wanted, at, _, last = page(call, items, "per_page", 30, 100)
    link = links(call, at, last)
    return Reply.json([show(item) for item in wanted], headers={"Link": link} if link else {})


def checked_comment(call: Call) -> str:
    body = call.body.get("body")
    if not isinstance(body, str) or not body.strip():
        raise invalid("IssueComment", "missing_field", "body")
    check_body("IssueComment", call, body)
    return body


def check_body(resource: str, call: Call, body: str) -> None:
    most = call.world.settings.github_body_characters
    if len(body) > most:
        raise invalid(resource, "unprocessable", "body", f"body is too long (maximum is {most} characters)")


def show_user(world: World, name: str) -> dict:
    kind = "Bot" if name.endswith("[bot]") else "User"
    return {"login": name, "id": world.user_id(name), "type": kind, "site_admin": False}


def show_branch(world: World, path: str, branch: str, base: Repository) -> dict:
    source = world.repositories[path]
    repo = {"id": source.id, "full_name": path, "name": path.split("/")[1], "fork": path != base.path}
    return {
        "label": f"{path.split('/')[0]}:{branch}",
        "ref": branch,
        "sha": source.heads[branch],
        "repo": repo,
    }


def show_pull(world: World, repository: Repository, pull: Pull) -> dict:
    return {
        "id": repository.id * 1000 + pull.number,
        "number": pull.number,
        "state": pull.state,
        "merged": pull.merged,
        "title": pull.title,
        "body": pull.body or None,
        "user": show_user(world, pull.user),
        "html_url": f"{world.url}/{repository.path}/pull/{pull.number}",
        "head": show_branch(world, pull.source, pull.branch, repository),
        "base": show_branch(world, repository.path, pull.base, repository),
        "created_at": pull.created,
        "updated_at": pull.updated,
    }


def show_comment(world: World, repository: Repository, pull: Pull, comment: Comment) -> dict:
    return {
        "id": comment.id,
        "body": comment.body,
        "user": show_user(world, comment.user),
        "html_url": f"{world.url}/{repository.path}/pull/{pull.number}#issuecomment-{comment.id}",
        "created_at": comment.created,
        "updated_at": comment.updated,
    }


def show_status(world: World, status: Status) -> dict:
    return {
        "id": status.id,
        "state": status.state,
        "context": status.context,
        "description": status.description,
        "target_url": status.url or None,
        "creator": show_user(world, status.user),
        "created_at": status.created,
    }
