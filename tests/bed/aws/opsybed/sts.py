"""STS: the identity of the caller, from the access key, and the decoded message of a denial."""

from moto.core.responses import ActionResult
from moto.sts.responses import TokenResponse

from . import iam
from .world import world


class BedSTS(TokenResponse):
    def get_caller_identity(self):
        return ActionResult(
            {
                "UserId": world.call.access_key or "AIDAOPSYBED",
                "Account": self.current_account,
                "Arn": iam.user_of(world.call),
            }
        )

    def decode_authorization_message(self):
        decoded = iam.decode(world.call.params["EncodedMessage"])
        return ActionResult({"DecodedMessage": decoded})
