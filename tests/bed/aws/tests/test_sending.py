"""SNS and SES: what can be published and mailed, and the record of it."""

import pytest
from botocore.exceptions import ConnectionClosedError
from helpers import refused


def sent(bed) -> list[dict]:
    return bed.control("GET", "sent")


@pytest.fixture
def topic(bed):
    """A function that publishes to a topic of the account."""
    sns = bed.client("sns")
    arn = sns.create_topic(Name="images")["TopicArn"]

    def publish(message="text", **more):
        return sns.publish(**{"TopicArn": arn, "Message": message, **more})

    publish.arn = arn
    return publish


@pytest.fixture
def mail(bed):
    """A function that sends mail from an identity of the account."""
    ses = bed.client("sesv2")
    ses.create_email_identity(EmailIdentity="opsy@example.com")

    def send(sender="opsy@example.com", to=("team@example.com",), subject="subject", **more):
        content = {"Subject": {"Data": subject}, "Body": {"Text": {"Data": "body"}}}
        asked = {
            "FromEmailAddress": sender,
            "Destination": {"ToAddresses": list(to)},
            "Content": {"Simple": content},
        }
        return ses.send_email(**{**asked, **more})

    return send


def test_what_is_published_can_be_read(bed, topic):
    first = topic("one ü", Subject="s" * 100)["MessageId"]
    topic("x" * 256 * 1024)
    one, two = sent(bed)
    assert one.pop("time")
    assert one == {
        "kind": "sns",
        "region": "us-east-1",
        "id": first,
        "topic": topic.arn,
        "subject": "s" * 100,
        "body": "one ü",
    }
    assert (len(two["body"]), two["subject"]) == (256 * 1024, None)
    assert [e["params"]["TopicArn"] for e in bed.journal("Publish")] == [topic.arn] * 2
    assert len(bed.control("DELETE", "sent")) == 2 and sent(bed) == []


@pytest.mark.parametrize("subject", ["s" * 101, "", "über", "a\nb", "a\tb", " a"])
def test_subjects_sns_refuses(bed, topic, subject):
    with refused("InvalidParameter", "Subject", 400):
        topic(Subject=subject)
    assert sent(bed) == []


def test_messages_and_topics_sns_refuses(bed, topic):
    with refused("InvalidParameter", "Message too long", 400):
        topic("ü" * 128 * 1024 + "x")
    with refused("InvalidParameter", "Empty message", 400):
        topic("")
    with refused("NotFound", "Topic does not exist", 404):
        topic(TopicArn=topic.arn + "2")
    with refused("InvalidParameter", "TopicArn", 400):
        topic(TopicArn=topic.arn.replace("us-east-1", "eu-west-1"))
    with refused("AuthorizationError", "SNS:Publish", 403):
        topic(TopicArn=topic.arn.replace(bed.account, "999999999999"))
    with refused("UnsupportedOperation", "Subscribe", 400):
        bed.client("sns").subscribe(TopicArn=topic.arn, Protocol="https", Endpoint="https://x")
    assert sent(bed) == []


def test_what_is_mailed_can_be_read(bed, mail):
    first = mail(subject="gebaut: ü")["MessageId"]
    (one,) = sent(bed)
    assert one.pop("time")
    assert one == {
        "kind": "ses",
        "region": "us-east-1",
        "id": first,
        "sender": "opsy@example.com",
        "to": ["team@example.com"],
        "subject": "gebaut: ü",
        "body": "body",
    }
    assert [e["service"] for e in bed.journal("SendEmail")] == ["sesv2"]


def test_senders_must_be_verified(bed, mail):
    with refused("MessageRejected", "not verified", 400):
        mail("other@example.com")
    ses = bed.client("sesv2")
    ses.create_email_identity(EmailIdentity="example.com")
    mail("Opsy <other@example.com>")
    assert ses.get_email_identity(EmailIdentity="example.com")["VerifiedForSendingStatus"]
    with refused("AlreadyExistsException", "", 400):
        ses.create_email_identity(EmailIdentity="example.com")
    ses.delete_email_identity(EmailIdentity="example.com")
    with refused("MessageRejected", "not verified", 400):
        mail("other@example.com")


def test_mails_ses_refuses(bed, mail):
    for asked, text in [
        ({"to": []}, "Recipient count is zero"),
        ({"to": ["team@example.com"] * 51}, "Recipient count exceeds 50"),
        ({"to": ["team"]}, "Invalid email address"),
        ({"subject": "a\nb"}, "control characters"),
    ]:
        with refused("BadRequestException", text, 400):
            mail(**asked)
    with refused("NotFoundException", "Configuration set", 404):
        mail(ConfigurationSetName="none")
    with refused("UnsupportedOperation", "simple content", 400):
        mail(Content={"Raw": {"Data": b"x"}})
    assert sent(bed) == []


def test_a_lost_answer_was_sent(bed, topic, mail):
    bed.fault("lost", operation="Publish|SendEmail", count=2)
    for call in (topic, mail):
        with pytest.raises(ConnectionClosedError):
            call()
    assert [m["kind"] for m in sent(bed)] == ["sns", "ses"]


def test_a_reset_forgets_what_was_sent(bed, topic):
    topic()
    bed.control("POST", "reset")
    assert sent(bed) == []
    with refused("NotFound", "", 404):
        topic()
