"""Lookups of moto that scan or copy every object of an account, replaced by equal ones that do not.

An account with a thousand nodes is otherwise slower than the tests that use it.
"""

from moto.ec2.models.amis import AmiBackend
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.models.tags import TagBackend
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix


# An unknown instance is in one of the last reservations, or moto searches it.
RECENT = 10


def patch() -> None:
    describe_tags, describe_images = TagBackend.describe_tags, AmiBackend.describe_images
    all_instances, get_instance = InstanceBackend.all_instances, InstanceBackend.get_instance
    get_several = InstanceBackend.get_multi_instances_by_id

    def tags(self, filters=None):
        ids = (filters or {}).get("resource-id", [])
        if len(ids) != 1 or len(filters) != 1 or set(ids[0]) & set("*?["):
            return describe_tags(self, filters)
        kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(ids[0]), "")
        return [
            {"resource_id": ids[0], "key": key, "value": value, "resource_type": kind}
            for key, value in dict(self.tags.get(ids[0], {})).items()
        ]

    def images(self, ami_ids=None, filters=None, exec_users=None, owners=None):
        # what a new instance asks for: a string instead of a list
        wanted = filters.get("image-id") if filters and len(filters) == 1 else None
        if isinstance(wanted, str) and wanted in self.amis:
            return [self.amis[wanted]]
        return describe_images(self, ami_ids, filters, exec_users, owners)

    def instances(self, filters=None):
        if filters:
            return all_instances(self, filters)
        return [i for r in list(self.reservations.values()) for i in r.instances]

    def instance(self, instance_id):
        # Reservations and their instances are never removed.
        known = self.__dict__.setdefault("bed_instances", {})
        if instance_id not in known:
            known |= {i.id: i for r in list(self.reservations.values())[-RECENT:] for i in r.instances}
        return known.get(instance_id) or get_instance(self, instance_id)

    def several(self, instance_ids, filters=None):
        known = self.__dict__.get("bed_instances", {})
        if filters or not all(i in known for i in instance_ids):
            return get_several(self, instance_ids, filters)
        return [known[i] for i in instance_ids]

    TagBackend.describe_tags, AmiBackend.describe_images = tags, images
    InstanceBackend.all_instances, InstanceBackend.get_instance = instances, instance
    InstanceBackend.get_multi_instances_by_id = several
