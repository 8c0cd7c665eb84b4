"""Refusals as exceptions."""

from bedkit.reply import Reply


class Refused(Exception):
    """A request is refused with this response."""

    def __init__(self, status: int, document, **headers: str) -> None:
        super().__init__(str(document))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.reply = Reply.json(document, status, named, error=document)
