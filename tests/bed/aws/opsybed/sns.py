"""SNS: topics and publishing to them, with SNS's rules for publishers.

Nothing is delivered: published messages are stored and returned by /_bed/sent.
"""

import re

from moto.core.responses import ActionResult
from moto.sns.responses import SNSResponse

from .wire import AwsError
from .world import world

MAX_SUBJECT = 100
MAX_MESSAGE_BYTES = 256 * 1024
TOPIC = re.compile(r"arn:aws[\w-]*:sns:(?P<region>[\w-]+):(?P<account>\d{12}):(?P<name>[\w.-]+)$")
# As documented: one line of ASCII that begins with a letter, a number or punctuation.
SUBJECT = re.compile(r"[!-~][ -~]*")


class BedSNS(SNSResponse):
    OPERATIONS = ("create_topic", "delete_topic", "get_topic_attributes", "list_topics", "publish")

    def publish(self):
        asked = world.call.params
        for foreign in ("PhoneNumber", "MessageStructure"):
            if asked.get(foreign):
                raise AwsError("UnsupportedOperation", f"The test bed does not emulate {foreign}.")
        arn = asked.get("TopicArn") or asked.get("TargetArn")
        self._refuse_topic(arn)
        self._refuse_content(asked.get("Subject"), asked["Message"])
        message_id = self.backend.publish(
            asked["Message"],
            arn,
            subject=asked.get("Subject"),
            group_id=asked.get("MessageGroupId"),
            deduplication_id=asked.get("MessageDeduplicationId"),
        )
        world.account(self.current_account).send(
            kind="sns",
            region=self.region,
            id=message_id,
            topic=arn,
            subject=asked.get("Subject"),
            body=asked["Message"],
        )
        return ActionResult({"MessageId": message_id})

    def _refuse_topic(self, arn: str | None) -> None:
        if not arn:
            raise _invalid("TopicArn or TargetArn Reason: no value for required parameter")
        parts = TOPIC.match(arn)
        if not parts or parts["region"] != self.region:
            raise _invalid("TopicArn")
        if parts["account"] != self.current_account:
            user = f"arn:aws:iam::{self.current_account}:user/opsy"
            message = f"User: {user} is not authorized to perform: SNS:Publish on resource: {arn}"
            raise AwsError("AuthorizationError", message, 403)
        if arn not in self.backend.topics:
            raise AwsError("NotFound", "Topic does not exist", 404)

    def _refuse_content(self, subject: str | None, message: str) -> None:
        if subject is not None and (len(subject) > MAX_SUBJECT or not SUBJECT.fullmatch(subject)):
            raise _invalid("Subject")
        if not message:
            raise _invalid("Empty message")
        if len(message.encode()) > MAX_MESSAGE_BYTES:
            raise _invalid("Message too long")


def _invalid(what: str) -> AwsError:
    return AwsError("InvalidParameter", f"Invalid parameter: {what}")
