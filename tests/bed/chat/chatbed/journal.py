"""What the journal contains of a request."""

import hashlib
import json

from bedkit.server import Request


def digest(authorization: str | None) -> str | None:
    """Return a digest that distinguishes credentials without storing them; for `Bearer TOKEN`, that of the token."""
    if not authorization:
        return None
    secret = authorization.partition(" ")[2] or authorization
    return hashlib.sha256(secret.encode()).hexdigest()[:12]


def body_of(request: Request):
    """Return the body as parsed JSON, or as text if it is not JSON."""
    try:
        return json.loads(request.body) if request.body else None
    except ValueError:
        return request.text
