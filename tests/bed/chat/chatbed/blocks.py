"""Slack's rules for blocks: the block types, their members and the maximum lengths.

Lengths are those of the text as sent, that is, escaped. Errors have Slack's
wording and a JSON pointer to the location.
"""

MAX_BLOCKS = 50
MAX_TOTAL = 13_200
MAX_ID = 255
# block type -> allowed members in addition to type and block_id
MEMBERS = {
    "section": {"text", "fields", "accessory", "expand"},
    "header": {"text", "level"},
    "context": {"elements"},
    "actions": {"elements"},
    "divider": set(),
    "image": {"image_url", "alt_text", "title"},
    "markdown": {"text"},
    "rich_text": {"elements"},
}
BUTTON = {"type", "text", "action_id", "url", "value", "style", "confirm", "accessibility_label"}


class Check:
    """Collects the errors in the blocks of a message."""

    def __init__(self, root: str = "/blocks") -> None:
        self.root = root
        self.faults: list[str] = []
        self.total = 0

    def fault(self, what: str, at: str) -> None:
        self.faults.append(f"{what} [json-pointer:{self.root}{at}]")

    def blocks(self, blocks: list) -> None:
        if len(blocks) > MAX_BLOCKS:
            self.fault(f"no more than {MAX_BLOCKS} items allowed", "")
        seen: set[str] = set()
        for index, block in enumerate(blocks):
            at = f"/{index}"
            kind = block.get("type") if isinstance(block, dict) else None
            if not isinstance(kind, str) or kind not in MEMBERS:
                self.fault(f"unsupported type: {kind}", f"{at}/type")
                continue
            self._known(block, MEMBERS[kind] | {"type", "block_id"}, at)
            self._block_id(block, seen, at)
            getattr(self, f"_{kind}")(block, at)

    def _known(self, item: dict, members: set[str], at: str) -> None:
        for name in sorted(set(item) - members):
            self.fault(f"invalid additional property: {name}", at)

    def _block_id(self, block: dict, seen: set[str], at: str) -> None:
        if "block_id" not in block:
            return
        self._string(block["block_id"], MAX_ID, f"{at}/block_id")
        if block["block_id"] in seen:
            self.fault("`block_id` already exists", f"{at}/block_id")
        seen.add(str(block["block_id"]))

    def _string(self, value, most: int, at: str) -> None:
        if not isinstance(value, str):
            self.fault("must provide a string", at)
        elif not value:
            self.fault("must be more than 0 characters", at)
        elif len(value) > most:
            self.fault(f"must be less than {most + 1} characters", at)

    def _text(self, item, most: int, at: str, plain: bool = False) -> None:
        """Check a text object."""
        if not isinstance(item, dict):
            self.fault("must provide an object", at)
            return
        kind = item.get("type")
        if kind != "plain_text" and (plain or kind != "mrkdwn"):
            self.fault(f"unsupported type: {kind}", f"{at}/type")
        extra = {"plain_text": {"emoji"}, "mrkdwn": {"verbatim"}}.get(str(kind), set())
        self._known(item, {"type", "text"} | extra, at)
        self._string(item.get("text"), most, f"{at}/text")
        self._count(item.get("text"))

    def _count(self, text) -> None:
        self.total += len(text) if isinstance(text, str) else 0

    def _list(self, value, most: int, at: str) -> list:
        if not isinstance(value, list) or not value:
            self.fault("no fewer than 1 items allowed", at)
            return []
        if len(value) > most:
            self.fault(f"no more than {most} items allowed", at)
        return value

    def _section(self, block: dict, at: str) -> None:
        if "text" not in block and "fields" not in block:
            self.fault("missing required field: text", at)
        if "text" in block:
            self._text(block["text"], 3000, f"{at}/text")
        if "fields" in block:
            for index, item in enumerate(self._list(block["fields"], 10, f"{at}/fields")):
                self._text(item, 2000, f"{at}/fields/{index}")
        if "accessory" in block:
            self._element(block["accessory"], f"{at}/accessory")

    def _header(self, block: dict, at: str) -> None:
        self._text(block.get("text"), 150, f"{at}/text", plain=True)

    def _context(self, block: dict, at: str) -> None:
        for index, item in enumerate(self._list(block.get("elements"), 10, f"{at}/elements")):
            place = f"{at}/elements/{index}"
            if isinstance(item, dict) and item.get("type") == "image":
                self._image(item, place)
            else:
                self._text(item, 3000, place)

    def _actions(self, block: dict, at: str) -> None:
        actions: set[str] = set()
        for index, item in enumerate(self._list(block.get("elements"), 25, f"{at}/elements")):
            place = f"{at}/elements/{index}"
            self._element(item, place)
            action = item.get("action_id") if isinstance(item, dict) else None
            if action is not None and action in actions:
                self.fault("`action_id` already exists", f"{place}/action_id")
            actions.add(str(action))

    def _element(self, item, at: str) -> None:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "button":
            self._button(item, at)
        elif kind == "image":
            self._image(item, at)
        else:
            self.fault(f"unsupported type: {kind}", f"{at}/type")

    def _button(self, item: dict, at: str) -> None:
        self._known(item, BUTTON, at)
        self._text(item.get("text"), 75, f"{at}/text", plain=True)
        for name, most in (("action_id", MAX_ID), ("url", 3000), ("value", 2000)):
            if name in item:
                self._string(item[name], most, f"{at}/{name}")
        if not str(item.get("url", "https://")).startswith(("https://", "http://")):
            self.fault("invalid url", f"{at}/url")
        if item.get("style", "primary") not in ("primary", "danger"):
            self.fault("must be one of: primary, danger", f"{at}/style")

    def _divider(self, block: dict, at: str) -> None:
        """A divider has no members of its own."""

    def _image(self, item: dict, at: str) -> None:
        self._string(item.get("image_url"), 3000, f"{at}/image_url")
        self._string(item.get("alt_text"), 2000, f"{at}/alt_text")
        if "title" in item:
            self._text(item["title"], 2000, f"{at}/title", plain=True)

    def _markdown(self, block: dict, at: str) -> None:
        self._string(block.get("text"), 12_000, f"{at}/text")
        self._count(block.get("text"))

    def _rich_text(self, block: dict, at: str) -> None:
        """Check rich text; except for the total, its elements have no documented limits."""
        self._list(block.get("elements"), 100_000, f"{at}/elements")
        self._rich(block.get("elements"))

    def _rich(self, node) -> None:
        for item in node if isinstance(node, list) else ():
            if isinstance(item, dict):
                self._count(item.get("text"))
                self._rich(item.get("elements"))
