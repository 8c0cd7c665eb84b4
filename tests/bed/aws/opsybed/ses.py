"""SES (version 2): identities and simple mails, with SES's rules for senders.

Nothing is delivered: sent mails are stored and returned by /_bed/sent. An identity
is verified immediately, as if the link in the verification mail had been clicked.
"""

import json
import re
from email.utils import parseaddr

from moto.sesv2.responses import SESV2Response

from .wire import AwsError
from .world import world

MAX_RECIPIENTS = 50
ADDRESS = re.compile(r"[!-?A-~]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class BedSES(SESV2Response):
    OPERATIONS = (
        "create_email_identity",
        "delete_email_identity",
        "get_email_identity",
        "send_email",
    )

    @property
    def _identities(self) -> dict:
        return self.sesv2_backend.core_backend.email_identities

    def create_email_identity(self):
        name = world.call.params["EmailIdentity"]
        if name in self._identities:
            raise AwsError("AlreadyExistsException", f"Email identity {name} already exist.")
        answer = super().create_email_identity()
        self._identities[name].verified_for_sending_status = True
        return answer

    def send_email(self):
        asked = world.call.params
        self._refuse_configuration(asked.get("ConfigurationSetName"))
        sender = asked.get("FromEmailAddress")
        to = self._recipients(asked.get("Destination") or {})
        subject, body = self._content(asked["Content"])
        for address in (sender, *to):
            if not ADDRESS.fullmatch(parseaddr(address or "")[1]):
                raise AwsError("BadRequestException", "Invalid email address.")
        self._refuse_unverified(sender)
        message = self.sesv2_backend.send_email(sender, {"ToAddresses": to}, subject, body)
        world.account(self.current_account).send(
            kind="ses",
            region=self.region,
            id=message.id,
            sender=sender,
            to=to,
            subject=subject,
            body=body,
        )
        return json.dumps({"MessageId": message.id})

    def _refuse_configuration(self, name: str | None) -> None:
        if name:
            raise AwsError("NotFoundException", f"Configuration set <{name}> does not exist.", 404)

    def _refuse_unverified(self, sender: str) -> None:
        address = parseaddr(sender)[1]
        if address in self._identities or address.partition("@")[2] in self._identities:
            return
        message = (
            "Email address is not verified. The following identities failed the check in "
            f"region {self.region.upper()}: {sender}"
        )
        raise AwsError("MessageRejected", message)

    def _recipients(self, destination: dict) -> list[str]:
        kinds = ("ToAddresses", "CcAddresses", "BccAddresses")
        to = [address for kind in kinds for address in destination.get(kind) or []]
        if not 0 < len(to) <= MAX_RECIPIENTS:
            words = f"exceeds {MAX_RECIPIENTS}" if to else "is zero"
            raise AwsError("BadRequestException", f"Recipient count {words}.")
        return to

    def _content(self, content: dict) -> tuple[str, str]:
        """Return subject and body; the text part is preferred to the HTML part."""
        simple = content.get("Simple")
        if simple is None:
            raise AwsError("UnsupportedOperation", "The test bed emulates simple content only.")
        subject = (simple.get("Subject") or {}).get("Data")
        parts = simple.get("Body") or {}
        body = (parts.get("Text") or parts.get("Html") or {}).get("Data")
        if subject is None or body is None:
            raise AwsError("BadRequestException", "Subject and body must have data.")
        if CONTROL.search(subject):
            raise AwsError("BadRequestException", "The subject contains control characters.")
        return subject, body
