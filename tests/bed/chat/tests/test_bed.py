"""Faults, unavailability, journal, clock and the printed transcript."""

import http.client
import time
import urllib.error

import pytest
from chatclient import CHANNEL

from bedkit.checks import ends_with_parent

GONE = (ConnectionResetError, urllib.error.URLError, http.client.RemoteDisconnected)


def test_faults_in_place_of_an_answer(bed):
    to, auth = "/api/chat.postMessage", {"Authorization": "Bearer xoxb-demo"}
    asked = {"channel": CHANNEL, "text": "x"}
    fault = {"kind": "status", "place": "postMessage", "count": 1, "skip": 1}
    fault |= {"status": 429, "headers": {"Retry-After": 7}, "body": {"ok": False}}
    bed.control("POST", "faults", **fault)
    bed.post()
    answer = bed.call("POST", to, asked, **auth)
    assert (answer.status, answer.headers["Retry-After"], answer.json) == (429, "7", {"ok": False})
    bed.control("POST", "faults", kind="error", error="fatal_error", containing='"x"', count=1)
    bed.post("y")
    assert bed.slack("chat.postMessage", **asked) == {"ok": False, "error": "fatal_error"}
    bed.control("POST", "faults", kind="reset", count=1)
    with pytest.raises(GONE):
        bed.post()
    assert len(bed.messages()) == 2
    bed.control("POST", "faults", kind="lost", count=1)
    with pytest.raises(GONE):
        bed.post("lost")
    assert bed.messages()[-1]["text"] == "lost"
    seen = [(e["fault"], e["status"], e["executed"]) for e in bed.control("GET", "journal")]
    assert seen == [
        (None, 200, True),
        ("status", 429, False),
        (None, 200, True),
        ("error", 200, False),
        ("reset", None, False),
        ("lost", None, True),
    ]


@pytest.mark.parametrize("kind", ["slow", "slow_after"])
def test_slow_answers(bed, kind):
    bed.control("POST", "faults", kind=kind, seconds=0.3, count=1)
    began = time.monotonic()
    bed.post()
    assert time.monotonic() - began >= 0.3


def test_faults_are_listed_and_removed(bed):
    first = bed.control("POST", "faults", kind="reset", place="/api/")
    bed.control("POST", "faults", kind="reset")
    assert bed.control("DELETE", "faults", id=first["id"]) == {"cleared": 1}
    assert [f["place"] for f in bed.control("GET", "faults")] == [""]
    assert bed.control("DELETE", "faults") == {"cleared": 1}
    assert bed.call("POST", "/_bed/faults", {"kind": "odd"}).status == 400


def test_down_until_up(bed):
    bed.control("POST", "down")
    for _ in range(2):
        with pytest.raises(GONE):
            bed.post()
    assert bed.control("GET", "")["down"]
    bed.control("POST", "up")
    bed.post("back")
    assert [m["text"] for m in bed.messages()] == ["back"]


def test_the_journal_holds_no_credentials(bed):
    bed.post("x")
    bed.post("y")
    bed.slack("auth.test", "xoxb-other")
    text = bed.call("GET", "/_bed/journal").text
    assert "xoxb" not in text
    first, second, other = bed.control("DELETE", "journal")
    assert first["authorization"] == second["authorization"] != other["authorization"]
    assert (first["body"]["text"], other["error"]) == ("x", "invalid_auth")
    assert bed.control("GET", "journal") == []


def test_the_clock_stamps_messages(bed):
    bed.control("POST", "clock", freeze=True)
    first, second = bed.post(), bed.post()
    assert first < second
    bed.control("POST", "clock", advance=3600)
    assert round(float(bed.post()) - float(first)) == 3600


def test_the_transcript_for_people(bed):
    bed.control("POST", "clock", freeze=True)
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "Image built"}},
        {
            "type": "section",
            "text": {"type": "mrkdwn", "text": ":x: a &lt;b&gt;\n```exit 1\n&amp; more```"},
            "fields": [
                {"type": "mrkdwn", "text": "*Image*\nami-1"},
                {"type": "mrkdwn", "text": "*By*\nme"},
            ],
        },
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "<https://x/1|commit>"}]},
    ]
    ts = bed.post("fallback", blocks=blocks)
    bed.slack("chat.update", channel=CHANNEL, ts=ts, text="fallback")
    bed.post("done", thread_ts=ts, reply_broadcast=True)
    shown = bed.show()
    clock = bed.messages()[0]["time"][11:19]
    assert shown.splitlines()[0].startswith("#machine-images ──")
    assert shown.splitlines()[0].endswith(" 1 message, 1 reply ──")
    pad = " " * 12
    assert shown.splitlines()[2:] == [
        f"  {clock}  *Image built*",
        pad + "❌ a <b>",
        pad + "│ exit 1",
        pad + "│ & more",
        pad + "*Image*  ami-1",
        pad + "*By*     me",
        pad + "commit ‹https://x/1›",
        pad + "(edited once)",
        "  ┃",
        f"  ┃ {clock}  done",
        "  ┃ " + " " * 10 + "(also sent to the channel)",
    ]
    assert "fallback" not in shown


def test_it_ends_with_its_parent(tmp_path):
    ends_with_parent("chat", tmp_path / "chat.json")
