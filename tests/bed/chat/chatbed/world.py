"""The state of the emulated places: channels, messages with their versions, and credentials.

A message keeps all its versions. Threads have one level, as in Slack.
"""

from dataclasses import dataclass, field

import bedkit.settings
from bedkit.clock import Clock, stamp

from .limits import Limits

DEFAULT_TOKEN = "xoxb-demo"
DEFAULT_BOT = "B0DEMO"
DEFAULT_CHANNELS = {"C0DEMO0001": "machine-images", "C0DEMO0002": "platform"}
DEFAULT_HOOK, DEFAULT_HOOK_CHANNEL = "/services/T0/B0/demo", "C0DEMO0002"
DEFAULT_WEBHOOK, DEFAULT_WEBHOOK_TOKEN = "1000", "demo-token"


@dataclass
class Settings(bedkit.settings.Settings):
    """The limits that the real services do not document, or that depend on the workspace."""

    slack_post_seconds: float = 1
    slack_post_burst: int = 3
    slack_update_per_minute: int = 50
    # 0: messages can always be edited
    slack_edit_window_seconds: float = 0
    hook_seconds: float = 1
    hook_burst: int = 1
    discord_requests: int = 5
    discord_seconds: float = 2


@dataclass
class Version:
    """A version of a message since `time`. `content` is unchanged: text, blocks, embeds, …"""

    time: float
    content: dict
    pings: list[str]

    def describe(self) -> dict:
        return {"time": stamp(self.time), **self.content, "pings": self.pings}


@dataclass
class Message:
    id: str
    author: str
    versions: list[Version]
    parent: str | None = None
    broadcast: bool = False
    deleted: bool = False

    @property
    def last(self) -> Version:
        return self.versions[-1]

    def describe(self) -> dict:
        return {
            "id": self.id,
            "author": self.author,
            "time": stamp(self.versions[0].time),
            **self.last.content,
            # of all versions: a mention that was removed later has notified already
            "pings": sorted({ping for version in self.versions for ping in version.pings}),
            "edits": len(self.versions) - 1,
            "versions": [version.describe() for version in self.versions],
            "broadcast": self.broadcast,
            "deleted": self.deleted,
        }


@dataclass
class Place:
    """A place with messages: a channel, a Discord webhook or a receiver."""

    kind: str
    id: str
    name: str
    messages: list[Message] = field(default_factory=list)

    def message(self, message_id) -> Message | None:
        """Return a message that is not deleted."""
        found = (m for m in self.messages if m.id == message_id and not m.deleted)
        return next(found, None)

    def describe(self) -> dict:
        threads: dict[str, list[dict]] = {}
        for message in self.messages:
            if message.parent:
                threads.setdefault(message.parent, []).append(message.describe())
        heads = [
            message.describe() | {"replies": threads.get(message.id, [])}
            for message in self.messages
            if not message.parent
        ]
        return {"kind": self.kind, "place": self.id, "name": self.name, "messages": heads}


@dataclass
class Channel(Place):
    archived: bool = False
    # whether the bot is a member
    member: bool = True


@dataclass
class Token:
    """A bot token. `state` is ok, or the error that calls with the token get."""

    bot: str = DEFAULT_BOT
    state: str = "ok"
    scopes: tuple[str, ...] = ("chat:write",)


@dataclass
class Hook:
    """A Slack incoming webhook. `state` is ok, or its response."""

    channel: str
    state: str = "ok"


@dataclass
class Receiver(Place):
    """A generic webhook. It stores what it receives, whatever `status` it returns."""

    status: int = 200
    body: str = ""
    received: list[dict] = field(default_factory=list)


class World:
    def __init__(self, speed: float) -> None:
        self.clock = Clock(speed)
        self.settings = Settings()
        self.limits = Limits()
        self.channels = {i: Channel("slack", i, name) for i, name in DEFAULT_CHANNELS.items()}
        self.tokens = {DEFAULT_TOKEN: Token()}
        self.hooks = {DEFAULT_HOOK: Hook(DEFAULT_HOOK_CHANNEL)}
        self.webhooks: dict[str, tuple[str, Place]] = {}
        self.add_webhook(DEFAULT_WEBHOOK, DEFAULT_WEBHOOK_TOKEN)
        self.receivers: dict[str, Receiver] = {}
        self._last_id = 0

    def add_webhook(self, webhook_id: str, token: str) -> None:
        known = self.webhooks.get(webhook_id)
        place = known[1] if known else Place("discord", webhook_id, f"discord webhook {webhook_id}")
        self.webhooks[webhook_id] = (token, place)

    def receiver(self, name: str) -> Receiver:
        if name not in self.receivers:
            self.receivers[name] = Receiver("webhook", name, f"/hook/{name}")
        return self.receivers[name]

    def now(self) -> float:
        return self.clock.timestamp()

    def stamp(self) -> str:
        return stamp(self.now())

    def moment(self) -> int:
        """Return the time in microseconds, never the same value twice; used for IDs."""
        self._last_id = max(self._last_id + 1, int(self.now() * 1_000_000))
        return self._last_id

    def places(self) -> list[Place]:
        hooks = [place for _, place in self.webhooks.values()]
        return [*self.channels.values(), *hooks, *self.receivers.values()]
