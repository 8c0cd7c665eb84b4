"""The account and region of a call, and the ARNs and condition keys of the resources that it uses."""

from dataclasses import dataclass, field

from moto.core.base_backend import BackendDict
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
# Images and snapshots have no account in their ARN.
WITHOUT_ACCOUNT = {"image", "snapshot"}
PREFIXES = {
    "ami": "image",
    "cr": "capacity-reservation",
    "eni": "network-interface",
    "i": "instance",
    "key": "key-pair",
    "lt": "launch-template",
    "sg": "security-group",
    "sgr": "security-group-rule",
    "snap": "snapshot",
    "subnet": "subnet",
    "vol": "volume",
    "vpc": "vpc",
}


@dataclass(frozen=True)
class Check:
    """One decision of IAM: whether this action is allowed on this resource in this context."""

    action: str
    resource: str
    context: dict[str, list[str]] = field(default_factory=dict, compare=False)


def partition_of(region: str) -> str:
    return next((p for start, p in PARTITIONS.items() if region.startswith(start)), "aws")


@dataclass(frozen=True)
class Scope:
    """The account and region of a call. Lookups create no backends."""

    account: str
    region: str

    @property
    def partition(self) -> str:
        return partition_of(self.region)

    @property
    def ec2(self):
        if self.account not in dict.keys(ec2_backends):
            return None
        regions: BackendDict = ec2_backends[self.account]
        return regions[self.region] if self.region in dict.keys(regions) else None

    def elsewhere(self, region: str) -> "Scope":
        return Scope(self.account, region)

    def arn(self, service: str, rest: str, region: str | None = None) -> str:
        where = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{where}:{self.account}:{rest}"

    def ec2_arn(self, kind: str, name: str) -> str:
        account = "" if kind in WITHOUT_ACCOUNT else self.account
        return f"arn:{self.partition}:ec2:{self.region}:{account}:{kind}/{name}"

    def role(self, profile: str) -> str:
        """Return the role of an instance profile; if the profile does not exist, a role of the same name."""
        name = profile.rpartition("/")[2]
        if self.account in dict.keys(iam_backends):
            profiles = iam_backends[self.account][self.partition].instance_profiles.values()
            found = (p.roles[0].name for p in profiles if p.name == name and p.roles)
            name = next(found, name)
        return f"arn:{self.partition}:iam::{self.account}:role/{name}"

    def principal(self, user: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:user/{user}"

    def everywhere(self) -> dict[str, list[str]]:
        """Return the keys that every request contains."""
        return {"aws:principalaccount": [self.account], "aws:requestedregion": [self.region]}

    def existing(self, action: str, kind: str, name: str, **more) -> Check:
        """Check a resource that should exist, by ID (a key pair by name); a missing one has no tags."""
        context = {**self.everywhere(), **resource_tags(self._tags(kind, name)), **more}
        context |= self._own_keys(kind, name)
        return Check(action, self.ec2_arn(kind, self._name(kind, name)), context)

    def made(self, action: str, kind: str, tags: dict[str, str] | None, name="*", **more) -> Check:
        """Check a resource that the call creates, with the tags that it sets on creation."""
        context = {**self.everywhere(), **request_tags(tags), **more}
        return Check(action, self.ec2_arn(kind, name), context)

    def _tags(self, kind: str, name: str) -> dict[str, str]:
        if self.ec2 is None:
            return {}
        if kind == "key-pair":
            pair = self.ec2.key_pairs.get(self._name(kind, name))
            return dict(dict.get(self.ec2.tags, pair.id, {})) if pair else {}
        return dict(dict.get(self.ec2.tags, name, {}))

    def _name(self, kind: str, name: str) -> str:
        """The ARN of a key pair contains its name, even if the request names it by ID."""
        if kind == "key-pair" and name.startswith("key-") and self.ec2 is not None:
            return next((k.key_name for k in self.ec2.key_pairs.values() if k.id == name), name)
        return name

    def _own_keys(self, kind: str, name: str) -> dict[str, list[str]]:
        if kind == "key-pair":
            return {"ec2:keypairname": [self._name(kind, name)]}
        if self.ec2 is None:
            return {}
        if kind == "security-group":
            found = [g for groups in self.ec2.groups.values() for g in groups.values() if g.id == name]
            return {"ec2:vpc": [self.ec2_arn("vpc", g.vpc_id)] for g in found}
        if kind == "subnet":
            found = [nets[name] for nets in self.ec2.subnets.values() if name in nets]
            return {"ec2:vpc": [self.ec2_arn("vpc", s.vpc_id)] for s in found}
        if kind == "network-interface" and name in self.ec2.enis:
            return {"ec2:vpc": [self.ec2_arn("vpc", self.ec2.enis[name].subnet.vpc_id)]}
        if kind == "image" and name in self.ec2.amis:
            ami = self.ec2.amis[name]
            return {"ec2:owner": [ami.owner_alias or ami.owner_id]}
        if kind == "instance":
            found = [i for i in self.ec2.all_instances() if i.id == name]
            return next((self._instance_keys(i) for i in found), {})
        return {}

    def _instance_keys(self, instance) -> dict[str, list[str]]:
        keys = {"ec2:instancetype": [instance.instance_type]}
        associated = self.ec2.iam_instance_profile_associations.get(instance.id)
        if associated:
            keys["ec2:instanceprofile"] = [associated.iam_instance_profile.arn]
        return keys

    def kind_of(self, resource_id: str) -> str | None:
        return PREFIXES.get(resource_id.rpartition("-")[0])


def resource_tags(tags: dict[str, str]) -> dict[str, list[str]]:
    """Return the tags under both of EC2's condition keys."""
    return {
        f"{prefix}:resourcetag/{key.lower()}": [str(value)]
        for key, value in tags.items()
        for prefix in ("aws", "ec2")
    }


def request_tags(tags: dict[str, str] | None) -> dict[str, list[str]]:
    if not tags:
        return {}
    context = {f"aws:requesttag/{key.lower()}": [str(value)] for key, value in tags.items()}
    return {**context, "aws:tagkeys": list(tags)}


def tag_lists(params: dict) -> dict[str, dict[str, str]]:
    """Return TagSpecifications as tags by kind of resource."""
    tags: dict[str, dict[str, str]] = {}
    for spec in params.get("TagSpecifications") or []:
        pairs = {t.get("Key", ""): t.get("Value", "") for t in spec.get("Tags") or []}
        if pairs:
            tags.setdefault(spec.get("ResourceType", ""), {}).update(pairs)
    return tags
