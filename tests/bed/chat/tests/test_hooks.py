"""Slack's incoming webhooks, Discord's webhooks, and generic receivers."""

import pytest

from bedkit.web import JSON

HOOK, HOOK_CHANNEL = "/services/T0/B0/demo", "C0DEMO0002"
WEBHOOK = "/api/webhooks/1000/demo-token"


@pytest.fixture
def unlimited(bed):
    bed.control("POST", "settings", hook_burst=1000, discord_requests=1000)
    return bed


def section(text: str) -> dict:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def test_an_incoming_webhook_answers_in_words(unlimited):
    bed = unlimited

    def answer(body, path: str = HOOK) -> tuple[int, str]:
        got = bed.call("POST", path, body)
        assert got.headers["Content-Type"].startswith("text/plain")
        return got.status, got.text

    assert answer({"text": "x <!here>", "blocks": [section("y")]}) == (200, "ok")
    assert answer(b"{") == (400, "invalid_payload")
    assert answer([]) == (400, "invalid_payload")
    assert answer({}) == (400, "no_text")
    assert answer({"text": "x", "blocks": [section("y" * 3001)]}) == (400, "invalid_blocks")
    assert answer({"text": "x"}, "/services/T0/B0/other") == (404, "no_service")
    for state, status in (("action_prohibited", 403), ("rollup_error", 500), ("no_service", 404)):
        bed.control("POST", "hooks", path=HOOK, state=state)
        assert answer({"text": "x"}) == (status, state)
    bed.control("POST", "hooks", path=HOOK, state="ok")
    bed.control("POST", "channels", id=HOOK_CHANNEL, archived=True)
    assert answer({"text": "x"}) == (410, "channel_is_archived")
    only = bed.messages(HOOK_CHANNEL)
    bed.control("POST", "channels", id=HOOK_CHANNEL, deleted=True)
    assert answer({"text": "x"}) == (404, "channel_not_found")
    assert [(m["author"], m["pings"]) for m in only] == [("incoming webhook", ["<!here>"])]


def test_an_incoming_webhook_takes_one_a_second(bed):
    bed.control("POST", "clock", freeze=True)
    assert bed.call("POST", HOOK, {"text": "x"}).status == 200
    limited = bed.call("POST", HOOK, {"text": "x"})
    assert (limited.status, limited.headers["Retry-After"]) == (429, "1")
    bed.control("POST", "clock", advance=1)
    assert bed.call("POST", HOOK, {"text": "x"}).status == 200


def test_a_discord_message_and_its_edits(bed):
    quiet = {"allowed_mentions": {"parse": []}}
    posted = bed.call("POST", WEBHOOK + "?wait=true", {"content": "one @everyone", **quiet})
    assert posted.status == 200 and int(posted.json["id"]) > 1 << 58
    silent = bed.call("POST", WEBHOOK, {"content": "two <@12> @here"})
    assert (silent.status, silent.text) == (204, "")
    path = f"{WEBHOOK}/messages/{posted.json['id']}"
    edited = bed.call("PATCH", path, {"embeds": [{"title": "t"}], "content": None, **quiet})
    assert edited.status == 200 and edited.json["edited_timestamp"]
    assert (edited.json["content"], edited.json["embeds"]) == ("", [{"title": "t"}])
    # omitted members are retained
    again = bed.call("PATCH", path, {"content": "three", **quiet}).json
    assert (again["content"], again["embeds"]) == ("three", [{"title": "t"}])
    first, second = bed.messages("1000")
    assert (first["edits"], first["pings"]) == (2, [])
    assert second["pings"] == ["<@12>", "@here"]


def test_who_may_write_to_discord(unlimited):
    bed = unlimited

    def refusal(method: str, path: str) -> tuple[int, int]:
        got = bed.call(method, path, {"content": "x"})
        return got.status, got.json["code"]

    assert refusal("POST", "/api/webhooks/1001/demo-token") == (404, 10015)
    assert refusal("POST", "/api/webhooks/1000/other") == (401, 50027)
    assert refusal("PATCH", f"{WEBHOOK}/messages/1") == (404, 10008)
    bed.control("POST", "webhooks", id="1001", token="t")
    assert bed.call("POST", "/api/v10/webhooks/1001/t", {"content": "x"}).status == 204
    bed.control("POST", "webhooks", id="1001", deleted=True)
    assert refusal("POST", "/api/webhooks/1001/t") == (404, 10015)


def embed(**more) -> dict:
    return {"embeds": [{"title": "x", **more}]}


def fields(number: int, name: int = 1, value: int = 1) -> dict:
    return embed(fields=[{"name": "n" * name, "value": "v" * value}] * number)


@pytest.mark.parametrize(
    ("good", "bad", "path"),
    [
        ({"content": "x" * 2000}, {"content": "x" * 2001}, ["content"]),
        ({"embeds": [{"title": "x"}] * 10}, {"embeds": [{"title": "x"}] * 11}, ["embeds"]),
        (embed(title="x" * 256), embed(title="x" * 257), ["embeds", "0", "title"]),
        (
            embed(description="x" * 4096),
            embed(description="x" * 4097),
            ["embeds", "0", "description"],
        ),
        (fields(25), fields(26), ["embeds", "0", "fields"]),
        (fields(1, name=256), fields(1, name=257), ["embeds", "0", "fields", "0", "name"]),
        (fields(1, value=1024), fields(1, value=1025), ["embeds", "0", "fields", "0", "value"]),
        (fields(1), fields(1, value=0), ["embeds", "0", "fields", "0", "value"]),
        (
            {"embeds": [{"description": "x" * 3000}] * 2},
            {"embeds": [{"description": "x" * 3000}] * 2 + [{"title": "x"}]},
            ["embeds"],
        ),
        (embed(color=0xFFFFFF), embed(color=0x1000000), ["embeds", "0", "color"]),
        (embed(url="https://x"), embed(url="javascript:x"), ["embeds", "0", "url"]),
    ],
)
def test_what_a_discord_message_may_hold(unlimited, good, bad, path):
    assert unlimited.call("POST", WEBHOOK, good).status == 204
    refused = unlimited.call("POST", WEBHOOK, bad)
    assert (refused.status, refused.json["code"]) == (400, 50035)
    node = refused.json["errors"]
    for part in path:
        node = node[part]
    assert node["_errors"][0]["message"]


def test_a_discord_message_is_json_with_something_in_it(unlimited):
    def code(body, kind: str = JSON) -> int:
        got = unlimited.call("POST", WEBHOOK, body, kind)
        assert got.status == 400
        return got.json["code"]

    assert code({}) == 50006
    assert code({"content": ""}) == 50006
    assert code({"content": "x"}, "text/plain") == 50006
    assert code(b"{") == 50109


def test_discord_takes_five_in_two_seconds(bed):
    bed.control("POST", "clock", freeze=True)
    left = [
        bed.call("POST", WEBHOOK, {"content": "x"}).headers["X-RateLimit-Remaining"]
        for _ in range(5)
    ]
    assert left == ["4", "3", "2", "1", "0"]
    bed.control("POST", "clock", advance=1.5)
    limited = bed.call("POST", WEBHOOK, {"content": "x"})
    assert (limited.status, limited.headers["Retry-After"]) == (429, "1")
    assert limited.json == {
        "message": "You are being rate limited.",
        "retry_after": 0.5,
        "global": False,
    }
    bed.control("POST", "clock", advance=0.5)
    assert bed.call("POST", WEBHOOK, {"content": "x"}).status == 204


def test_a_receiver_keeps_what_it_is_sent_and_answers_what_it_is_told(bed):
    body = b'{"title": "Built",  "text": "ami-1"}'
    assert bed.call("POST", "/hook/audit", body, X_Signature="sha256=1").status == 200
    bed.control("POST", "receivers", name="audit", status=503, body="later")
    answer = bed.call("POST", "/hook/audit", b"plain", "text/plain")
    assert (answer.status, answer.text) == (503, "later")
    first, second = bed.call("GET", "/_bed/received?name=audit").json
    assert (first["text"], first["headers"]["x-signature"]) == (body.decode(), "sha256=1")
    assert (second["text"], second["status"]) == ("plain", 503)
    assert bed.call("GET", "/hook/audit").status == 405
    shown = bed.show()
    assert "/hook/audit" in shown and "Built" in shown and "(responded with 503)" in shown


def test_other_paths_are_nowhere(bed):
    assert bed.call("POST", "/nothing", {}).status == 404
    assert bed.control("GET", "journal")[0]["error"] == "no such path"
