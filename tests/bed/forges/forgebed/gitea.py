"""The REST API of Gitea and Forgejo, version 1.

Rights of a token are its scopes: `read:user`, `read:repository`, `write:repository`, `read:issue`, `write:issue`. Lists
have at most `gitea_page` items a page, except the comments of an issue, which have no pages.
"""

from bedkit.reply import Reply
from bedkit.server import Request

from .api import Api, Call, links, page
from .refused import Refused
from .world import Comment, Pull, Repository, Status, Token, World

STATES = ("pending", "success", "error", "failure", "warning")
ACTIONS_USER = "gitea-actions"


def message(text: str) -> dict:
    return {"message": text, "url": "https://gitea.example.com/api/swagger"}


def authorize(world: World, request: Request) -> Call:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if not secret:
        raise Refused(401, message("token is required"))
    token = world.tokens.get(secret)
    if scheme.lower() not in ("token", "bearer") or token is None or token.state != "ok" or token.kind == "job":
        raise Refused(401, message("invalid username, password or token"))
    return Call(world, request, secret, token)


API = Api(authorize, lambda text: message("The target couldn't be found."))


def need(call: Call, right: str) -> None:
    if right in call.token.lacks:
        raise Refused(403, message(f"token does not have at least one of required scope(s): [{right}]"))


def user(token: Token) -> str:
    return ACTIONS_USER if token.kind == "actions" else token.user


@API.endpoint("GET", "/user")
def get_user(call: Call) -> Reply:
    need(call, "read:user")
    return Reply.json(show_user(call.world, user(call.token)))


@API.endpoint("GET", "/repos/{owner}/{name}/pulls/{number}")
def get_pull(call: Call, owner: str, name: str, number: str) -> Reply:
    need(call, "read:repository")
    repository = API.repository(call, f"{owner}/{name}")
    return Reply.json(show_pull(call.world, repository, API.pull(call, repository, number)))


@API.endpoint("GET", "/repos/{owner}/{name}/pulls")
def list_pulls(call: Call, owner: str, name: str) -> Reply:
    need(call, "read:repository")
    repository = API.repository(call, f"{owner}/{name}")
    state, base = call.query.get("state", "open"), call.query.get("base_branch")
    pulls = reversed(repository.pulls.values())
    wanted = [pull for pull in pulls if state in ("all", pull.state) and base in (None, pull.base)]
    shown, at, _, last = page(call, wanted, "limit", 30, call.world.settings.gitea_page)
    headers = {"X-Total-Count": str(len(wanted))}
    link = links(call, at, last)
    pages = {"Link": link} if link else {}
    return Reply.json([show_pull(call.world, repository, pull) for pull in shown], headers=headers | pages)


@API.endpoint("POST", "/repos/{owner}/{name}/pulls")
def create_pull(call: Call, owner: str, name: str) -> Reply:
    need(call, "write:repository")
    repository, asked = API.repository(call, f"{owner}/{name}"), call.body
    head, base, title = (asked.get(key, "") for key in ("head", "base", "title"))
    if not (head and base and title):
        raise Refused(422, message("[Head]: Required"))
    if head == base:
        raise Refused(422, message("Invalid PullRequest: There are no changes between the head and the base"))
    if head not in repository.branches or base not in repository.branches:
        raise Refused(404, message("The target couldn't be found."))
    there = call.world.open_pull(repository, repository.path, head, base)
    if there:
        details = f"id: {there.number}, issue_id: {there.number}, head_repo_id: {repository.id}, "
        details += f"base_repo_id: {repository.id}, head_branch: {head}, base_branch: {base}"
        raise Refused(409, message(f"pull request already exists for these targets [{details}]"))
    check_size(call)
    given = (title, asked.get("body") or "", repository.path, head, base)
    pull = call.world.add_pull(repository, user(call.token), *given)
    return Reply.json(show_pull(call.world, repository, pull), 201)


@API.endpoint("PATCH", "/repos/{owner}/{name}/pulls/{number}")
def edit_pull(call: Call, owner: str, name: str, number: str) -> Reply:
    need(call, "write:repository")
    repository = API.repository(call, f"{owner}/{name}")
    pull, asked = API.pull(call, repository, number), call.body
    check_size(call)
    pull.title, pull.body = asked.get("title") or pull.title, asked.get("body", pull.body)
    pull.state, pull.updated = asked.get("state", pull.state), call.world.stamp()
    return Reply.json(show_pull(call.world, repository, pull), 201)


@API.endpoint("GET", "/repos/{owner}/{name}/issues/{number}/comments")
def list_comments(call: Call, owner: str, name: str, number: str) -> Reply:
    need(call, "read:issue")
    pull = API.pull(call, API.repository(call, f"{owner}/{name}"), number)
    headers = {"X-Total-Count": str(len(pull.comments))}
    return Reply.json([show_comment(call.world, comment) for comment in pull.comments], headers=headers)


@API.endpoint("POST", "/repos/{owner}/{name}/issues/{number}/comments")
def create_comment(call: Call, owner: str, name: str, number: str) -> Reply:
    need(call, "write:issue")
    pull = API.pull(call, API.repository(call, f"{owner}/{name}"), number)
    comment = call.world.add_comment(pull, user(call.token), checked_comment(call))
    return Reply.json(show_comment(call.world, comment), 201)


@API.endpoint("PATCH", "/repos/{owner}/{name}/issues/comments/{comment_id}")
def edit_comment(call: Call, owner: str, name: str, comment_id: str) -> Reply:
    need(call, "write:issue")
    _, comment = find_comment(call, API.repository(call, f"{owner}/{name}"), comment_id)
    call.world.edit_comment(comment, checked_comment(call))
    return Reply.json(show_comment(call.world, comment))


@API.endpoint("GET", "/repos/{owner}/{name}/issues/comments/{comment_id}")
def get_comment(call: Call, owner: str, name: str, comment_id: str) -> Reply:
    need(call, "read:issue")
    _, comment = find_comment(call, API.repository(call, f"{owner}/{name}"), comment_id)
    return Reply.json(show_comment(call.world, comment))


@API.endpoint("DELETE", "/repos/{owner}/{name}/issues/comments/{comment_id}")
def delete_comment(call: Call, owner: str, name: str, comment_id: str) -> Reply:
    need(call, "write:issue")
    pull, comment = find_comment(call, API.repository(call, f"{owner}/{name}"), comment_id)
    pull.comments.remove(comment)
    return Reply(204)


@API.endpoint("POST", "/repos/{owner}/{name}/statuses/{sha}")
def create_status(call: Call, owner: str, name: str, sha: str) -> Reply:
    need(call, "write:repository")
    repository, asked = API.repository(call, f"{owner}/{name}"), call.body
    if not call.world.knows(repository, sha):
        raise Refused(404, message(f"object does not exist [id: {sha}, rel_path: ]"))
    if asked.get("state") not in STATES:
        raise Refused(400, message(f"unknown state {asked.get('state')}"))
    given = (asked.get("context", "default"), asked["state"], asked.get("description") or "")
    status = call.world.add_status(repository, sha, *given, asked.get("target_url") or "", user(call.token))
    return Reply.json(show_status(call.world, status), 201)


def find_comment(call: Call, repository: Repository, comment_id: str) -> tuple[Pull, Comment]:
    found = call.world.comment(repository, int(comment_id))
    if found is None:
        raise Refused(404, message("The target couldn't be found."))
    return found


def checked_comment(call: Call) -> str:
    check_size(call)
    body = call.body.get("body")
    if not isinstance(body, str) or not body:
        raise Refused(422, message("[Body]: Required"))
    return body


def check_size(call: Call) -> None:
    most = call.world.settings.gitea_body_bytes
    if most and len(call.request.body) > most:
        raise Refused(413, message("Request Entity Too Large"))


def show_user(world: World, name: str) -> dict:
    return {"id": world.user_id(name), "login": name, "username": name, "full_name": ""}


def show_branch(world: World, path: str, branch: str) -> dict:
    source = world.repositories[path]
    repo = {"id": source.id, "full_name": path}
    head = {"label": branch, "ref": branch, "sha": source.heads[branch]}
    return head | {"repo_id": source.id, "repo": repo}


def show_head(world: World, pull: Pull) -> dict:
    """Show the branch. After it was deleted, only the label names it."""
    head = show_branch(world, pull.source, pull.branch)
    is_there = pull.branch in world.repositories[pull.source].branches
    return head if is_there else head | {"ref": f"refs/pull/{pull.number}/head"}


def show_pull(world: World, repository: Repository, pull: Pull) -> dict:
    return {
        "id": repository.id * 1000 + pull.number,
        "number": pull.number,
        "state": pull.state,
        "merged": pull.merged,
        "title": pull.title,
        "body": pull.body,
        "user": show_user(world, pull.user),
        "html_url": f"{world.url}/{repository.path}/pulls/{pull.number}",
        "head": show_head(world, pull),
        "base": show_branch(world, repository.path, pull.base),
        "merge_base": repository.heads[pull.base],
        "created_at": pull.created,
        "updated_at": pull.updated,
    }


def show_comment(world: World, comment: Comment) -> dict:
    return {
        "id": comment.id,
        "body": comment.body,
        "user": show_user(world, comment.user),
        "created_at": comment.created,
        "updated_at": comment.updated,
    }


def show_status(world: World, status: Status) -> dict:
    return {
        "id": status.id,
        "status": status.state,
        "context": status.context,
        "description": status.description,
        "target_url": status.url,
        "creator": show_user(world, status.user),
        "created_at": status.created,
    }
