"""EC2 images: moto's Ami objects with states, deprecation, paging and ownership rules."""

import hashlib
from datetime import datetime, timedelta

from moto.core.responses import ActionResult
from moto.ec2.models.amis import Ami
from moto.ec2.responses import EC2Response
from moto.ec2.utils import random_ami_id

from . import iam, staleness
from .devices import device_mappings, furnish, own_snapshots, root_size
from .filters import select, tag_value, tags_of
from .paging import ec2_page
from .staleness import visible
from .wire import AwsError
from .world import world

NAME_LENGTHS = range(3, 129)
MOST_TAGS = 50
# ModifyImageAttribute accepts one of these per call.
ATTRIBUTES = ("Description", "ImdsSupport", "LaunchPermission")
# AWS allows at most ten years
LATEST_DEPRECATION = timedelta(days=3653)
FIELDS = {
    "architecture": "architecture",
    "description": "description",
    "hypervisor": "hypervisor",
    "image-id": "id",
    "image-type": "image_type",
    "is-public": "is_public",
    "name": "name",
    "owner-alias": "owner_alias",
    "owner-id": "owner_id",
    "platform": "platform",
    "platform-details": "platform_details",
    "root-device-name": "root_device_name",
    "root-device-type": "root_device_type",
    "source-instance-id": "instance_id",
    "source-image-id": "source_image_id",
    "source-image-region": "source_image_region",
    "state": "state",
    "virtualization-type": "virtualization_type",
}


def not_found(image_ids: list[str]) -> AwsError:
    known = "', '".join(image_ids)
    plural = "ids" if len(image_ids) > 1 else "id"
    verb = "do" if len(image_ids) > 1 else "does"
    return AwsError("InvalidAMIID.NotFound", f"The image {plural} '[{known}]' {verb} not exist")


def unavailable(image_id: str) -> AwsError:
    return AwsError("InvalidAMIID.Unavailable", f"The image ID '{image_id}' is not available")


def filter_value(ami: Ami, name: str):
    if name in FIELDS:
        return getattr(ami, FIELDS[name], None)
    if name == "creation-date":
        return ami.creation_date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    if name == "block-device-mapping.snapshot-id":
        return [m["Ebs"]["SnapshotId"] for m in device_mappings(ami)]
    return tag_value(tags_of(ami), name)


def is_deprecated(ami: Ami, now: datetime) -> bool:
    until = getattr(ami, "deprecates_at", None)
    return until is not None and until <= now


class ImageOperations(EC2Response):
    def describe_images(self):
        self.error_on_dryrun()
        images = self._requested_images()
        images = select(images, self._get_param("Filters", []), filter_value, "DescribeImages")
        # AWS defines no order: a stable shuffle exposes code that relies on one.
        images.sort(key=lambda ami: hashlib.sha1(ami.id.encode()).digest())
        chosen, token = ec2_page(self, images, 1, 1000)
        return ActionResult({"Images": chosen, "NextToken": token})

    def _requested_images(self) -> list[Ami]:
        now = world.account(self.current_account).clock.now()
        ids = self._get_param("ImageIds", [])
        images = self._by_id(ids) if ids else list(self.ec2_backend.amis.values())
        images = [i for i in images if visible("images", i.id) and self._allowed(i)]
        owners = [self.current_account if o == "self" else o for o in self._get_param("Owners", [])]
        if owners:
            images = [i for i in images if i.owner_id in owners or i.owner_alias in owners]
        users = self._get_param("ExecutableUsers", [])
        if users:
            images = [i for i in images if _launchable_by(i, users, self.current_account)]
        if not self._get_param("IncludeDisabled", False):
            images = [i for i in images if i.state != "disabled"]
        if not self._get_param("IncludeDeprecated", False) and not ids:
            own = self.current_account
            images = [i for i in images if i.owner_id == own or not is_deprecated(i, now)]
        return images

    def _allowed(self, ami: Ami) -> bool:
        """Whether the account's Allowed AMIs setting allows the image; its own images are always allowed."""
        providers = world.account(self.current_account).settings.allowed_image_providers
        return not providers or bool(
            {ami.owner_id, ami.owner_alias} & {self.current_account, *providers}
        )

    def get_allowed_images_settings(self):
        providers = world.account(self.current_account).settings.allowed_image_providers
        result = {"State": "enabled" if providers else "disabled", "ManagedBy": "account"}
        if providers:
            result["ImageCriteria"] = [{"ImageProviders": providers}]
        return ActionResult(result)

    def _by_id(self, ids: list[str]) -> list[Ami]:
        malformed = [i for i in ids if not i.startswith("ami-")]
        if malformed:
            raise AwsError(
                "InvalidAMIID.Malformed", f'Invalid id: "{malformed[0]}" (expecting "ami-...")'
            )
        amis = self.ec2_backend.amis
        hidden = [i for i in ids if i in amis and not visible("images", i)]
        unknown = hidden + [i for i in ids if i not in amis and not self._lingers(i)]
        if unknown:
            raise not_found(unknown)
        return [amis[i] for i in ids if i in amis]

    def _lingers(self, image_id: str) -> bool:
        """While instances of a deregistered image exist, its ID returns no image instead of an error."""
        return image_id in self.ec2_backend.deleted_amis and any(
            i.image_id == image_id and i.state != "terminated"
            for i in self.ec2_backend.all_instances()
        )

    def _own_image(self, image_id: str) -> Ami:
        if image_id in self.ec2_backend.deleted_amis:
            raise unavailable(image_id)
        ami = self.ec2_backend.amis.get(image_id)
        if ami is None or not visible("images", image_id):
            raise not_found([image_id])
        if ami.owner_id != self.current_account:
            raise AwsError("AuthFailure", f"Not authorized for image:{image_id}", 403)
        return ami

    def create_image(self):
        name = self._get_param("Name")
        self._check_image_name(name)
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        tags = self._image_tags()
        self.error_on_dryrun()
        account = world.account(self.current_account)
        ami = Ami(
            self.ec2_backend,
            random_ami_id(),
            instance=instance,
            name=name,
            description=self._get_param("Description", ""),
            creation_date=account.clock.now(),
            root_device_type="ebs",
            image_location=f"{self.current_account}/{name}",
            region_name=instance.placement.zone,
            snapshot_description=f"Created by CreateImage({instance.id})",
        )
        ami.source_image_id, ami.source_image_region = instance.image_id, self.region
        self._furnish(ami, instance)
        self._add_image(ami, tags)
        return ActionResult({"ImageId": ami.id})

    def _furnish(self, ami: Ami, instance) -> None:
        """Set root device, platform and volumes from the instance's image, then from the request."""
        source = self.ec2_backend.amis.get(instance.image_id)
        if source is not None:
            ami.root_device_name = source.root_device_name
            ami.platform_details = source.platform_details
            ami.imds_support = source.imds_support
        launched = instance.block_device_mapping.get(ami.root_device_name)
        sizes = [launched.size if launched else 0, root_size(source) if source else 0]
        furnish(ami, max(sizes), self._get_param("BlockDeviceMappings", []))

    def _add_image(self, ami: Ami, tags: dict[str, dict[str, str]]) -> None:
        ami.add_tags(tags.get("image", {}))
        for snapshot in own_snapshots(ami):
            snapshot.add_tags(tags.get("snapshot", {}))
            staleness.made("snapshots", snapshot.id)
        staleness.made("images", ami.id)
        self.ec2_backend.amis[ami.id] = ami
        self._settle(ami, world.account(self.current_account))

    def _check_image_name(self, name: str) -> None:
        if len(name) not in NAME_LENGTHS:
            raise AwsError(
                "InvalidAMIName.Malformed",
                "AMI names must be between 3 and 128 characters long, and may contain letters, "
                "numbers, '(', ')', '.', '-', '/' and '_'",
            )
        for ami in self.ec2_backend.amis.values():
            if ami.name == name and ami.owner_id == self.current_account:
                raise AwsError(
                    "InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {ami.id}"
                )

    def _image_tags(self) -> dict[str, dict[str, str]]:
        tags: dict[str, dict[str, str]] = {}
        for spec in self._get_param("TagSpecifications", []):
            kind = spec.get("ResourceType")
            if kind not in ("image", "snapshot"):
                raise AwsError(
                    "InvalidParameterValue", f"'{kind}' is not a valid taggable resource type"
                )
            tags.setdefault(kind, {}).update({t["Key"]: t["Value"] for t in spec.get("Tags", [])})
            if len(tags[kind]) > MOST_TAGS:
                raise AwsError(
                    "TagLimitExceeded",
                    "The maximum number of Tags for a resource has been reached.",
                )
        return tags

    def _settle(self, ami: Ami, account) -> None:
        """Set the image to pending, and later to available or failed."""
        fails, pends = world.effect("image-fails"), world.effect("image-pending")
        seconds = account.settings.image_pending_seconds
        for effect in (fails, pends):
            if effect and "seconds" in effect.options:
                seconds = float(effect.options["seconds"])
        reason = getattr(ami, "fails_for", None)
        if fails:
            reason = fails.options.get("message", "Image creation failed.")

        def settle() -> None:
            if ami.state != "pending":
                return
            ami.state = "failed" if reason else "available"
            for snapshot in own_snapshots(ami):
                snapshot.status = "error" if reason else "completed"
            if reason:
                ami.state_reason = {"Code": "Client.InternalError", "Message": reason}

        ami.state = "pending"
        for snapshot in own_snapshots(ami):
            snapshot.status = "pending"
        account.clock.after(seconds, settle)

    def deregister_image(self):
        ami = self._own_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        mapped = [m["Ebs"]["SnapshotId"] for m in device_mappings(ami)]
        self.ec2_backend.deregister_image(ami.id)
        result = {"Return": True}
        if self._get_param("DeleteAssociatedSnapshots", False):
            result["DeleteSnapshotResults"] = [self._delete_with_image(ami, m) for m in mapped]
        return ActionResult(result)

    def _delete_with_image(self, ami: Ami, snapshot_id: str) -> dict[str, str]:
        """Delete the snapshot unless other images share it."""
        shared = any(
            snapshot_id in [m["Ebs"]["SnapshotId"] for m in device_mappings(other)]
            for other in self.ec2_backend.amis.values()
        )
        own = snapshot_id in {s.id for s in own_snapshots(ami)}
        if own and not iam.may(world.call, "ec2:DeleteSnapshot", "snapshot", snapshot_id):
            return {"SnapshotId": snapshot_id, "ReturnCode": "missing-permissions"}
        if own and not shared:
            self.ec2_backend.delete_snapshot(snapshot_id)
        return {"SnapshotId": snapshot_id, "ReturnCode": "success" if own and not shared else "skipped"}

    def modify_image_attribute(self):
        self._refuse_several_attributes()
        ami = self._own_image(self._get_param("ImageId"))
        imds = self._get_param("ImdsSupport") or {}
        value = imds.get("Value")
        if value:
            if value != "v2.0":
                raise AwsError("InvalidParameterValue", f"'{value}' is not a valid imdsSupport")
            ami.imds_support = value
        return super().modify_image_attribute()

    def _refuse_several_attributes(self) -> None:
        given = [n for n in ATTRIBUTES if self._get_param(n) is not None]
        given += [self._get_param("Attribute")] if self._get_param("Attribute") else []
        if len({name.lower() for name in given}) > 1:
            raise AwsError(
                "InvalidParameterCombination", "You can specify only one attribute to modify."
            )

    def enable_image_deprecation(self):
        ami = self._own_image(self._get_param("ImageId"))
        now = world.account(self.current_account).clock.now()
        wanted = self._get_param("DeprecateAt").replace(tzinfo=None)
        # AWS rounds to the nearest minute, so a time in the near future can be rounded into the past.
        rounded = (wanted + timedelta(seconds=30)).replace(second=0, microsecond=0)
        if rounded <= now:
            raise AwsError("InvalidParameterValue", "The deprecation date must be in the future.")
        if rounded > now + LATEST_DEPRECATION:
            raise AwsError(
                "InvalidParameterValue", "The deprecation date is too far in the future."
            )
        self.error_on_dryrun()
        ami.deprecates_at = rounded
        ami.deprecation_time = rounded.strftime("%Y-%m-%dT%H:%M:%SZ")
        return ActionResult({"Return": True})

    def disable_image_deprecation(self):
        ami = self._own_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        ami.deprecates_at = ami.deprecation_time = None
        return ActionResult({"Return": True})

    def disable_image(self):
        ami = self._own_image(self._get_param("ImageId"))
        if ami.state not in ("available", "disabled"):
            raise unavailable(ami.id)
        self.error_on_dryrun()
        ami.state, ami.launch_permissions = "disabled", []
        return ActionResult({"Return": True})

    def enable_image(self):
        ami = self._own_image(self._get_param("ImageId"))
        self.error_on_dryrun()
        if ami.state == "disabled":
            ami.state = "available"
        return ActionResult({"Return": True})


def _launchable_by(ami: Ami, users: list[str], account: str) -> bool:
    if "all" in users:
        return ami.is_public
    wanted = {account if user == "self" else user for user in users}
    return any(p.get("UserId") in wanted for p in ami.launch_permissions)
