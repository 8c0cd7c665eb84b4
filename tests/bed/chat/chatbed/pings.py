"""Whom a message would ring: what in it is a mention to Slack or to Discord.

Slack's control sequences ring wherever mrkdwn is read, code included; an escaped
one (`&lt;!channel&gt;`) does not. Bare `@channel` rings only where the message
asks for names to be linked. chat.update parses as `client` unless told
otherwise; what that links is not documented, so here it counts.
"""

import re

CONTROL = re.compile(r"<(?:!(?:channel|here|everyone|group|subteam\^\w+)|@[UWB]\w*|#C\w*)[^<>]*>")
BARE = re.compile(r"(?<![\w.])@(?:channel|here|everyone)\b")
DISCORD = re.compile(r"@(?:everyone|here)\b|<@[!&]?\d+>")
LINKING = ("full", "client")
# rich text has elements of its own for mentions
RICH = {
    "broadcast": "range",
    "user": "user_id",
    "usergroup": "usergroup_id",
    "channel": "channel_id",
}


def in_slack(asked: dict, content: dict, default_parse: str) -> list[str]:
    texts = [content.get("text") or "", *_markup(content.get("blocks"))]
    for attachment in content.get("attachments") or []:
        texts += _markup([attachment])
        texts += [v for k in ("pretext", "text") if isinstance(v := attachment.get(k), str)]
    found = [match for text in texts for match in CONTROL.findall(text)]
    if asked.get("link_names") or asked.get("parse", default_parse) in LINKING:
        found += [match for text in texts for match in BARE.findall(text)]
    return found + _rich(content.get("blocks"))


def _markup(node) -> list[str]:
    """The mrkdwn texts anywhere below; plain_text is shown as it is."""
    if isinstance(node, list):
        return [text for item in node for text in _markup(item)]
    if not isinstance(node, dict):
        return []
    if node.get("type") in ("mrkdwn", "markdown") and isinstance(node.get("text"), str):
        return [node["text"]]
    return [text for item in node.values() for text in _markup(item)]


def _rich(node) -> list[str]:
    if isinstance(node, list):
        return [ping for item in node for ping in _rich(item)]
    if not isinstance(node, dict):
        return []
    own = [f"{node['type']}:{node.get(RICH[node['type']])}"] if node.get("type") in RICH else []
    return own + [ping for item in node.values() for ping in _rich(item)]


def in_discord(asked: dict) -> list[str]:
    """Mentions in embeds do not ring; those in the content do unless `parse` is empty."""
    allowed = asked.get("allowed_mentions")
    if isinstance(allowed, dict) and allowed.get("parse") == []:
        return []
    return DISCORD.findall(asked.get("content") or "")
