"""Gives access to a bed as a client and through the control interface."""

from bedkit import web
from bedkit.checks import shown

CHANNEL = "C0DEMO0001"


class Bed(web.Client):
    def call(self, method: str, path: str, body=None, kind: str = web.JSON, **headers) -> web.Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return super().call(method, path, body, named if body is None else {"Content-Type": kind} | named)

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
