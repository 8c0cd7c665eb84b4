"""Calls of the control interface of a bed."""

import json
import urllib.request

# Proxies of the environment do not apply to loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(url: str, method: str, path: str, body: dict | None = None):
    """Call the endpoint `path` below /_bed/, and return the document of the response. An error is an HTTPError."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{url}/_bed/{path}", data=data, method=method)
    request.add_header("content-type", "application/json")
    with _OPENER.open(request) as answer:
        return json.loads(answer.read() or b"null")
