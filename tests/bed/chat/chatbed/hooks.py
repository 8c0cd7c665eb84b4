"""Slack's incoming webhooks: the URL is the secret, each one has one channel, and responses are plain text."""

import json

from bedkit.reply import Reply
from bedkit.server import Request

from . import slack
from .limits import retry_after
from .world import World

AUTHOR = "incoming webhook"
# response -> status
STATUSES = {
    "invalid_payload": 400,
    "user_not_found": 400,
    "action_prohibited": 403,
    "posting_to_general_channel_denied": 403,
    "channel_not_found": 404,
    "no_service": 404,
    "channel_is_archived": 410,
    "rollup_error": 500,
}
# error of the Web API -> response of a webhook
RENAMED = {slack.ARCHIVED: "channel_is_archived"}


def deliver(world: World, request: Request) -> Reply:
    hook = world.hooks.get(request.path)
    if hook is None or request.method != "POST":
        return refuse("no_service")
    if hook.state != "ok":
        return refuse(hook.state)
    settings = world.settings
    key = ("hook", request.path)
    wait = world.limits.steady(key, settings.hook_seconds, settings.hook_burst, world.now())
    if wait:
        after = retry_after(wait)
        return Reply.words(
            "rate_limited", 429, {"Retry-After": after}, error="rate_limited", retry_after=after
        )
    channel = world.channels.get(hook.channel)
    if channel is None:
        return refuse(slack.NO_CHANNEL)
    if channel.archived:
        return refuse(RENAMED[slack.ARCHIVED])
    try:
        asked = json.loads(request.body)
    except ValueError:
        return refuse("invalid_payload")
    if not isinstance(asked, dict):
        return refuse("invalid_payload")
    try:
        slack.post(world, channel, AUTHOR, {k: v for k, v in asked.items() if v is not None})
    except slack.SlackError as error:
        return refuse(error.code, list(error.why))
    return Reply.words("ok")


def refuse(word: str, why: list | None = None) -> Reply:
    return Reply.words(word, STATUSES.get(word, 400), error=word, why=why or [])
