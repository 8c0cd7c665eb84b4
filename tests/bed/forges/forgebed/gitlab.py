"""GitLab's REST API, version 4.

Rights of a token are the scopes `api` and `read_api` (an `api` token can do both), and the role of its user:
`reporter` for notes, `developer` for merge requests and statuses. `lacks` names what is missing.
"""

from bedkit.reply import Reply
from bedkit.server import Request

from .api import Api, Call, links, page
from .refused import Refused
from .world import Comment, Pull, Repository, Status, World

STATES = {"pending": "enqueue", "running": "run", "success": "succeed", "failed": "drop", "canceled": "cancel"}
STATES["skipped"] = "skip"
MOST_DESCRIPTION = 255
# merge requests are opened elsewhere
SHOWN = {"open": "opened", "closed": "closed"}


def authorize(world: World, request: Request) -> Call:
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    secret = request.headers.get("private-token") or (bearer if scheme.lower() == "bearer" else "")
    token = world.tokens.get(secret)
    if token is None or token.kind != "user":
        raise Refused(401, {"message": "401 Unauthorized"})
    if token.state != "ok":
        text = f"Token {'was revoked' if token.state == 'revoked' else 'is expired'}. "
        text += "You have to re-authorize from the user."
        raise Refused(401, {"error": "invalid_token", "error_description": text})
    is_read = request.method == "GET"
    if "api" in token.lacks and (not is_read or "read_api" in token.lacks):
        text = "The request requires higher privileges than provided by the access token."
        document = {"error": "insufficient_scope", "error_description": text}
        raise Refused(403, document | {"scope": "api read_api" if is_read else "api"})
    return Call(world, request, secret, token)


API = Api(authorize, lambda text: {"message": f"404 {text}"}, closes=False)


def need_role(call: Call, role: str) -> None:
    if role in call.token.lacks:
        raise Refused(403, {"message": "403 Forbidden"})


@API.endpoint("GET", "/user")
def get_user(call: Call) -> Reply:
    return Reply.json(show_user(call.world, call.token.user))


@API.endpoint("GET", "/projects/{project}/merge_requests/{number}")
def get_pull(call: Call, project: str, number: str) -> Reply:
    repository = find(call, project)
    return Reply.json(show_pull(call.world, repository, API.pull(call, repository, number)))


@API.endpoint("GET", "/projects/{project}/merge_requests")
def list_pulls(call: Call, project: str) -> Reply:
    repository, query = find(call, project), call.query

    def is_wanted(pull: Pull) -> bool:
        in_state = query.get("state", "all") in ("all", SHOWN[pull.state])
        branches = {"source_branch": pull.branch, "target_branch": pull.base}
        return in_state and all(query.get(name, branch) == branch for name, branch in branches.items())

    wanted = [pull for pull in reversed(repository.pulls.values()) if is_wanted(pull)]
    return listed(call, wanted, lambda pull: show_pull(call.world, repository, pull))


@API.endpoint("POST", "/projects/{project}/merge_requests")
def create_pull(call: Call, project: str) -> Reply:
    repository, asked = find(call, project), call.body
    need_role(call, "developer")
    for name in ("source_branch", "target_branch", "title"):
        if not asked.get(name):
            raise Refused(400, {"error": f"{name} is missing"})
    source, target = asked["source_branch"], asked["target_branch"]
    if source not in repository.branches:
        raise Refused(400, {"message": [f'Source branch "{source}" does not exist']})
    there = call.world.open_pull(repository, repository.path, source, target)
    if there:
        text = f"Another open merge request already exists for this source branch: !{there.number}"
        raise Refused(409, {"message": [text]})
    description = asked.get("description") or ""
    check_size(call, "description", description)
    given = (asked["title"], description, repository.path, source, target)
    pull = call.world.add_pull(repository, call.token.user, *given)
    pull.body = commands(call, pull, pull.body)
    return Reply.json(show_pull(call.world, repository, pull), 201)


@API.endpoint("PUT", "/projects/{project}/merge_requests/{number}")
def edit_pull(call: Call, project: str, number: str) -> Reply:
    repository = find(call, project)
    pull, asked = API.pull(call, repository, number), call.body
    need_role(call, "developer")
    event = asked.get("state_event")
    if event not in (None, "close", "reopen"):
        raise Refused(400, {"error": "state_event does not have a valid value"})
    check_size(call, "description", asked.get("description") or "")
    pull.title, pull.body = asked.get("title", pull.title), asked.get("description", pull.body)
    if event:
        pull.state = "closed" if event == "close" else "open"
        call.world.add_comment(pull, call.token.user, SHOWN[pull.state], system=True)
    pull.updated = call.world.stamp()
    return Reply.json(show_pull(call.world, repository, pull))


@API.endpoint("GET", "/projects/{project}/merge_requests/{number}/notes")
def list_comments(call: Call, project: str, number: str) -> Reply:
    comments = list(API.pull(call, find(call, project), number).comments)
    if call.query.get("sort", "desc") == "desc":
        comments.reverse()
    return listed(call, comments, lambda comment: show_comment(call.world, comment))


@API.endpoint("POST", "/projects/{project}/merge_requests/{number}/notes")
def create_comment(call: Call, project: str, number: str) -> Reply:
    pull = API.pull(call, find(call, project), number)
    need_role(call, "reporter")
    most, key = call.world.settings.gitlab_notes, ("gitlab notes", call.token.user)
    wait = call.world.rates.wait(key, most, 60, call.world.now())
    if wait:
        text = "This endpoint has been requested too many times. Try again later."
        raise Refused(429, {"message": {"error": text}}, Retry_After=str(wait))
    body = commands(call, pull, checked_comment(call))
    comment = call.world.add_comment(pull, call.token.user, body)
    return Reply.json(show_comment(call.world, comment), 201)


@API.endpoint("PUT", "/projects/{project}/merge_requests/{number}/notes/{comment_id}")
def edit_comment(call: Call, project: str, number: str, comment_id: str) -> Reply:
    pull = API.pull(call, find(call, project), number)
    comment = find_comment(pull, comment_id)
    if comment.user != call.token.user:
        raise Refused(403, {"message": "403 Forbidden"})
    call.world.edit_comment(comment, commands(call, pull, checked_comment(call)))
    return Reply.json(show_comment(call.world, comment))


@API.endpoint("GET", "/projects/{project}/merge_requests/{number}/notes/{comment_id}")
def get_comment(call: Call, project: str, number: str, comment_id: str) -> Reply:
    comment = find_comment(API.pull(call, find(call, project), number), comment_id)
    return Reply.json(show_comment(call.world, comment))


@API.endpoint("DELETE", "/projects/{project}/merge_requests/{number}/notes/{comment_id}")
def delete_comment(call: Call, project: str, number: str, comment_id: str) -> Reply:
    pull = API.pull(call, find(call, project), number)
    comment = find_comment(pull, comment_id)
    if comment.user != call.token.user:
        raise Refused(403, {"message": "403 Forbidden"})
    pull.comments.remove(comment)
    return Reply(204)


@API.endpoint("POST", "/projects/{project}/statuses/{sha}")
def create_status(call: Call, project: str, sha: str) -> Reply:
    repository, asked, world = find(call, project), call.body, call.world
    need_role(call, "developer")
    if not world.knows(repository, sha):
        raise Refused(404, {"message": "404 Commit Not Found"})
    state, name = asked.get("state"), asked.get("name") or asked.get("context") or "default"
    if state not in STATES:
        raise Refused(400, {"error": "state does not have a valid value"})
    description, url = asked.get("description") or "", asked.get("target_url") or ""
    if len(description) > MOST_DESCRIPTION:
        text = f"is too long (maximum is {MOST_DESCRIPTION} characters)"
        raise Refused(400, {"message": {"description": [text]}})
    earlier = [status for status in repository.statuses if (status.sha, status.context) == (sha, name)]
    if earlier and earlier[-1].state == state and world.settings.gitlab_strict_transitions:
        event = STATES[state]
        why = f'Reason(s): Status cannot transition via "{event}"'
        text = f"Cannot transition status via :{event} from :{state} ({why})"
        raise Refused(400, {"message": text})
    status = world.add_status(repository, sha, name, state, description, url, call.token.user)
    return Reply.json(show_status(world, status), 201)


@API.endpoint("GET", "/projects/{project}/repository/commits/{sha}/statuses")
def list_statuses(call: Call, project: str, sha: str) -> Reply:
    repository = find(call, project)
    wanted = [status for status in repository.statuses if status.sha == sha]
    return listed(call, wanted, lambda status: show_status(call.world, status))


def commands(call: Call, pull: Pull, text: str) -> str:
    """Run the quick actions of a text, and return the text without them. In a fence, they are only text."""
    kept, in_fence = [], False
    for line in text.split("\n"):
        in_fence ^= line.startswith("```")
        name = line.removeprefix("/").split(" ")[0].strip()
        if in_fence or not line.startswith("/") or name not in ("close", "reopen", "approve", "merge", "title"):
            kept.append(line)
        elif name in ("close", "reopen"):
            pull.state = "closed" if name == "close" else "open"
        elif name == "merge":
            pull.state, pull.merged = "closed", True
    return "\n".join(kept)


def find_comment(pull: Pull, comment_id: str) -> Comment:
    comment = next((comment for comment in pull.comments if str(comment.id) == comment_id), None)
    if comment is None:
        raise Refused(404, {"message": "404 Note Not Found"})
    return comment


def find(call: Call, project: str) -> Repository:
    """Return a project by its ID or its path, which must be encoded in the URL."""
    path = next((r.path for r in call.world.repositories.values() if str(r.id) == project), project)
    return API.repository(call, path)


def listed(call: Call, items: list, show) -> Reply:
    wanted, at, size, last = page(call, items, "per_page", 20, 100)
    headers = {
        "Link": links(call, at, last),
        "x-next-page": str(at + 1) if at < last else "",
        "x-page": str(at),
        "x-per-page": str(size),
        "x-prev-page": str(at - 1) if at > 1 else "",
        "x-total": str(len(items)),
        "x-total-pages": str(last),
    }
    return Reply.json([show(item) for item in wanted], headers=headers)


def checked_comment(call: Call) -> str:
    body = call.body.get("body")
    if not isinstance(body, str):
        raise Refused(400, {"error": "body is missing"})
    if not body.strip():
        raise Refused(400, {"message": '400 Bad request - Note {:note=>["can\'t be blank"]}'})
    check_size(call, "note", body)
    return body


def check_size(call: Call, name: str, text: str) -> None:
    most = call.world.settings.gitlab_body_characters
    if len(text) > most:
        raise Refused(400, {"message": {name: [f"is too long (maximum is {most} characters)"]}})


def show_user(world: World, name: str) -> dict:
    return {"id": world.user_id(name), "username": name, "name": name, "state": "active"}


def show_pull(world: World, repository: Repository, pull: Pull) -> dict:
    base, head = repository.heads[pull.base], world.head(pull)
    return {
        "id": repository.id * 1000 + pull.number,
        "iid": pull.number,
        "project_id": repository.id,
        "title": pull.title,
        "description": pull.body,
        "state": SHOWN[pull.state],
        "source_branch": pull.branch,
        "target_branch": pull.base,
        "source_project_id": world.repositories[pull.source].id,
        "target_project_id": repository.id,
        "sha": head,
        "diff_refs": {"base_sha": base, "head_sha": head, "start_sha": base},
        "author": show_user(world, pull.user),
        "web_url": f"{world.url}/{repository.path}/-/merge_requests/{pull.number}",
        "created_at": pull.created,
        "updated_at": pull.updated,
    }


def show_comment(world: World, comment: Comment) -> dict:
    return {
        "id": comment.id,
        "body": comment.body,
        "author": show_user(world, comment.user),
        "system": comment.system,
        "created_at": comment.created,
        "updated_at": comment.updated,
    }


def show_status(world: World, status: Status) -> dict:
    return {
        "id": status.id,
        "sha": status.sha,
        "status": status.state,
        "name": status.context,
        "description": status.description,
        "target_url": status.url or None,
        "author": show_user(world, status.user),
        "created_at": status.created,
    }
