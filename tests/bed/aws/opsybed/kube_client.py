"""Requests to a real Kubernetes API server: JSON over HTTPS with a token, which is in no message and no log."""

import json
import ssl

import urllib3

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
# seconds; a paused API server keeps connections open without a response
CONNECT, READ = 5, 20
# connections that stay open: for watches, heartbeats, and requests at the same time
CONNECTIONS = 16


class Refused(Exception):
    """The response of the API server is an error."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Unreachable(Exception):
    """There is no response."""


class Kube:
    def __init__(self, server: str, ca: str, token: str) -> None:
        """`ca` is the certificate authority: a file, or its content."""
        trust = ssl.create_default_context(**({"cadata": ca} if "BEGIN CERTIFICATE" in ca else {"cafile": ca}))
        self.server = server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._pool = urllib3.PoolManager(ssl_context=trust, maxsize=CONNECTIONS, retries=False)

    def call(self, method: str, path: str, body=None, kind: str = "application/json") -> dict:
        data = json.dumps(body).encode() if body is not None else None
        headers = {**self._headers, "Content-Type": kind} if data else self._headers
        try:
            answer = self._pool.request(
                method,
                self.server + path,
                body=data,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT, read=READ),
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{method} {path}: {type(error).__name__}") from None
        document = _parsed(answer.data)
        if answer.status >= 400:
            raise Refused(answer.status, document.get("reason", ""), document.get("message", ""))
        return document

    def get(self, path: str) -> dict:
        return self.call("GET", path)

    def create(self, path: str, body: dict) -> dict:
        return self.call("POST", path, body)

    def patch(self, path: str, body: dict, kind: str = MERGE) -> dict:
        return self.call("PATCH", path, body, kind)

    def delete(self, path: str, grace: int | None = None) -> None:
        """Delete an object; one that does not exist is already deleted."""
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        try:
            self.call("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", **options})
        except Refused as error:
            if error.status != 404:
                raise

    def stream(self, path: str) -> urllib3.BaseHTTPResponse:
        """Return an open response, whose body the caller reads and closes."""
        try:
            answer = self._pool.request(
                "GET",
                self.server + path,
                headers=self._headers,
                preload_content=False,
                timeout=urllib3.Timeout(connect=CONNECT, read=None),
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"GET {path}: {type(error).__name__}") from None
        if answer.status >= 400:
            document = _parsed(answer.read())
            raise Refused(answer.status, document.get("reason", ""), document.get("message", ""))
        return answer

    def close(self) -> None:
        self._pool.clear()


def _parsed(data: bytes) -> dict:
    try:
        return json.loads(data or b"{}")
    except ValueError:
        return {"message": data[:200].decode("utf-8", "replace")}
