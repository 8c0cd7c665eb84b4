"""Discord's webhooks: posting, with or without returning the message, and editing."""

import json
from urllib.parse import parse_qs

from bedkit.clock import stamp
from bedkit.reply import Reply
from bedkit.server import Request

from . import pings
from .limits import retry_after
from .world import Message, Place, Version, World

# the start of 2015 in milliseconds since 1970: the epoch of Discord's IDs
EPOCH = 1_420_070_400_000
MAX_CONTENT = 2000
MAX_EMBEDS, MAX_EMBED_TOTAL = 10, 6000
MAX_FIELDS, MAX_NAME, MAX_VALUE = 25, 256, 1024
MAX_EMBED = {"title": 256, "description": 4096}
MAX_FOOTER, MAX_AUTHOR, MAX_USERNAME = 2048, 256, 80
LINK_START = ("http://", "https://")


class DiscordError(Exception):
    def __init__(self, status: int, code: int, message: str, errors: dict | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.errors = status, code, message, errors


class Form:
    """Collects the errors in a body, in Discord's nested format."""

    def __init__(self) -> None:
        self.errors: dict = {}

    def fault(self, path: tuple, code: str, message: str) -> None:
        node = self.errors
        for part in path:
            node = node.setdefault(str(part), {})
        node.setdefault("_errors", []).append({"code": code, "message": message})

    def text(self, value, most: int, path: tuple, required: bool = False) -> int:
        """Check a string and return its length."""
        if value is None or value == "":
            if required:
                self.fault(path, "BASE_TYPE_REQUIRED", "This field is required")
            return 0
        if not isinstance(value, str):
            self.fault(path, "BASE_TYPE_STRING", "Must be a string.")
            return 0
        if len(value) > most:
            self.fault(path, "BASE_TYPE_MAX_LENGTH", f"Must be {most} or fewer in length.")
        return len(value)

    def items(self, value, most: int, path: tuple) -> list[tuple[tuple, dict]]:
        """Check a list and return its objects with their paths."""
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.fault(path, "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
            return []
        if len(value) > most:
            self.fault(path, "BASE_TYPE_MAX_LENGTH", f"Must be {most} or fewer in length.")
        return [((*path, index), item) for index, item in enumerate(value)]

    def check(self, asked: dict) -> None:
        self.text(asked.get("content"), MAX_CONTENT, ("content",))
        self.text(asked.get("username"), MAX_USERNAME, ("username",))
        total = 0
        for path, embed in self.items(asked.get("embeds"), MAX_EMBEDS, ("embeds",)):
            total += self.embed(embed, path)
        if total > MAX_EMBED_TOTAL:
            message = f"Embed size exceeds maximum size of {MAX_EMBED_TOTAL}"
            self.fault(("embeds",), "MAX_EMBED_SIZE_EXCEEDED", message)
        if self.errors:
            raise DiscordError(400, 50035, "Invalid Form Body", self.errors)

    def embed(self, embed: dict, path: tuple) -> int:
        total = sum(self.text(embed.get(n), most, (*path, n)) for n, most in MAX_EMBED.items())
        for inner, name, most in (("footer", "text", MAX_FOOTER), ("author", "name", MAX_AUTHOR)):
            total += self.text((embed.get(inner) or {}).get(name), most, (*path, inner, name))
        for place, field in self.items(embed.get("fields"), MAX_FIELDS, (*path, "fields")):
            total += self.text(field.get("name"), MAX_NAME, (*place, "name"), required=True)
            total += self.text(field.get("value"), MAX_VALUE, (*place, "value"), required=True)
        color = embed.get("color")
        if color is not None and (not isinstance(color, int) or not 0 <= color <= 0xFFFFFF):
            message = "int value should be between 0 and 16777215."
            self.fault((*path, "color"), "NUMBER_TYPE_MAX", message)
        if not str(embed.get("url") or LINK_START[0]).startswith(LINK_START):
            message = "Scheme must be one of ('http', 'https')."
            self.fault((*path, "url"), "URL_TYPE_INVALID_SCHEME", message)
        return total


def webhook(
    world: World, request: Request, webhook_id: str, token: str, message_id: str | None
) -> Reply:
    try:
        place = authorise(world, webhook_id, token)
        headers, limited = count(world, webhook_id)
        if limited:
            return limited
        reply = serve(world, place, request, message_id)
        reply.headers |= headers
        return reply
    except DiscordError as error:
        document = {"message": error.message, "code": error.code}
        if error.errors:
            document["errors"] = error.errors
        return Reply.json(document, error.status, error=f"{error.code}: {error.message}")


def authorise(world: World, webhook_id: str, token: str) -> Place:
    if webhook_id not in world.webhooks:
        raise DiscordError(404, 10015, "Unknown Webhook")
    secret, place = world.webhooks[webhook_id]
    if token != secret:
        raise DiscordError(401, 50027, "Invalid Webhook Token")
    return place


def count(world: World, webhook_id: str) -> tuple[dict, Reply | None]:
    """Count a request: return the rate limit headers, and the refusal if the limit is exceeded."""
    most, seconds = world.settings.discord_requests, world.settings.discord_seconds
    key, now = ("discord", webhook_id), world.now()
    wait = world.limits.window(key, most, seconds, now)
    left, again = world.limits.left(key, most, seconds, now)
    headers = {
        "X-RateLimit-Limit": str(most),
        "X-RateLimit-Remaining": str(left),
        "X-RateLimit-Reset-After": f"{again:.3f}",
        "X-RateLimit-Bucket": "bed",
    }
    if not wait:
        return headers, None
    body = {
        "message": "You are being rate limited.",
        "retry_after": round(wait, 3),
        "global": False,
    }
    headers |= {"Retry-After": retry_after(wait), "X-RateLimit-Scope": "user"}
    return headers, Reply.json(body, 429, headers, error="rate limited", retry_after=round(wait, 3))


def serve(world: World, place: Place, request: Request, message_id: str | None) -> Reply:
    if message_id is None and request.method == "POST":
        message = post(world, place, arguments(request))
        if parse_qs(request.query).get("wait") != ["true"]:
            return Reply(204)
        return Reply.json(describe(place, message))
    if message_id is not None and request.method in ("PATCH", "GET"):
        message = place.message(message_id)
        if message is None:
            raise DiscordError(404, 10008, "Unknown Message")
        if request.method == "PATCH":
            edit(world, message, arguments(request))
        return Reply.json(describe(place, message))
    raise DiscordError(405, 0, "405: Method Not Allowed")


def arguments(request: Request) -> dict:
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise DiscordError(400, 50006, "Cannot send an empty message")
    try:
        asked = json.loads(request.body)
    except ValueError:
        raise DiscordError(400, 50109, "The request body contains invalid JSON.") from None
    if not isinstance(asked, dict):
        raise DiscordError(400, 50109, "The request body contains invalid JSON.")
    Form().check(asked)
    return asked


def post(world: World, place: Place, asked: dict) -> Message:
    version = make_version(world, {}, asked)
    moment = world.moment()
    snowflake = (moment // 1000 - EPOCH) << 22 | moment % 1000
    message = Message(str(snowflake), asked.get("username") or place.name, [version])
    place.messages.append(message)
    return message


def edit(world: World, message: Message, asked: dict) -> None:
    message.versions.append(make_version(world, message.last.content, asked))


def make_version(world: World, before: dict, asked: dict) -> Version:
    """Omitted members are retained; null and empty ones are removed."""
    given = {name: asked[name] or None for name in ("content", "embeds") if name in asked}
    content = {"content": None, "embeds": None, **before, **given}
    if not content["content"] and not content["embeds"]:
        raise DiscordError(400, 50006, "Cannot send an empty message")
    return Version(world.now(), content, pings.in_discord(asked))


def describe(place: Place, message: Message) -> dict:
    edited = stamp(message.last.time) if len(message.versions) > 1 else None
    return {
        "id": message.id,
        "type": 0,
        "channel_id": f"9{place.id}",
        "webhook_id": place.id,
        "author": {"id": place.id, "username": message.author, "bot": True},
        "content": message.last.content["content"] or "",
        "embeds": message.last.content["embeds"] or [],
        "attachments": [],
        "mention_everyone": "@everyone" in message.last.pings,
        "timestamp": stamp(message.versions[0].time),
        "edited_timestamp": edited,
    }
