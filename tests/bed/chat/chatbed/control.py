"""The control interface under /_bed: JSON in, JSON out."""

from bedkit.application import CONTROLS, digest

from .world import DEFAULT_BOT, Channel, Hook, Token


def info(app, asked: dict) -> dict:
    return app.info | {"down": app.down}


def transcript(app, asked: dict) -> list:
    """Return all places with messages, or the one given by `place`."""
    places = [place.describe() for place in app.world.places()]
    if "place" in asked:
        named = [p for p in places if asked["place"] in (p["place"], p["name"])]
        if not named:
            raise ValueError(f"no place {asked['place']!r}")
        return named
    return [place for place in places if place["messages"]]


def delete_message(app, asked: dict) -> dict:
    """Delete a message, as a person would by hand."""
    for place in app.world.places():
        message = place.message(asked["id"]) if place.id == asked["place"] else None
        if message:
            message.deleted = True
            return {"deleted": message.id}
    raise ValueError(f"no message {asked['id']!r} in {asked['place']!r}")


def read_channels(app, asked: dict) -> list:
    return [
        {"id": c.id, "name": c.name, "archived": c.archived, "member": c.member}
        for c in app.world.channels.values()
    ]


def change_channel(app, asked: dict) -> list:
    """Create or change a channel: `id`, `name`, `archived`, `member` (the bot); `deleted` deletes it."""
    channels, channel_id = app.world.channels, asked["id"]
    if asked.get("deleted"):
        del channels[channel_id]
        return read_channels(app, asked)
    channel = channels.setdefault(channel_id, Channel("slack", channel_id, channel_id.lower()))
    channel.name = str(asked.get("name", channel.name)).removeprefix("#")
    channel.archived = bool(asked.get("archived", channel.archived))
    channel.member = bool(asked.get("member", channel.member))
    return read_channels(app, asked)


def read_tokens(app, asked: dict) -> list:
    return [
        {"digest": digest(secret), "bot": t.bot, "state": t.state, "scopes": t.scopes}
        for secret, t in app.world.tokens.items()
    ]


def change_token(app, asked: dict) -> list:
    """Create or change a token: `token`, `bot`, `scopes`, `state` (ok, or the error that it gets)."""
    token = app.world.tokens.setdefault(asked["token"], Token(asked.get("bot", DEFAULT_BOT)))
    token.bot = asked.get("bot", token.bot)
    token.state = asked.get("state", token.state)
    token.scopes = tuple(asked.get("scopes", token.scopes))
    return read_tokens(app, asked)


def change_hook(app, asked: dict) -> dict:
    """Create or change a Slack incoming webhook: `path`, `channel`, `state` (ok, or its response)."""
    hooks, path = app.world.hooks, asked["path"]
    known = hooks.get(path)
    channel = asked["channel"] if known is None else asked.get("channel", known.channel)
    hooks[path] = Hook(channel, asked.get("state", known.state if known else "ok"))
    return {"path": path, "channel": channel, "state": hooks[path].state}


def change_webhook(app, asked: dict) -> dict:
    """Create or change a Discord webhook: `id`, `token`; `deleted` deletes it."""
    if asked.get("deleted"):
        del app.world.webhooks[asked["id"]]
    else:
        app.world.add_webhook(str(asked["id"]), asked["token"])
    return {"webhooks": sorted(app.world.webhooks)}


def change_receiver(app, asked: dict) -> dict:
    """Set the `status` and `body` of the responses of the generic receiver `name`."""
    receiver = app.world.receiver(asked["name"])
    receiver.status = int(asked.get("status", receiver.status))
    receiver.body = asked.get("body", receiver.body)
    return {"name": receiver.id, "status": receiver.status, "body": receiver.body}


def read_received(app, asked: dict) -> list:
    """Return what the receiver `name` has received: headers and text as sent."""
    return app.world.receiver(asked["name"]).received


def go_down(app, asked: dict) -> dict:
    app.down = True
    return {"down": True}


def come_up(app, asked: dict) -> dict:
    app.down = False
    return {"down": False}


ROUTES = {
    ("GET", ""): info,
    ("GET", "transcript"): transcript,
    ("DELETE", "message"): delete_message,
    **CONTROLS,
    ("GET", "channels"): read_channels,
    ("POST", "channels"): change_channel,
    ("GET", "tokens"): read_tokens,
    ("POST", "tokens"): change_token,
    ("POST", "hooks"): change_hook,
    ("POST", "webhooks"): change_webhook,
    ("POST", "receivers"): change_receiver,
    ("GET", "received"): read_received,
    ("POST", "down"): go_down,
    ("POST", "up"): come_up,
}
