"""The parts of IAM and KMS that builds need: instance profiles with their roles, and keys."""

from moto.iam.responses import IamResponse
from moto.kms.models import kms_backends
from moto.kms.responses import KmsResponse

from .iam_scope import Check, Scope


class BedIAM(IamResponse):
    OPERATIONS = (
        "add_role_to_instance_profile",
        "create_instance_profile",
        "create_role",
        "get_instance_profile",
    )


class BedKMS(KmsResponse):
    OPERATIONS = ("create_alias", "create_key", "describe_key")


# The actions on a key that EC2 requires from the caller who copies an image with encryption.
OF_COPIES = (
    "DescribeKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "Decrypt",
    "CreateGrant",
)
INACCESSIBLE = (
    "AMI snapshot copy failed with error: Given key ID is not accessible. You must have DescribeKey "
    "permissions on the default CMK."
)


def key_arn(account: str, region: str, named: str) -> str | None:
    """Return the ARN of a key that is given by ID, ARN or alias; None if it does not exist."""
    backend = kms_backends[account][region]
    key_id = backend.any_id_to_key_id(named)
    key = backend.keys.get(key_id)
    return key.arn if key else None


def key_checks(scope: Scope, arn: str) -> list[Check]:
    """Return the checks on the key of a copy; EC2 makes them on behalf of the caller."""
    context = {**scope.everywhere(), "kms:viaservice": [f"ec2.{scope.region}.amazonaws.com"]}
    granted = {**context, "kms:grantisforawsresource": ["true"]}
    return [
        Check(f"kms:{action}", arn, granted if action == "CreateGrant" else context)
        for action in OF_COPIES
    ]
