"""Responses of the emulated services: JSON or text, with what the journal says of them."""

import json
from dataclasses import dataclass, field

import bedkit.server


@dataclass
class Reply(bedkit.server.Reply):
    # additional members of the journal entry
    note: dict = field(default_factory=dict)

    @classmethod
    def json(cls, document, status: int = 200, headers: dict | None = None, **note) -> "Reply":
        content = {"Content-Type": "application/json; charset=utf-8"}
        body = json.dumps(document, ensure_ascii=False, default=str).encode() + b"\n"
        return cls(status, content | (headers or {}), body, note=note)

    @classmethod
    def words(cls, text: str, status: int = 200, headers: dict | None = None, **note) -> "Reply":
        content = {"Content-Type": "text/plain; charset=utf-8"}
        return cls(status, content | (headers or {}), text.encode(), note=note)
