"""Images that exist without a build: those that AWS publishes, and those of the account."""

from datetime import datetime

from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.utils import random_ami_id

from . import nodes
from .devices import data_devices, furnish
from .families import Family, architecture_of, family_of
from .ssm import put_public
from .world import world

# Attributes of an image that a request can set instead of those of its family; `healthy`: its nodes work
SHAPE = ("platform", "platform_details", "root_device_name", "imds_support", "healthy")


def base_image(account: str, region: str, wanted: dict) -> dict:
    """Publish an image of a family; `recommended` (default) points the SSM parameters to it."""
    family, architecture = family_of(wanted), architecture_of(wanted)
    kubernetes = wanted.get("kubernetes", "1.31")
    created = _moment(wanted.get("created")) or world.account(account).clock.now()
    version = str(wanted.get("version") or created.strftime("%Y%m%d"))
    name = wanted.get("name") or family.image_name(architecture, kubernetes, version)
    backend = ec2_backends[account][region]
    ami = _named(backend, name, family.owner)
    if ami is None:
        ami = add_image(backend, name, family.owner, created, architecture, family)
    _shape(ami, wanted)
    if family_of({}) is family and wanted.get("recommended", True):
        tree = nodes.RECOMMENDED.format(version=kubernetes, architecture=architecture)
        put_public(account, region, f"{tree}/image_id", ami.id)
        put_public(account, region, f"{tree}/image_name", name)
        put_public(account, region, f"{tree}/release_version", f"{kubernetes}.0-{version}")
    return {"id": ami.id, "name": name, "created": created.isoformat() + "Z"}


def own_image(account: str, region: str, wanted: dict) -> dict:
    """Create an image of the account that Opsy did not build, or change the image `id`."""
    backend = ec2_backends[account][region]
    if wanted.get("id"):
        if wanted["id"] not in backend.amis:
            raise ValueError(f"no image {wanted['id']!r}")
        ami = backend.amis[wanted["id"]]
    else:
        created = _moment(wanted.get("created")) or world.account(account).clock.now()
        owner, family = wanted.get("owner") or account, family_of(wanted)
        ami = add_image(backend, wanted["name"], owner, created, architecture_of(wanted), family)
    _shape(ami, wanted)
    return {"id": ami.id, "name": ami.name, "snapshot": ami.ebs_snapshot.id}


def _named(backend, name: str, owner: str) -> Ami | None:
    return next((i for i in backend.amis.values() if (i.name, i.owner_id) == (name, owner)), None)


def _moment(text: str | None) -> datetime | None:
    return (
        datetime.fromisoformat(text.replace("Z", "+00:00")).replace(tzinfo=None) if text else None
    )


def _shape(ami: Ami, wanted: dict) -> None:
    for name in SHAPE:
        if name in wanted:
            setattr(ami, name, wanted[name])
    if wanted.get("size"):
        mapped = [{"DeviceName": d[0], "Ebs": {"SnapshotId": d[1]}} for d in data_devices(ami)]
        furnish(ami, wanted["size"], mapped)
    if wanted.get("deprecate_at"):
        ami.deprecates_at = _moment(wanted["deprecate_at"])
        ami.deprecation_time = ami.deprecates_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    ami.add_tags(wanted.get("tags") or {})
    if wanted.get("source_image"):
        ami.source_image_id, ami.source_image_region = wanted["source_image"], ami.region


def add_image(
    backend, name: str, owner: str, created: datetime, architecture: str, family: Family
) -> Ami:
    published = owner == family.owner
    alias = family.alias if published else None
    ami = Ami(
        backend,
        random_ami_id(),
        name=name,
        description=family.description if published else name,
        owner_id=owner,
        owner_alias=alias,
        public=published,
        virtualization_type="hvm",
        architecture=architecture,
        hypervisor="xen",
        creation_date=created,
        platform=family.platform,
        image_location=f"{alias or owner}/{name}",
        root_device_type="ebs",
        root_device_name=family.root_device_name,
        region_name=f"{backend.region_name}a",
    )
    ami.platform_details = family.platform_details
    ami.imds_support = family.imds_support if published else None
    ami.region = backend.region_name
    furnish(ami, family.size, [])
    backend.amis[ami.id] = ami
    return ami
