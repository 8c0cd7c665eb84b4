"""Slack's Web API: chat.postMessage, chat.update and auth.test, with their documented errors.

Errors have status 200 and `ok: false`; only an exceeded rate limit has status 429.
"""

import json

from bedkit.reply import Reply
from bedkit.server import Request

from . import pings
from .blocks import MAX_TOTAL, Check
from .limits import retry_after
from .world import Channel, Message, Token, Version, World

MAX_TEXT = 40_000
# the limit of chat.update, lower than that of chat.postMessage
MAX_UPDATE_TEXT = 4_000
MAX_ATTACHMENTS = 100
ARCHIVED, NO_CHANNEL = "is_archived", "channel_not_found"


class SlackError(Exception):
    """An error with Slack's code; `why` is returned where Slack returns details."""

    def __init__(self, code: str, *why: str, **members) -> None:
        super().__init__(code)
        self.code, self.why, self.members = code, why, members


class RateLimited(Exception):
    def __init__(self, wait: float) -> None:
        self.wait = wait


def api(world: World, request: Request, method: str) -> Reply:
    warnings: list[str] = []
    try:
        if method not in METHODS:
            raise SlackError("unknown_method", req_method=method)
        token = authorise(world, request)
        asked = arguments(request, warnings)
        answer = {"ok": True, **METHODS[method](world, token, asked)}
    except RateLimited as limited:
        return rate_limited(limited)
    except SlackError as error:
        answer = {"ok": False, "error": error.code, **error.members}
        if error.why:
            answer["errors"] = list(error.why)
            answer["response_metadata"] = {"messages": [f"[ERROR] {why}" for why in error.why]}
    if warnings:
        answer["warning"] = ",".join(warnings)
        answer.setdefault("response_metadata", {})["warnings"] = warnings
    return Reply.json(answer, error=answer.get("error"), warning=answer.get("warning"))


def rate_limited(limited: RateLimited) -> Reply:
    after = retry_after(limited.wait)
    body = {"ok": False, "error": "ratelimited"}
    return Reply.json(body, 429, {"Retry-After": after}, error="ratelimited", retry_after=after)


def authorise(world: World, request: Request) -> tuple[str, Token]:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise SlackError("not_authed")
    token = world.tokens.get(secret)
    if token is None or not secret.startswith("xoxb-"):
        raise SlackError("invalid_auth")
    if token.state != "ok":
        raise SlackError(token.state)
    return secret, token


def arguments(request: Request, warnings: list[str]) -> dict:
    if not request.body:
        return {}
    kind, *parameters = request.headers.get("content-type", "").lower().split(";")
    if not kind:
        raise SlackError("missing_post_type")
    if kind.strip() != "application/json":
        raise SlackError("invalid_post_type")
    charset = dict(p.strip().partition("=")[::2] for p in parameters).get("charset")
    if charset is None:
        warnings.append("missing_charset")
    elif charset.strip('"') != "utf-8":
        raise SlackError("invalid_charset")
    try:
        asked = json.loads(request.body)
    except ValueError:
        raise SlackError("invalid_json") from None
    if not isinstance(asked, dict):
        raise SlackError("json_not_object")
    return {name: value for name, value in asked.items() if value is not None}


def auth_test(world: World, caller: tuple[str, Token], asked: dict) -> dict:
    bot = caller[1].bot
    return {
        "url": "https://bed.slack.com/",
        "team": "bed",
        "user": "opsy",
        "team_id": "T0",
        "user_id": f"U{bot[1:]}",
        "bot_id": bot,
        "is_enterprise_install": False,
    }


def post_message(world: World, caller: tuple[str, Token], asked: dict) -> dict:
    token = caller[1]
    channel = writable(world, token, asked, by_name=True)
    settings = world.settings
    wait = world.limits.steady(
        ("chat.postMessage", channel.id),
        settings.slack_post_seconds,
        settings.slack_post_burst,
        world.now(),
    )
    if wait:
        raise RateLimited(wait)
    message = post(world, channel, token.bot, asked)
    return {"channel": channel.id, "ts": message.id, "message": describe(message)}


def post(world: World, channel: Channel, author: str, asked: dict) -> Message:
    content = read_content(asked, MAX_TEXT)
    if is_empty(content):
        raise SlackError("no_text")
    parent = parent_of(channel, asked)
    rings = pings.in_slack(asked, content, "none")
    version = Version(world.now(), content, rings)
    broadcast = parent is not None and asked.get("reply_broadcast") is True
    message = Message(timestamp(world), author, [version], parent, broadcast)
    channel.messages.append(message)
    return message


def timestamp(world: World) -> str:
    moment = world.moment()
    return f"{moment // 1_000_000}.{moment % 1_000_000:06d}"


def update(world: World, caller: tuple[str, Token], asked: dict) -> dict:
    secret, token = caller
    per_minute = world.settings.slack_update_per_minute
    wait = world.limits.window(("chat.update", secret), per_minute, 60, world.now())
    if wait:
        raise RateLimited(wait)
    channel = writable(world, token, asked, by_name=False)
    message = channel.message(asked.get("ts"))
    if message is None:
        raise SlackError("message_not_found")
    if message.author != token.bot:
        raise SlackError("cant_update_message")
    window = world.settings.slack_edit_window_seconds
    if window and world.now() - message.versions[0].time > window:
        raise SlackError("edit_window_closed")
    content = read_content(asked, MAX_UPDATE_TEXT)
    if not content:
        raise SlackError("no_text")
    # omitted members are retained; an empty list removes them
    kept = {**message.last.content, **content}
    if is_empty(kept):
        raise SlackError("no_text")
    rings = pings.in_slack(asked, content, "client")
    message.versions.append(Version(world.now(), kept, rings))
    return {
        "channel": channel.id,
        "ts": message.id,
        "text": kept.get("text", ""),
        "message": describe(message),
    }


def writable(world: World, token: Token, asked: dict, by_name: bool) -> Channel:
    """Return the channel if this token may write to it."""
    if "chat:write" not in token.scopes:
        provided = ",".join(token.scopes)
        raise SlackError("missing_scope", needed="chat:write", provided=provided)
    named = asked.get("channel")
    if named is None:
        raise SlackError("invalid_arguments", "missing required field: channel")
    channel = world.channels.get(str(named))
    if channel is None and by_name:
        name = str(named).removeprefix("#")
        channel = next((c for c in world.channels.values() if c.name == name), None)
    if channel is None:
        raise SlackError(NO_CHANNEL)
    if channel.archived:
        raise SlackError(ARCHIVED)
    if not channel.member and "chat:write.public" not in token.scopes:
        raise SlackError("not_in_channel")
    return channel


def parent_of(channel: Channel, asked: dict) -> str | None:
    thread = asked.get("thread_ts")
    if thread is None:
        return None
    if not isinstance(thread, str):
        raise SlackError("thread_not_found", "thread_ts must be a string")
    parent = channel.message(thread)
    if parent is None:
        raise SlackError("thread_not_found")
    if parent.parent:
        raise SlackError("thread_not_found", "thread_ts is that of a reply")
    return thread


def read_content(asked: dict, most: int) -> dict:
    """Return the given members that are content of a message."""
    content = {}
    if "text" in asked:
        if not isinstance(asked["text"], str):
            raise SlackError("invalid_arguments", "must be a string [json-pointer:/text]")
        if len(asked["text"]) > most:
            raise SlackError("msg_too_long")
        content["text"] = asked["text"]
    if "blocks" in asked:
        content["blocks"] = as_list(asked["blocks"], "invalid_blocks_format")
        check_blocks(content["blocks"], "/blocks")
    if "attachments" in asked:
        content["attachments"] = as_list(asked["attachments"], "invalid_attachments")
        if len(content["attachments"]) > MAX_ATTACHMENTS:
            raise SlackError("too_many_attachments")
        for index, attachment in enumerate(content["attachments"]):
            blocks = as_list(attachment.get("blocks", []), "invalid_blocks_format")
            check_blocks(blocks, f"/attachments/{index}/blocks")
    return content


def is_empty(content: dict) -> bool:
    words = content.get("text", "").strip()
    return not (words or content.get("blocks") or content.get("attachments"))


def as_list(value, error: str) -> list:
    """Return a list of objects, which may also be given as JSON in a string."""
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise SlackError(error) from None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise SlackError(error)
    return value


def check_blocks(blocks: list, root: str) -> None:
    check = Check(root)
    check.blocks(blocks)
    if check.faults:
        raise SlackError("invalid_blocks", *check.faults)
    if check.total > MAX_TOTAL:
        raise SlackError("msg_blocks_too_long")


def describe(message: Message) -> dict:
    answer = {"type": "message", "ts": message.id, "bot_id": message.author}
    answer |= {"text": "", **message.last.content}
    if message.parent:
        answer["thread_ts"] = message.parent
    if message.broadcast:
        answer["subtype"] = "thread_broadcast"
    return answer


METHODS = {"chat.postMessage": post_message, "chat.update": update, "auth.test": auth_test}
