"""The mentions in a message that would notify people in Slack or Discord.

Slack's control sequences notify wherever mrkdwn is parsed, including code; an
escaped one (`&lt;!channel&gt;`) does not. A bare `@channel` notifies only if the
message requests that names are linked. chat.update parses as `client` by default;
what that links is not documented, so here it counts as a mention.
"""

import re

CONTROL = re.compile(r"<(?:!(?:channel|here|everyone|group|subteam\^\w+)|@[UWB]\w*|#C\w*)[^<>]*>")
BARE = re.compile(r"(?<![\w.])@(?:channel|here|everyone)\b")
DISCORD = re.compile(r"@(?:everyone|here)\b|<@[!&]?\d+>")
LINKING = ("full", "client")
# the elements of rich text that are mentions
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
    """Return all mrkdwn texts in the node; plain_text is not parsed."""
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
    """Mentions in embeds do not notify; those in the content do unless `parse` is empty."""
    allowed = asked.get("allowed_mentions")
    if isinstance(allowed, dict) and allowed.get("parse") == []:
        return []
    return DISCORD.findall(asked.get("content") or "")
