"""The journal of all calls that the bed received, in order, for assertions of tests."""

import json

from bedkit.journal import NumberedJournal

# Enough for hours of one agent.
LIMIT = 100_000


class Journal(NumberedJournal):
    def __init__(self) -> None:
        super().__init__(LIMIT)

    def read(self, account: str | None = None) -> list[dict]:
        return _copy(entry for entry in super().read() if account in (None, entry["account"]))

    def clear(self, account: str | None = None) -> list[dict]:
        return _copy(self.remove(lambda entry: account in (None, entry["account"])))


def _copy(entries) -> list[dict]:
    return json.loads(json.dumps(list(entries), default=str))
