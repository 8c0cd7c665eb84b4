"""The control interface under /_bed: JSON in, JSON out."""

import json
from urllib.parse import parse_qs

from .journal import digest
from .server import Reply, Request
from .world import DEFAULT_BOT, Channel, Hook, Token


def control(app, request: Request) -> Reply:
    path = request.path.removeprefix("/_bed").strip("/")
    handler = ROUTES.get((request.method, path))
    if handler is None:
        known = sorted(f"{method} /_bed/{p}" for method, p in ROUTES)
        return Reply.json({"error": f"no {request.method} {request.path}", "known": known}, 404)
    try:
        asked = {name: values[0] for name, values in parse_qs(request.query).items()}
        if request.body:
            asked |= json.loads(request.body)
        with app.lock:
            return Reply.json(handler(app, asked))
    except KeyError as error:
        return Reply.json({"error": f"missing or unknown: {error}"}, 400)
    except (ValueError, TypeError) as error:
        return Reply.json({"error": str(error)}, 400)


def info(app, asked: dict) -> dict:
    return app.info | {"down": app.down}


def transcript(app, asked: dict) -> list:
    """Every place with messages, or the one named by `place`."""
    places = [place.describe() for place in app.world.places()]
    if "place" in asked:
        named = [p for p in places if asked["place"] in (p["place"], p["name"])]
        if not named:
            raise ValueError(f"no place {asked['place']!r}")
        return named
    return [place for place in places if place["messages"]]


def delete_message(app, asked: dict) -> dict:
    """As a person would by hand."""
    for place in app.world.places():
        message = place.message(asked["id"]) if place.id == asked["place"] else None
        if message:
            message.deleted = True
            return {"deleted": message.id}
    raise ValueError(f"no message {asked['id']!r} in {asked['place']!r}")


def read_journal(app, asked: dict) -> list:
    return app.journal.read()


def clear_journal(app, asked: dict) -> list:
    return app.journal.clear()


def read_channels(app, asked: dict) -> list:
    return [
        {"id": c.id, "name": c.name, "archived": c.archived, "member": c.member}
        for c in app.world.channels.values()
    ]


def change_channel(app, asked: dict) -> list:
    """Makes or changes one: `id`, `name`, `archived`, `member` (the bot); `deleted` removes it."""
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
    """Makes or changes one: `token`, `bot`, `scopes`, `state` (ok, or the error it gets)."""
    token = app.world.tokens.setdefault(asked["token"], Token(asked.get("bot", DEFAULT_BOT)))
    token.bot = asked.get("bot", token.bot)
    token.state = asked.get("state", token.state)
    token.scopes = tuple(asked.get("scopes", token.scopes))
    return read_tokens(app, asked)


def change_hook(app, asked: dict) -> dict:
    """A Slack incoming webhook: `path`, `channel`, `state` (ok, or what it answers with)."""
    hooks, path = app.world.hooks, asked["path"]
    known = hooks.get(path)
    channel = asked["channel"] if known is None else asked.get("channel", known.channel)
    hooks[path] = Hook(channel, asked.get("state", known.state if known else "ok"))
    return {"path": path, "channel": channel, "state": hooks[path].state}


def change_webhook(app, asked: dict) -> dict:
    """A Discord webhook: `id`, `token`; `deleted` removes it."""
    if asked.get("deleted"):
        del app.world.webhooks[asked["id"]]
    else:
        app.world.add_webhook(str(asked["id"]), asked["token"])
    return {"webhooks": sorted(app.world.webhooks)}


def change_receiver(app, asked: dict) -> dict:
    """A generic receiver: `name`, `status` and `body` of its answers."""
    receiver = app.world.receiver(asked["name"])
    receiver.status = int(asked.get("status", receiver.status))
    receiver.body = asked.get("body", receiver.body)
    return {"name": receiver.id, "status": receiver.status, "body": receiver.body}


def read_received(app, asked: dict) -> list:
    """What came to the receiver `name`: headers and text as they were sent."""
    return app.world.receiver(asked["name"]).received


def list_faults(app, asked: dict) -> list:
    return app.faults.describe()


def add_fault(app, asked: dict) -> dict:
    return app.faults.add(asked).describe()


def clear_faults(app, asked: dict) -> dict:
    return {"cleared": app.faults.clear(int(asked["id"]) if "id" in asked else None)}


def read_clock(app, asked: dict) -> dict:
    return app.world.clock.describe()


def change_clock(app, asked: dict) -> dict:
    """`advance` seconds, `freeze` true or false, `speed` factor."""
    clock = app.world.clock
    if "speed" in asked:
        clock.set_speed(float(asked["speed"]))
    if "freeze" in asked:
        clock.freeze(bool(asked["freeze"]))
    if "advance" in asked:
        clock.advance(float(asked["advance"]))
    return clock.describe()


def read_settings(app, asked: dict) -> dict:
    return app.world.described_settings()


def change_settings(app, asked: dict) -> dict:
    app.world.settings.change(asked)
    return app.world.described_settings()


def go_down(app, asked: dict) -> dict:
    app.down = True
    return {"down": True}


def come_up(app, asked: dict) -> dict:
    app.down = False
    return {"down": False}


def reset(app, asked: dict) -> dict:
    app.forget()
    return app.info


ROUTES = {
    ("GET", ""): info,
    ("GET", "transcript"): transcript,
    ("DELETE", "message"): delete_message,
    ("GET", "journal"): read_journal,
    ("DELETE", "journal"): clear_journal,
    ("GET", "channels"): read_channels,
    ("POST", "channels"): change_channel,
    ("GET", "tokens"): read_tokens,
    ("POST", "tokens"): change_token,
    ("POST", "hooks"): change_hook,
    ("POST", "webhooks"): change_webhook,
    ("POST", "receivers"): change_receiver,
    ("GET", "received"): read_received,
    ("GET", "faults"): list_faults,
    ("POST", "faults"): add_fault,
    ("DELETE", "faults"): clear_faults,
    ("GET", "clock"): read_clock,
    ("POST", "clock"): change_clock,
    ("GET", "settings"): read_settings,
    ("POST", "settings"): change_settings,
    ("POST", "down"): go_down,
    ("POST", "up"): come_up,
    ("POST", "reset"): reset,
}
