"""CopyImage: copies images from this or another region, with tags and new snapshots."""

import json

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id

from . import iam, identity
from .devices import data_devices, furnish, root_size
from .ec2_images import ImageOperations, not_found, own_snapshots
from .ec2_instances import remembered
from .filters import tags_of
from .iam_scope import Scope
from .staleness import visible
from .wire import AwsError
from .world import world


class CopyOperations(ImageOperations):
    def copy_image(self):
        account = world.account(self.current_account)
        key = (f"ec2:{self.region}:CopyImage", self._get_param("ClientToken") or "")
        fingerprint = json.dumps(world.call.params, sort_keys=True, default=str)
        if key[1] and key in account.tokens:
            return ActionResult(remembered(account, key, fingerprint))
        source = self._copied_image()
        self._check_image_name(self._get_param("Name"))
        tags = self._image_tags()
        if self._get_param("CopyImageTags", False):
            given = tags_of(source).items()
            inherited = {k: v for k, v in given if not k.startswith("aws:")}
            tags["image"] = {**inherited, **tags.get("image", {})}
        self.error_on_dryrun()
        ami = self._copy(source)
        if self._get_param("Encrypted", False):
            self._encrypt(ami)
        self._add_image(ami, tags)
        result = {"ImageId": ami.id}
        if key[1]:
            account.tokens[key] = (fingerprint, result)
        return ActionResult(result)

    def _encrypt(self, ami: Ami) -> None:
        """The key is checked later: a problem with it fails the image, not the call."""
        for snapshot in own_snapshots(ami):
            snapshot.encrypted = True
        named = self._get_param("KmsKeyId")
        if not named:
            return
        arn = identity.key_arn(self.current_account, self.region, named)
        scope = Scope(self.current_account, self.region)
        if arn is None or not iam.may_all(world.call, identity.key_checks(scope, arn)):
            ami.fails_for = identity.INACCESSIBLE

    def _copied_image(self) -> Ami:
        image_id, region = self._get_param("SourceImageId"), self._get_param("SourceRegion")
        regions = ec2_backends[self.current_account]
        if region not in [r.name for r in self.ec2_backend.describe_regions()]:
            raise AwsError("InvalidRequest", f"The source region '{region}' is not valid.")
        ami = regions[region].amis.get(image_id)
        if ami is None or not visible("images", image_id):
            raise not_found([image_id])
        if ami.owner_id != self.current_account and not ami.is_public:
            raise AwsError(
                "InvalidRequest", "You do not have permission to access the storage of this ami"
            )
        if ami.state != "available":
            raise AwsError("InvalidRequest", f"AMI {image_id} is not available for copying.")
        return ami

    def _copy(self, source: Ami) -> Ami:
        name, region = self._get_param("Name"), self._get_param("SourceRegion")
        ami = Ami(
            self.ec2_backend,
            random_ami_id(),
            source_ami=source,
            name=name,
            description=self._get_param("Description", ""),
            creation_date=world.account(self.current_account).clock.now(),
            root_device_type=source.root_device_type,
            root_device_name=source.root_device_name,
            hypervisor=source.hypervisor,
            image_location=f"{self.current_account}/{name}",
            region_name=f"{self.region}a",
            snapshot_description=f"Copied for DestinationAmi from SourceAmi {source.id} of {region}",
        )
        ami.platform_details = source.platform_details
        ami.imds_support = source.imds_support
        ami.source_image_id, ami.source_image_region = source.id, region
        sizes = [(name, size) for name, _, size in data_devices(source)]
        mapped = [{"DeviceName": name, "Ebs": {"VolumeSize": size}} for name, size in sizes]
        furnish(ami, root_size(source), mapped)
        return ami
