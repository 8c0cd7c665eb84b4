"""Gives access to a bed as a client and through the control interface."""

import json
import urllib.error
import urllib.request

from bedkit.checks import shown

CHANNEL = "C0DEMO0001"
JSON = "application/json; charset=utf-8"


class Answer:
    def __init__(self, status: int, headers, body: bytes) -> None:
        self.status, self.headers, self.text = status, headers, body.decode()

    @property
    def json(self):
        return json.loads(self.text)


class Bed:
    def __init__(self, info: dict) -> None:
        self.info, self.url = info, info["url"]

    def call(self, method: str, path: str, body=None, kind: str = JSON, **headers) -> Answer:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            named["Content-Type"] = kind
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

    def slack(self, api_method: str, token: str = "xoxb-demo", **asked) -> dict:
        path = f"/api/{api_method}"
        answer = self.call("POST", path, asked, Authorization=f"Bearer {token}")
        assert answer.status in (200, 429), answer.text
        return answer.json

    def post(self, text: str = "hello", channel: str = CHANNEL, **asked) -> str:
        answer = self.slack("chat.postMessage", channel=channel, text=text, **asked)
        assert answer["ok"], answer
        return answer["ts"]

    def messages(self, place: str = CHANNEL) -> list[dict]:
        return self.call("GET", f"/_bed/transcript?place={place}").json[0]["messages"]

    def show(self) -> str:
        return shown("chat", self.info["port"])
