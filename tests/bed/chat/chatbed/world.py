"""What is in the emulated places: channels, messages with their versions, who may write.

A message keeps every version it had. Threads are one level deep, as in Slack.
"""

from dataclasses import asdict, dataclass, field, fields

from .clock import Clock, stamp
from .limits import Limits

DEFAULT_TOKEN = "xoxb-demo"
DEFAULT_BOT = "B0DEMO"
DEFAULT_CHANNELS = {"C0DEMO0001": "machine-images", "C0DEMO0002": "platform"}
DEFAULT_HOOK, DEFAULT_HOOK_CHANNEL = "/services/T0/B0/demo", "C0DEMO0002"
DEFAULT_WEBHOOK, DEFAULT_WEBHOOK_TOKEN = "1000", "demo-token"


@dataclass
class Settings:
    """The rates that real services leave open, and what they only have per workspace."""

    slack_post_seconds: float = 1
    slack_post_burst: int = 3
    slack_update_per_minute: int = 50
    # 0: messages can be edited for ever
    slack_edit_window_seconds: float = 0
    hook_seconds: float = 1
    hook_burst: int = 1
    discord_requests: int = 5
    discord_seconds: float = 2

    def change(self, wanted: dict) -> None:
        known = {f.name: f.type for f in fields(self)}
        unknown = set(wanted) - set(known)
        if unknown:
            raise ValueError(f"unknown settings {sorted(unknown)}; known: {sorted(known)}")
        for name, value in wanted.items():
            setattr(self, name, known[name](value))


@dataclass
class Version:
    """What a message said from `time` on. `content` is as it was sent: text, blocks, embeds, …"""

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
            # of every version: a ping that was edited away has rung
            "pings": sorted({ping for version in self.versions for ping in version.pings}),
            "edits": len(self.versions) - 1,
            "versions": [version.describe() for version in self.versions],
            "broadcast": self.broadcast,
            "deleted": self.deleted,
        }


@dataclass
class Place:
    """Where messages stand: a channel, a Discord webhook, a receiver."""

    kind: str
    id: str
    name: str
    messages: list[Message] = field(default_factory=list)

    def message(self, message_id) -> Message | None:
        """One that is still there."""
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
    # whether the bot is in it
    member: bool = True


@dataclass
class Token:
    """A bot token. `state` is ok, or the error that calls with it get."""

    bot: str = DEFAULT_BOT
    state: str = "ok"
    scopes: tuple[str, ...] = ("chat:write",)


@dataclass
class Hook:
    """A Slack incoming webhook. `state` is ok, or the string it answers with."""

    channel: str
    state: str = "ok"


@dataclass
class Receiver(Place):
    """A generic webhook: what arrives is kept whatever `status` is answered."""

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

    def moment(self) -> int:
        """Microseconds of the clock, never the same twice: what ids are made of."""
        self._last_id = max(self._last_id + 1, int(self.now() * 1_000_000))
        return self._last_id

    def places(self) -> list[Place]:
        hooks = [place for _, place in self.webhooks.values()]
        return [*self.channels.values(), *hooks, *self.receivers.values()]

    def described_settings(self) -> dict:
        return asdict(self.settings)
