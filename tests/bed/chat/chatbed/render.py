"""Renders the content of a message as plain text lines, as its reader would see it."""

import json
import re

# :name: -> emoji; other names are not replaced
EMOJI = {
    "arrow_forward": "▶️",
    "bell": "🔔",
    "bust_in_silhouette": "👤",
    "hammer_and_wrench": "🛠️",
    "hourglass": "⌛",
    "hourglass_flowing_sand": "⏳",
    "information_source": "ℹ️",
    "large_blue_circle": "🔵",
    "large_green_circle": "🟢",
    "large_yellow_circle": "🟡",
    "no_entry": "⛔",
    "package": "📦",
    "point_right": "👉",
    "raised_hand": "✋",
    "recycle": "♻️",
    "red_circle": "🔴",
    "rocket": "🚀",
    "rotating_light": "🚨",
    "tada": "🎉",
    "warning": "⚠️",
    "wave": "👋",
    "white_check_mark": "✅",
    "wrench": "🔧",
    "x": "❌",
}
LINK = re.compile(r"<(https?://[^|<>]+|mailto:[^|<>]+)(?:\|([^<>]+))?>")
FENCE = "```"


def content_lines(content: dict) -> list[str]:
    """Render a message. If it has blocks, its text is used only for notifications and is not shown."""
    if "body" in content:
        return _received(content)
    if content.get("embeds") or content.get("content"):
        lines = markup(content.get("content") or "")
        return lines + [x for embed in content.get("embeds") or [] for x in _embed(embed)]
    blocks = content.get("blocks")
    lines = block_lines(blocks) if blocks else markup(content.get("text") or "")
    for attachment in content.get("attachments") or []:
        inner = block_lines(attachment.get("blocks") or [])
        text = attachment.get("text") or attachment.get("fallback") or ""
        lines += ["▎ " + line for line in inner or markup(text)]
    return lines


def _received(content: dict) -> list[str]:
    """Return the human-readable parts of a JSON document."""
    body = content["body"]
    if not isinstance(body, dict):
        return str(body or "").splitlines()
    said = [str(body[name]) for name in ("title", "text") if body.get(name)]
    lines = [line for text in said for line in text.splitlines()]
    return lines or [json.dumps(body, ensure_ascii=False)]


def block_lines(blocks: list[dict]) -> list[str]:
    lines = []
    for block in blocks:
        lines += BLOCKS.get(block["type"], _unknown)(block)
    return lines


def markup(text: str) -> list[str]:
    """Resolve links, emoji and escapes; text between fences is marked with a bar."""
    lines = []
    for index, part in enumerate(text.split(FENCE)):
        part = part.strip("\n")
        if not part:
            continue
        code = index % 2 == 1
        lines += [("│ " if code else "") + _plain(line, code) for line in part.split("\n")]
    return lines


def _plain(text: str, code: bool = False) -> str:
    text = LINK.sub(lambda m: f"{m[2]} ‹{m[1]}›" if m[2] else m[1], text)
    if not code:
        text = re.sub(r":([a-z_]+):", lambda m: EMOJI.get(m[1], m[0]), text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _text(item: dict | None) -> list[str]:
    return markup(item["text"]) if item else []


def _section(block: dict) -> list[str]:
    lines = _text(block.get("text")) + columns([_text(f) for f in block.get("fields", [])])
    return lines + ([_element(block["accessory"])] if "accessory" in block else [])


def columns(cells: list[list[str]]) -> list[str]:
    """Render fields, which usually have a name above a value, as one line each with aligned values."""
    width = max((len(cell[0]) for cell in cells if len(cell) > 1), default=0)
    return [
        f"{cell[0].ljust(width)}  {' '.join(cell[1:])}".rstrip() if len(cell) > 1 else "".join(cell)
        for cell in cells
    ]


def _header(block: dict) -> list[str]:
    return [f"*{line}*" for line in _text(block["text"])]


def _context(block: dict) -> list[str]:
    parts = [" ".join(_text(i)) if "text" in i else _element(i) for i in block["elements"]]
    return ["  ·  ".join(parts)]


def _element(item: dict) -> str:
    if item["type"] == "button":
        label = " ".join(_text(item["text"]))
        return f"[ {label} ]" + (f" ‹{item['url']}›" if "url" in item else "")
    return f"[image: {item['alt_text']}]"


def _rich(block: dict) -> list[str]:
    lines = []
    for element in block["elements"]:
        text = "".join(_run(run) for run in element.get("elements", []))
        bar = "│ " if element.get("type") == "rich_text_preformatted" else ""
        lines += [bar + line for line in text.rstrip("\n").split("\n")]
    return lines


def _run(run: dict) -> str:
    if run.get("type") == "rich_text_section":
        return "• " + "".join(_run(inner) for inner in run.get("elements", [])) + "\n"
    if run.get("type") == "link":
        return f"{run['text']} ‹{run['url']}›" if run.get("text") else run["url"]
    if run.get("type") == "emoji":
        return EMOJI.get(run["name"], f":{run['name']}:")
    return run.get("text") or f"<{run.get('type')}>"


def _embed(embed: dict) -> list[str]:
    lines = [f"*{embed['title']}*"] if embed.get("title") else []
    lines += [f"‹{embed['url']}›"] if embed.get("url") else []
    lines += markup(embed.get("description") or "")
    lines += columns([[f["name"], *markup(f["value"])] for f in embed.get("fields") or []])
    footer = (embed.get("footer") or {}).get("text")
    return ["▎ " + line for line in lines + ([footer] if footer else [])]


def _unknown(block: dict) -> list[str]:
    return [f"[{block['type']}]"]


BLOCKS = {
    "section": _section,
    "header": _header,
    "context": _context,
    "actions": lambda block: ["  ".join(_element(item) for item in block["elements"])],
    "divider": lambda block: ["─" * 24],
    "image": lambda block: [_element(block)],
    "markdown": lambda block: markup(block["text"]),
    "rich_text": _rich,
}
