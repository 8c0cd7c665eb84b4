"""Accounts without a default VPC: calls that need one are refused, and none is shown."""

from moto.ec2.models.subnets import Subnet
from moto.ec2.models.vpcs import VPC
from moto.ec2.responses import EC2Response

from .wire import AwsError
from .world import world

# Only these hide it: moto itself continues to use its default VPC for nodes
SHOWING = ("DescribeVpcs", "DescribeSubnets")


def has_default_vpc(account: str) -> bool:
    return world.account(account).settings.default_vpc


def check_subnet(account: str, params: dict) -> None:
    """A launch uses the default VPC unless it names a subnet or an interface that has one."""
    nics = params.get("NetworkInterfaces") or []
    named = params.get("SubnetId") or any(
        n.get("SubnetId") or n.get("NetworkInterfaceId") for n in nics
    )
    if not named and not has_default_vpc(account):
        raise AwsError("VPCIdNotSpecified", "No default VPC for this user")


class NetworkOperations(EC2Response):
    def create_security_group(self):
        if not self._get_param("VpcId") and not has_default_vpc(self.current_account):
            raise AwsError("VPCIdNotSpecified", "No default VPC for this user")
        return super().create_security_group()


def patch() -> None:
    VPC.is_default = _shown("is_default")
    Subnet.default_for_az = _shown("default_for_az")


def _shown(name: str) -> property:
    """Return the attribute as a property that is false for an account without a default VPC."""
    own = f"_own_{name}"

    def read(self):
        call = world.call
        if call is not None and call.operation in SHOWING and not has_default_vpc(call.account):
            return False
        return getattr(self, own)

    return property(read, lambda self, value: setattr(self, own, value))
