"""Eventual consistency: what a call does not see yet, by class of object and emulated time.

Each class has a horizon: the call in progress sees only writes before it.
Settings move the horizon a number of seconds back for every call of the account; a
`stale` fault moves it before the last write, or `seconds` back, for the calls it hits.
"""

from collections import defaultdict, deque

from moto.ec2.models.tags import TagBackend

from .world import world

CLASSES = ("tags", "images", "snapshots", "versions")
# Older tag writes are not tracked and are visible to every call
REMEMBERED_TAG_WRITES = 20_000
# Tags that are set on creation are visible with their resource; only these writes are delayed separately
TAGGING = ("CreateTags", "DeleteTags")


class Writes:
    """The times at which objects of one account were created and tagged."""

    def __init__(self) -> None:
        # (class, id) -> emulated timestamp; the id of a version is (template, number)
        self.made: dict[tuple, float] = {}
        # class -> timestamp of the last write
        self.last: dict[str, float] = {}
        # (timestamp, region, resource, key, previous value or None)
        self.tags: deque = deque(maxlen=REMEMBERED_TAG_WRITES)

    def note(self, kind: str, thing, now: float) -> None:
        self.made[(kind, thing)] = self.last[kind] = now


def _writes(account) -> Writes:
    if account.writes is None:
        account.writes = Writes()
    return account.writes


def made(kind: str, thing) -> None:
    """Record that the call in progress created this object."""
    account = world.account(world.call.account)
    _writes(account).note(kind, thing, account.clock.timestamp())


def horizon(kind: str) -> float | None:
    """Return the horizon of a class, or None if the call in progress sees everything."""
    if world.call is None:
        return None
    account, service = world.account(world.call.account), world.call.service
    settings, now = account.settings, account.clock.timestamp()
    seconds = getattr(settings, f"stale_{kind}_seconds")
    if service == "eks":
        seconds = max(seconds, settings.stale_eks_seconds)
    horizons = [now - seconds] if seconds > 0 else []
    fault = world.effect("stale")
    if fault and kind in fault.options.get("what", CLASSES):
        if "seconds" in fault.options:
            horizons.append(now - float(fault.options["seconds"]))
        else:
            last = _writes(account).last.get(kind)
            horizons += [last] if last is not None else []
    return min(horizons, default=None)


def visible(kind: str, thing) -> bool:
    """Whether the call in progress sees this object. Seeded and published objects are always visible."""
    limit = horizon(kind)
    if limit is None:
        return True
    when = _writes(world.account(world.call.account)).made.get((kind, thing))
    return when is None or when < limit


def patch() -> None:
    """Record tag writes with the values that they replace; reads undo those after the horizon."""
    create, delete, describe = (
        TagBackend.create_tags,
        TagBackend.delete_tags,
        TagBackend.describe_tags,
    )

    def noting(original):
        def write(self, resource_ids, tags):
            if world.call is None or world.call.operation not in TAGGING:
                return original(self, resource_ids, tags)
            before = [(r, k, self.tags[r].get(k)) for r in resource_ids for k in tags]
            answer = original(self, resource_ids, tags)
            account = world.account(self.account_id)
            now, writes = account.clock.timestamp(), _writes(account)
            writes.last["tags"] = now
            writes.tags.extend((now, self.region_name, *entry) for entry in before)
            return answer

        return write

    def describe_tags(self, filters=None):
        limit = horizon("tags") if _reading(self) else None
        if limit is None:
            return describe(self, filters)
        current = self.tags
        self.tags = _as_of(self, limit)
        try:
            return describe(self, filters)
        finally:
            self.tags = current

    TagBackend.create_tags, TagBackend.delete_tags = noting(create), noting(delete)
    TagBackend.describe_tags = describe_tags


def _reading(backend) -> bool:
    call = world.call
    return (
        call is not None
        and call.operation.startswith("Describe")
        and call.account == backend.account_id
    )


def _as_of(backend, limit: float) -> dict:
    view = defaultdict(dict, backend.tags)
    for when, region, resource, key, before in reversed(
        _writes(world.account(backend.account_id)).tags
    ):
        if when < limit:
            break
        if region != backend.region_name:
            continue
        view[resource] = {k: v for k, v in view[resource].items() if k != key}
        if before is not None:
            view[resource][key] = before
    return view
