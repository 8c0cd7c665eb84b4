"""Faults and refusals in the format of each protocol."""

import socket
import time
import urllib.error
import urllib.request
from threading import Thread

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError
from botocore.exceptions import ConnectionError as BotoConnectionError
from helpers import refused

CALLS = {
    "ec2": lambda c: c.describe_images(Owners=["self"]),
    "eks": lambda c: c.list_clusters(),
    "sts": lambda c: c.get_caller_identity(),
    "ssm": lambda c: c.describe_parameters(),
    "autoscaling": lambda c: c.describe_auto_scaling_groups(),
    "sns": lambda c: c.list_topics(),
    "sesv2": lambda c: c.create_email_identity(EmailIdentity="example.com"),
}
THROTTLES = {
    "ec2": ("RequestLimitExceeded", "Request limit exceeded.", 503),
    "eks": ("ThrottlingException", "Rate exceeded", 429),
    "sts": ("Throttling", "Rate exceeded", 400),
    "ssm": ("ThrottlingException", "Rate exceeded", 400),
    "autoscaling": ("Throttling", "Rate exceeded", 400),
    "sns": ("Throttling", "Rate exceeded", 400),
    "sesv2": ("TooManyRequestsException", "Maximum sending rate exceeded.", 429),
}
DENIALS = {
    "ec2": ("UnauthorizedOperation", 403),
    "eks": ("AccessDeniedException", 403),
    "sts": ("AccessDenied", 403),
    "ssm": ("AccessDeniedException", 400),
    "autoscaling": ("AccessDenied", 403),
    "sns": ("AuthorizationError", 403),
    "sesv2": ("AccessDeniedException", 403),
}
ACTIONS = {"sns": "SNS", "sesv2": "ses"}
EXPIRIES = {
    "ec2": ("RequestExpired", 400),
    "eks": ("ExpiredTokenException", 403),
    "sts": ("ExpiredToken", 403),
    "ssm": ("ExpiredTokenException", 400),
    "autoscaling": ("ExpiredToken", 403),
    "sns": ("ExpiredToken", 403),
    "sesv2": ("ExpiredTokenException", 403),
}


@pytest.mark.parametrize("service", CALLS)
def test_throttles_denials_and_expiry_per_protocol(bed, service):
    client = bed.client(service)
    code, text, status = THROTTLES[service]
    bed.fault("throttle", service=service, count=1)
    with refused(code, text, status):
        CALLS[service](client)
    bed.fault("deny", service=service, count=1)
    with refused(DENIALS[service][0], f"{ACTIONS.get(service, service)}:", DENIALS[service][1]):
        CALLS[service](client)
    bed.fault("expired", service=service, count=1)
    with refused(EXPIRIES[service][0], "expired", EXPIRIES[service][1]):
        CALLS[service](client)
    bed.fault("error", service=service, code="Odd", message="strange <&>", status=400, count=1)
    with refused("Odd", "strange <&>", 400):
        CALLS[service](client)
    CALLS[service](client)


@pytest.mark.parametrize("service", CALLS)
def test_an_html_page_instead_of_an_answer(bed, service):
    bed.fault("raw", service=service, count=1)
    with pytest.raises(ClientError) as caught:
        CALLS[service](bed.client(service))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502


@pytest.mark.parametrize("service", CALLS)
def test_clients_ride_over_a_server_error(bed, service):
    bed.fault("error", service=service, count=1)
    CALLS[service](bed.client(service, attempts=3))
    statuses = [e["status"] for e in bed.journal()]
    assert statuses == [500, 200]


@pytest.mark.parametrize("service", CALLS)
def test_a_connection_reset_before_execution(bed, service):
    bed.fault("reset", service=service, count=1)
    with pytest.raises((ConnectionClosedError, EndpointConnectionError, BotoConnectionError)):
        CALLS[service](bed.client(service))
    entry = bed.journal()[-1]
    assert (entry["fault"], entry["status"], entry["executed"]) == ("reset", None, False)


def test_a_lost_answer_was_executed_and_the_retry_finds_it(bed):
    template = bed.seed()["node_groups"]["web"]["launch_template"]["id"]
    bed.fault("lost", operation="CreateLaunchTemplateVersion", count=1)
    bed.fault("lost", operation="UpdateNodegroupVersion", count=1)
    made = bed.client("ec2", attempts=2).create_launch_template_version(
        LaunchTemplateId=template,
        SourceVersion="1",
        ClientToken="t" * 64,
        LaunchTemplateData={"KeyName": "k"},
    )["LaunchTemplateVersion"]
    assert made["VersionNumber"] == 2
    eks = bed.client("eks", attempts=2)
    eks.update_nodegroup_version(
        clusterName="demo",
        nodegroupName="web",
        launchTemplate={"id": template, "version": "1"},
        clientRequestToken="u" * 64,
    )
    assert len(eks.list_updates(name="demo", nodegroupName="web")["updateIds"]) == 1
    assert [e["executed"] for e in bed.journal("CreateLaunchTemplateVersion")] == [True, True]


def test_slow_delays_before_and_slow_after_delays_after_execution(bed):
    bed.fault("slow", operation="DescribeImages", seconds=0.3, count=1)
    began = time.monotonic()
    CALLS["ec2"](bed.client("ec2"))
    assert time.monotonic() - began >= 0.3
    bed.fault("slow_after", operation="CreateKeyPair", seconds=2, count=1)
    thread = Thread(target=lambda: bed.client("ec2").create_key_pair(KeyName="k"))
    thread.start()
    deadline = time.monotonic() + 1.8
    while not bed.state()["key_pairs"]:
        assert time.monotonic() < deadline, "the call had no effect before its response"
    assert thread.is_alive()
    thread.join()


def test_faults_choose_their_calls(bed):
    seeded = bed.seed()
    eks = bed.client("eks")
    bed.fault(
        "throttle",
        operation="DescribeNodegroup",
        params={"nodegroupName": "^web$"},
        skip=1,
        count=1,
    )

    def ask(name: str) -> str:
        try:
            eks.describe_nodegroup(clusterName="demo", nodegroupName=name)
            return "ok"
        except ClientError as error:
            return error.response["Error"]["Code"]

    assert [ask(n) for n in ("batch", "web", "batch", "web", "web")] == [
        "ok",
        "ok",
        "ok",
        "ThrottlingException",
        "ok",
    ]
    assert seeded["cluster"] == "demo"
    fault = bed.fault("throttle", service="eks")
    assert ask("web") == ask("web") == "ThrottlingException"
    bed.control("DELETE", "faults", id=fault["id"])
    assert ask("web") == "ok"


def test_faults_of_one_account_leave_others_alone(bed, server):
    from awsclient import Bed

    other = Bed(server, "999999999999")
    bed.fault("throttle")
    CALLS["sts"](other.client("sts"))
    with refused("Throttling"):
        CALLS["sts"](bed.client("sts"))
    assert bed.control("GET", "faults")[0]["hits"] == 1
    assert other.control("GET", "faults") == []


def test_an_image_can_stay_pending(bed):
    bed.fault("image-pending", seconds=100, count=1)
    image = bed.image("slowly")
    ec2 = bed.client("ec2")
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "pending"
    bed.advance(100)
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available"


def test_what_is_not_emulated_is_loud_and_not_retried(bed):
    for service, call in {
        "ec2": lambda c: c.describe_image_references(
            ImageIds=["ami-1"], IncludeAllResourceTypes=True
        ),
        "eks": lambda c: c.describe_addon_versions(),
        "autoscaling": lambda c: c.describe_traffic_sources(AutoScalingGroupName="x"),
        "ssm": lambda c: c.describe_instance_information(),
        "sns": lambda c: c.list_subscriptions(),
        "sesv2": lambda c: c.get_account(),
        "ses": lambda c: c.list_identities(),
        "iam": lambda c: c.list_users(),
        "secretsmanager": lambda c: c.list_secrets(),
    }.items():
        with refused("UnsupportedOperation", "The test bed does not emulate", 400):
            call(bed.client(service, attempts=4))
    assert len(bed.journal()) == 9


def test_a_reset_is_a_reset_not_an_end(bed):
    bed.fault("reset", service="ec2", count=1)
    scope = f"Credential={bed.access_key}/20260101/us-east-1/ec2/aws4_request"
    lines = [
        "GET /?Action=DescribeRegions&Version=2016-11-15 HTTP/1.1",
        "Host: bed",
        f"Authorization: AWS4-HMAC-SHA256 {scope}",
    ]
    with socket.create_connection(("127.0.0.1", bed.info["port"]), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def raw(bed, body: str) -> tuple[int, str]:
    """Send an EC2 request with a fake signature that no SDK would send."""
    scope = f"AWS4-HMAC-SHA256 Credential={bed.access_key}/20260101/us-east-1/ec2/aws4_request"
    request = urllib.request.Request(
        bed.endpoint,
        data=body.encode(),
        headers={
            "Authorization": scope,
            "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        },
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("Action=CreateImage&Version=2016-11-15&Name=abc", "MissingParameter"),
        ("Action=DescribeImages&Version=2016-11-15&Owners.1=self&Nonsense=1", "UnknownParameter"),
        ("Action=DescribeImages&Version=2016-11-15&MaxResults=abc", "InvalidParameterValue"),
        ("Action=FlyToTheMoon&Version=2016-11-15", "UnsupportedOperation"),
    ],
)
def test_requests_that_make_no_sense_get_an_ec2_error(bed, body, code):
    status, answer = raw(bed, body)
    assert status == 400
    assert f"<Code>{code}</Code>" in answer
    assert bed.journal()[-1]["operation"] == body.split("&")[0].split("=")[1]
