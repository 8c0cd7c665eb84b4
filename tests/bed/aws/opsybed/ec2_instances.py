"""EC2 instances: launch checks, ClientToken, key pairs, and SSH to this machine."""

import json

from moto.core.responses import ActionResult
from moto.ec2.models.instances import Instance
from moto.ec2.responses import EC2Response
from moto.iam.models import iam_backends

from . import launch_rules
from .ec2_images import not_found, unavailable
from .ec2_network import check_subnet
from .staleness import visible
from .wire import AwsError
from .world import world


class InstanceOperations(EC2Response):
    def run_instances(self):
        token = self._get_param("ClientToken")
        account = world.account(self.current_account)
        key = (f"ec2:{self.region}:RunInstances", token)
        fingerprint = json.dumps(world.call.params, sort_keys=True, default=str)
        if token and key in account.tokens:
            return ActionResult(remembered(account, key, fingerprint))
        self._check_launch()
        answer = super().run_instances()
        for instance in answer.result.instances:
            instance.launch_time = account.clock.now()
        if token:
            account.tokens[key] = (fingerprint, answer.result)
        return answer

    def _check_launch(self) -> None:
        image_id, key_name = self._get_param("ImageId"), self._get_param("KeyName")
        if image_id:
            ami = self.ec2_backend.amis.get(image_id)
            if ami is not None and not visible("images", image_id):
                raise not_found([image_id])
            if ami is None:
                gone = image_id in self.ec2_backend.deleted_amis
                raise unavailable(image_id) if gone else not_found([image_id])
            if ami.state != "available":
                raise unavailable(image_id)
        asked, settings = self._launch_data(), world.account(self.current_account).settings
        if settings.imds_required:
            launch_rules.check_imds(self.ec2_backend, asked)
        launch_rules.check(self.ec2_backend, asked, [asked.get("InstanceType") or "m1.small"])
        check_subnet(self.current_account, asked)
        self._check_profile(asked.get("IamInstanceProfile") or {})
        if key_name and key_name not in self.ec2_backend.key_pairs:
            raise AwsError("InvalidKeyPair.NotFound", f"The key pair '{key_name}' does not exist")

    def _check_profile(self, named: dict) -> None:
        profiles = iam_backends[self.current_account][self.partition].instance_profiles.values()
        # Packer 1.6 sends an empty name if no profile is configured.
        for member, text in named.items():
            if text and text not in [getattr(p, member.lower()) for p in profiles]:
                raise AwsError(
                    "InvalidParameterValue",
                    f"Value ({text}) for parameter iamInstanceProfile.{member.lower()} is invalid. "
                    f"Invalid IAM Instance Profile {'ARN' if member == 'Arn' else 'name'}",
                )

    def _launch_data(self) -> dict:
        """Return the request merged over the launch template that it names."""
        named = self._get_param("LaunchTemplate")
        template = self.ec2_backend._get_template_from_args(named).data if named else {}
        return {**template, **{k: v for k, v in world.call.params.items() if v}}

    def terminate_instances(self):
        keys = [i.key_name for i in self._named_instances() if i.key_name]
        answer = super().terminate_instances()
        if world.ssh:
            world.ssh.end_sessions(self.current_account, keys)
        return answer

    def _named_instances(self) -> list[Instance]:
        wanted = set(self._get_param("InstanceIds", []))
        return [i for i in self.ec2_backend.all_instances() if i.id in wanted]

    def create_key_pair(self):
        answer = super().create_key_pair()
        self._publish_keys()
        return answer

    def import_key_pair(self):
        answer = super().import_key_pair()
        self._publish_keys()
        return answer

    def delete_key_pair(self):
        answer = super().delete_key_pair()
        self._publish_keys()
        return answer

    def delete_security_group(self):
        wanted = {self._get_param("GroupId"), self._get_param("GroupName")} - {None}
        for instance in self.ec2_backend.all_instances():
            groups = {n for g in instance.security_groups for n in (g.id, g.name)}
            if instance.state != "terminated" and groups & wanted:
                raise AwsError(
                    "DependencyViolation", f"resource {wanted.pop()} has a dependent object"
                )
        return super().delete_security_group()

    def _publish_keys(self) -> None:
        if world.ssh:
            world.ssh.publish(
                self.current_account, self.region, self.ec2_backend.key_pairs.values()
            )


def remembered(account, key: tuple[str, str], fingerprint: str):
    """Return the response stored under a client token, if the request is the same."""
    before, answer = account.tokens[key]
    if before != fingerprint:
        raise AwsError(
            "IdempotentParameterMismatch",
            f"The request uses the same client token ({key[1]}) "
            "as a previous, non-identical request.",
        )
    return answer


def patch() -> None:
    """With SSH enabled, every instance has the loopback address of this machine."""

    def address(original):
        return property(lambda self: "127.0.0.1" if world.ssh else original.fget(self))

    Instance.public_ip = address(Instance.public_ip)
    Instance.public_ip_address = address(Instance.public_ip_address)
