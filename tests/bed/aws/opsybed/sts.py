"""STS: who the caller is, from the access key."""

from moto.core.responses import ActionResult
from moto.sts.responses import TokenResponse

from .world import world


class BedSTS(TokenResponse):
    def get_caller_identity(self):
        return ActionResult(
            {
                "UserId": world.call.access_key or "AIDAOPSYBED",
                "Account": self.current_account,
                "Arn": f"arn:aws:iam::{self.current_account}:user/opsy",
            }
        )
