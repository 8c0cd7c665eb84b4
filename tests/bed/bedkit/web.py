"""A client of an emulated web service and of its control interface, for the tests of beds."""

import json
import urllib.error
import urllib.request

JSON = "application/json; charset=utf-8"


class Answer:
    def __init__(self, status: int, headers, body: bytes) -> None:
        self.status, self.headers, self.text = status, headers, body.decode()

    @property
    def json(self):
        return json.loads(self.text or "null")


class Client:
    def __init__(self, info: dict) -> None:
        self.info, self.url = info, info["url"]

    def call(self, method: str, path: str, body=None, headers: dict | None = None) -> Answer:
        """Send a request, with bytes as they are and anything else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        named = {"User-Agent": "test"} | ({} if data is None else {"Content-Type": JSON}) | (headers or {})
        request = urllib.request.Request(self.url + path, data, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.headers, error.read())

    def control(self, method: str, path: str, /, **asked):
        answer = self.call(method, f"/_bed/{path}", asked if method != "GET" else None)
        assert answer.status == 200, answer.text
        return answer.json
