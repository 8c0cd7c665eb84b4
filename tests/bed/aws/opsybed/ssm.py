"""SSM: the public parameters that name EKS-optimized images."""

from moto.core.responses import ActionResult
from moto.ssm.models import Parameter, ssm_backends
from moto.ssm.responses import SimpleSystemManagerResponse

from .world import world

# moto refuses to write these parameters, which AWS owns; here, tests and seeding write them.
PUBLIC_TREES = ("/aws/service/eks/", "/aws/service/bottlerocket/")


def put_public(account_id: str, region: str, name: str, value: str) -> int:
    backend = ssm_backends[account_id][region]
    version = len(backend._parameters[name]) + 1
    backend._parameters[name].append(
        Parameter(
            account_id=account_id,
            name=name,
            value=value,
            parameter_type="String",
            description=None,
            allowed_pattern=None,
            keyid=None,
            last_modified_date=world.account(account_id).clock.now(),
            version=version,
            data_type="text",
            tier="Standard",
        )
    )
    return version


class BedSSM(SimpleSystemManagerResponse):
    def put_parameter(self):
        name = self._get_param("Name")
        if not name.startswith(PUBLIC_TREES):
            return super().put_parameter()
        version = put_public(self.current_account, self.region, name, self._get_param("Value"))
        return ActionResult({"Version": version, "Tier": "Standard"})
