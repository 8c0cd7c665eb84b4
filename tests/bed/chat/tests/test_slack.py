"""The Web API: permissions and content of messages, with Slack's errors."""

import pytest
from chatclient import CHANNEL


def refused(bed, code: str, method: str = "chat.postMessage", token: str = "xoxb-demo", **asked):
    answer = bed.slack(method, token, **asked)
    assert (answer["ok"], answer.get("error")) == (False, code), answer
    return answer


def section(text: str) -> dict:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def test_a_message_its_edits_and_its_replies(bed):
    answer = bed.slack("chat.postMessage", channel="#machine-images", text="one")
    assert answer["channel"] == CHANNEL and answer["message"]["text"] == "one"
    ts = answer["ts"]
    seconds, _, rest = ts.partition(".")
    assert len(seconds) == 10 and len(rest) == 6
    reply = bed.post("detail", thread_ts=ts)
    bed.post("loud", thread_ts=ts, reply_broadcast=True)
    bed.post("two")
    assert reply > ts
    for text in ("one, half", "one, done"):
        assert bed.slack("chat.update", channel=CHANNEL, ts=ts, text=text)["ok"]
    first, second = bed.messages()
    assert (first["text"], first["edits"], second["text"]) == ("one, done", 2, "two")
    assert [v["text"] for v in first["versions"]] == ["one", "one, half", "one, done"]
    assert [(r["text"], r["broadcast"]) for r in first["replies"]] == [
        ("detail", False),
        ("loud", True),
    ]


def test_who_may_write(bed):
    anonymous = bed.call("POST", "/api/chat.postMessage", {"channel": CHANNEL, "text": "x"})
    assert (anonymous.status, anonymous.json) == (200, {"ok": False, "error": "not_authed"})
    refused(bed, "invalid_auth", token="xoxb-other", channel=CHANNEL, text="x")
    for state in ("token_revoked", "account_inactive"):
        bed.control("POST", "tokens", token="xoxb-demo", state=state)
        refused(bed, state, channel=CHANNEL, text="x")
    bed.control("POST", "tokens", token="xoxb-new", scopes=[])
    assert refused(bed, "missing_scope", token="xoxb-new", channel=CHANNEL, text="x")["needed"]
    assert bed.messages() == []


def test_a_new_token_of_the_same_bot_edits_and_another_bot_does_not(bed):
    ts = bed.post("one")
    bed.control("POST", "tokens", token="xoxb-new")
    bed.control("POST", "tokens", token="xoxb-other", bot="B0OTHER")
    assert bed.slack("chat.update", "xoxb-new", channel=CHANNEL, ts=ts, text="two")["ok"]
    asked = {"channel": CHANNEL, "ts": ts, "text": "three"}
    refused(bed, "cant_update_message", "chat.update", "xoxb-other", **asked)
    assert bed.slack("auth.test", "xoxb-other")["bot_id"] == "B0OTHER"


def test_where_one_may_write(bed):
    refused(bed, "channel_not_found", channel="C0NOWHERE", text="x")
    bed.control("POST", "channels", id=CHANNEL, archived=True)
    refused(bed, "is_archived", channel=CHANNEL, text="x")
    bed.control("POST", "channels", id=CHANNEL, archived=False, member=False)
    refused(bed, "not_in_channel", channel=CHANNEL, text="x")
    bed.control("POST", "tokens", token="xoxb-demo", scopes=["chat:write", "chat:write.public"])
    bed.post("x")
    # posting accepts the name of a channel, editing only its ID
    ts = bed.post("y", channel="machine-images")
    refused(bed, "channel_not_found", "chat.update", channel="machine-images", ts=ts, text="z")


def test_how_requests_are_written(bed):
    asked = {"channel": CHANNEL, "text": "x"}
    to, auth = "/api/chat.postMessage", {"Authorization": "Bearer xoxb-demo"}
    form = bed.call("POST", to, asked, "application/x-www-form-urlencoded", **auth)
    assert form.json["error"] == "invalid_post_type"
    latin = bed.call("POST", to, asked, "application/json; charset=latin-1", **auth)
    assert latin.json["error"] == "invalid_charset"
    bare = bed.call("POST", to, asked, "application/json", **auth).json
    assert bare["ok"] and bare["warning"] == "missing_charset"
    assert bed.call("POST", to, b"{", **auth).json["error"] == "invalid_json"
    assert bed.call("POST", to, b"[]", **auth).json["error"] == "json_not_object"
    refused(bed, "unknown_method", "chat.shout", **asked)


def test_there_must_be_something_and_not_too_much(bed):
    refused(bed, "no_text", channel=CHANNEL)
    refused(bed, "no_text", channel=CHANNEL, text=" ", blocks=[])
    bed.post("x" * 40_000)
    refused(bed, "msg_too_long", channel=CHANNEL, text="x" * 40_001)
    ts = bed.post("x" * 4_000)
    asked = {"channel": CHANNEL, "ts": ts}
    refused(bed, "msg_too_long", "chat.update", **asked, text="x" * 4_001)
    refused(bed, "no_text", "chat.update", **asked)
    blocks = [section("x" * 3000) for _ in range(4)]
    bed.post(blocks=[*blocks, section("x" * 1200)])
    blocks.append(section("x" * 1201))
    refused(bed, "msg_blocks_too_long", channel=CHANNEL, text="x", blocks=blocks)


def plain(length: int) -> dict:
    return {"type": "plain_text", "text": "x" * length}


def button(**more) -> dict:
    return {"type": "actions", "elements": [{"type": "button", "text": plain(75), **more}]}


@pytest.mark.parametrize(
    ("good", "bad", "word"),
    [
        (section("x"), section(""), "more than 0 characters"),
        (section("x" * 3000), section("x" * 3001), "less than 3001"),
        (section("&lt;" * 750), section("&lt;" * 751), "less than 3001"),
        (
            {"type": "section", "fields": [plain(2000)]},
            {"type": "section", "fields": [plain(2001)]},
            "/blocks/0/fields/0/text",
        ),
        (
            {"type": "section", "fields": [plain(1)] * 10},
            {"type": "section", "fields": [plain(1)] * 11},
            "no more than 10",
        ),
        (
            {"type": "header", "text": plain(150)},
            {"type": "header", "text": plain(151)},
            "less than 151",
        ),
        (
            {"type": "header", "text": plain(1)},
            {"type": "header", "text": {"type": "mrkdwn", "text": "x"}},
            "unsupported type: mrkdwn",
        ),
        (
            {"type": "context", "elements": [plain(1)] * 10},
            {"type": "context", "elements": [plain(1)] * 11},
            "no more than 10",
        ),
        (button(url="https://x/" + "x" * 2990), button(url="https://x/" + "x" * 2991), "url"),
        (button(url="http://x"), button(url="javascript:x"), "invalid url"),
        (button(value="x" * 2000), button(value="x" * 2001), "value"),
        (button(action_id="x" * 255), button(action_id="x" * 256), "action_id"),
        (button(), button(text=plain(76)), "less than 76"),
        (
            {"type": "actions", "elements": button()["elements"] * 25},
            {"type": "actions", "elements": button()["elements"] * 26},
            "no more than 25",
        ),
        ({"type": "divider"}, {"type": "divider", "text": plain(1)}, "additional property: text"),
        ({"type": "divider"}, {"type": "rule"}, "unsupported type: rule"),
        (
            {"type": "divider", "block_id": "x" * 255},
            {"type": "divider", "block_id": "x" * 256},
            "block_id",
        ),
    ],
)
def test_what_a_block_may_hold(bed, good, bad, word):
    bed.post(blocks=[good])
    answer = refused(bed, "invalid_blocks", channel=CHANNEL, text="x", blocks=[bad])
    assert any(word in message for message in answer["response_metadata"]["messages"]), answer
    assert "json-pointer:/blocks" in answer["response_metadata"]["messages"][0]


def test_how_many_blocks(bed):
    bed.post(blocks=[{"type": "divider"}] * 50)
    refused(bed, "invalid_blocks", channel=CHANNEL, text="x", blocks=[{"type": "divider"}] * 51)
    refused(bed, "invalid_blocks_format", channel=CHANNEL, text="x", blocks={"type": "divider"})


def test_threads_hang_on_top_level_messages_of_the_channel(bed):
    ts = bed.post("one")
    reply = bed.post("two", thread_ts=ts)
    asked = {"channel": CHANNEL, "text": "x"}
    refused(bed, "thread_not_found", **asked, thread_ts=reply)
    refused(bed, "thread_not_found", **asked, thread_ts=float(ts))
    refused(bed, "thread_not_found", **asked, thread_ts="1700000000.000100")
    refused(bed, "thread_not_found", channel="C0DEMO0002", text="x", thread_ts=ts)
    bed.control("DELETE", "message", place=CHANNEL, id=ts)
    refused(bed, "thread_not_found", **asked, thread_ts=ts)
    refused(bed, "message_not_found", "chat.update", **asked, ts=ts)


def test_an_edit_retains_what_it_leaves_out(bed):
    ts = bed.post("one", blocks=[section("shown")])
    bed.slack("chat.update", channel=CHANNEL, ts=ts, text="two")
    assert bed.messages()[0]["blocks"] == [section("shown")]
    bed.slack("chat.update", channel=CHANNEL, ts=ts, text="three", blocks=[])
    assert bed.messages()[0]["blocks"] == []
    bed.control("POST", "settings", slack_edit_window_seconds=60)
    bed.control("POST", "clock", advance=61)
    refused(bed, "edit_window_closed", "chat.update", channel=CHANNEL, ts=ts, text="four")


def test_pings_are_what_is_not_escaped(bed):
    bed.post("a <!channel> b <@U123> c <#C1|x> d <!here|here>", blocks=[section("`<!everyone>`")])
    header = {"type": "header", "text": {"type": "plain_text", "text": "<!channel>"}}
    bed.post("a &lt;!channel&gt; @channel <https://x|y>", blocks=[header])
    bed.post("@here", link_names=True)
    ts = bed.post("fine")
    bed.slack("chat.update", channel=CHANNEL, ts=ts, text="@channel", parse="none")
    bed.slack("chat.update", channel=CHANNEL, ts=ts, text="@channel")
    assert [m["pings"] for m in bed.messages()] == [
        ["<!channel>", "<!everyone>", "<!here|here>", "<#C1|x>", "<@U123>"],
        [],
        ["@here"],
        ["@channel"],
    ]


def test_posting_is_limited_by_channel(bed):
    bed.control("POST", "settings", slack_post_burst=3)
    bed.control("POST", "clock", freeze=True)
    for _ in range(3):
        bed.post()
    to, auth = "/api/chat.postMessage", {"Authorization": "Bearer xoxb-demo"}
    limited = bed.call("POST", to, {"channel": CHANNEL, "text": "x"}, **auth)
    assert (limited.status, limited.headers["Retry-After"]) == (429, "1")
    assert limited.json == {"ok": False, "error": "ratelimited"}
    bed.post(channel="C0DEMO0002")
    bed.control("POST", "clock", advance=1)
    bed.post()
    refused(bed, "ratelimited", channel=CHANNEL, text="x")
    bed.control("POST", "clock", advance=60)
    for _ in range(3):
        bed.post()


def test_editing_is_limited_by_token(bed):
    ts = bed.post()
    bed.control("POST", "clock", freeze=True)
    for number in range(50):
        bed.slack("chat.update", channel=CHANNEL, ts=ts, text=str(number))
    auth = {"Authorization": "Bearer xoxb-demo"}
    asked = {"channel": CHANNEL, "ts": ts, "text": "x"}
    limited = bed.call("POST", "/api/chat.update", asked, **auth)
    assert (limited.status, limited.headers["Retry-After"]) == (429, "60")
    bed.control("POST", "clock", advance=60)
    assert bed.slack("chat.update", **asked)["ok"]
