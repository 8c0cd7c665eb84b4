"""Accounts, clock, journal, seeding, and start and end of the bed."""

import time

import pytest
from awsclient import Bed, ControlError

from bedkit.checks import ends_with_parent, shown


def test_the_account_comes_from_the_access_key(bed, server):
    identity = bed.client("sts").get_caller_identity()
    assert identity["Account"] == bed.account
    assert bed.account in identity["Arn"]
    other = Bed(server, "888888888888")
    bed.seed()
    assert other.client("eks").list_clusters()["clusters"] == []
    assert bed.client("eks").list_clusters()["clusters"] == ["demo"]


def test_the_journal_says_who_asked_what(bed):
    bed.seed()
    bed.client("eks").describe_nodegroup(clusterName="demo", nodegroupName="web")
    entry = bed.journal()[-1]
    assert (entry["service"], entry["operation"], entry["status"]) == (
        "eks",
        "DescribeNodegroup",
        200,
    )
    assert entry["params"] == {"clusterName": "demo", "nodegroupName": "web"}
    assert (entry["account"], entry["access_key"]) == (bed.account, bed.access_key)
    bed.client("ec2").describe_images(Owners=["self"])
    assert bed.journal("DescribeImages")[-1]["params"]["Owners"] == ["self"]
    assert len(bed.control("DELETE", "journal")) == 2
    assert bed.journal() == []


def test_time_is_frozen_advanced_and_sped_up_per_account(bed, server):
    bed.control("POST", "clock", freeze=True)
    before = bed.control("GET", "clock")
    assert bed.control("GET", "clock")["now"] == before["now"]
    other = Bed(server, "777777777777").control("GET", "clock")["now"]
    bed.control("POST", "clock", advance=86400 * 30)
    after = bed.control("GET", "clock")["now"]
    assert after > other and after > before["now"]
    bed.control("POST", "clock", freeze=False, speed=1000)
    deadline = time.monotonic() + 10
    while bed.control("GET", "clock")["now"][:16] == after[:16]:
        assert time.monotonic() < deadline, "a clock of thousandfold speed did not advance by a minute"


def test_reset_forgets_an_account(bed):
    before = bed.seed()
    bed.fault("throttle")
    bed.control("POST", "reset")
    assert bed.state()["node_groups"] == [] and bed.state()["images"] == []
    assert bed.journal() == [] and bed.control("GET", "faults") == []
    assert bed.seed()["initial_image"] != before["initial_image"]


def test_bad_control_requests_say_why(bed):
    for method, path, asked, reason in [
        ("POST", "faults", {"kind": "earthquake"}, "unknown fault kind"),
        ("POST", "settings", {"image_pending_minutes": 1}, "unknown settings"),
        ("POST", "node-group", {"name": "nope", "status": "ACTIVE"}, "no node group 'nope'"),
        ("POST", "seed", {"account": "12"}, "not twelve digits"),
        ("POST", "sead", {}, "no POST /_bed/sead"),
    ]:
        with pytest.raises(ControlError, match=reason):
            bed.control(method, path, **asked)


def test_connections_are_kept_alive(bed):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", bed.info["port"])
    for _ in range(2):
        connection.request("GET", "/_bed/clock")
        socket = connection.sock
        connection.getresponse().read()
        assert connection.sock is socket is not None
    connection.close()


def test_show_prints_images_and_groups(bed):
    bed.seed()
    bed.image("mine", status="active")
    text = shown("aws", bed.info["port"], "--account", bed.account)
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert "CUSTOM" in rows["web"] and "AL2023_x86_64_STANDARD" in rows["legacy"]
    assert any("mine" in line and "active" in line for line in rows.values())


def test_the_self_test_names_what_is_missing(monkeypatch):
    from opsybed import install

    install.self_test()
    monkeypatch.setitem(install.RELIED_UPON, "moto.ec2.models", ["gone_with_the_wind"])
    with pytest.raises(RuntimeError, match="moto.ec2.models.gone_with_the_wind"):
        install.self_test()
    monkeypatch.undo()
    monkeypatch.setattr(install.BedEC2, "fly_to_the_moon", lambda self: None, raising=False)
    install.BedEC2.fly_to_the_moon.__module__ = "opsybed.ec2"
    with pytest.raises(RuntimeError, match="ec2:fly_to_the_moon"):
        install.self_test()


def test_it_ends_with_its_parent(tmp_path):
    ends_with_parent("aws", tmp_path / "bed.json")
