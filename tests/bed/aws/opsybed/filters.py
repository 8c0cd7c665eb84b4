"""EC2 filters: values are ORed, filters are ANDed; case-sensitive, with `*` and `?` wildcards."""

import re
from collections.abc import Callable

from .wire import AwsError


def pattern(text: str) -> re.Pattern:
    out, escaped = [], False
    for char in text:
        if escaped:
            out.append(re.escape(char))
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "*":
            out.append(".*")
        elif char == "?":
            out.append(".")
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def select(items: list, wanted: list[dict] | None, value_of: Callable, operation: str) -> list:
    """`value_of(item, name)` returns a string, a list of strings or None, or raises KeyError for an unknown name."""
    for one in wanted or []:
        name, patterns = one.get("Name"), [pattern(str(v)) for v in one.get("Values") or []]
        if not name or not patterns:
            raise AwsError("InvalidParameterValue", f"The filter '{name}' has no values")
        try:
            items = [i for i in items if _matches(value_of(i, name), patterns)]
        except KeyError:
            raise AwsError(
                "UnsupportedOperation",
                f"The test bed does not emulate the filter '{name}' of {operation}.",
            ) from None
    return items


def _matches(value, patterns: list[re.Pattern]) -> bool:
    values = value if isinstance(value, (list, tuple, set)) else [value]
    texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values if v is not None]
    return any(p.fullmatch(text) for p in patterns for text in texts)


def tag_value(tags: dict[str, str], name: str):
    """Return the value for `tag:<key>` or `tag-key`; raise KeyError for any other name."""
    if name.startswith("tag:"):
        return tags.get(name[4:])
    if name == "tag-key":
        return list(tags)
    raise KeyError(name)


def tags_of(resource) -> dict[str, str]:
    return {t["key"]: t["value"] for t in resource.get_tags()}
