"""Which instances of an account are nodes of a cluster, and when each one joins. It runs under the application's lock."""

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.ec2.utils import random_private_ip
from moto.eks.models import eks_backends

from bedkit.server import Request

from . import asg_instances, kube_nodes, nodes
from .kube_nodes import Member
from .wire import Call
from .world import world

GONE = ("shutting-down", "terminated")
# The tag of a group by which the cluster autoscaler knows a label of its nodes, which their user data sets.
LABEL = "k8s.io/cluster-autoscaler/node-template/label/"


class Members:
    """The nodes of one cluster, by instance ID."""

    def __init__(self, account: str, region: str, cluster: str, faults) -> None:
        self.account, self.region, self.cluster = account, region, cluster
        self.all: dict[str, Member] = {}
        self._faults = faults
        # all names that were ever used
        self._names: set[str] = set()
        # instances that exist when the cluster is connected are nodes already
        self._first = True

    @property
    def eks(self):
        return eks_backends[self.account][self.region].clusters.get(self.cluster)

    def groups(self) -> list:
        """Return the Auto Scaling groups of the cluster, by their tags."""
        known = autoscaling_backends[self.account][self.region].autoscaling_groups.values()
        return [g for g in known if self._is_ours(g)]

    def _is_ours(self, group) -> bool:
        tags = {t["Key"]: t.get("Value") for t in group.tags}
        if "eks:cluster-name" in tags:
            return tags["eks:cluster-name"] == self.cluster
        return f"kubernetes.io/cluster/{self.cluster}" in tags

    def refresh(self, wake) -> None:
        """Add new instances and forget those that are gone. `wake` is called when one of them is due to join."""
        seen = set()
        for group in self.groups():
            for state in group.instance_states:
                if state.instance.state in GONE:
                    continue
                seen.add(state.instance.id)
                if state.instance.id not in self.all:
                    self._add(group, state, wake)
        for gone in set(self.all) - seen:
            del self.all[gone]
        self._first = False

    def _add(self, group, state, wake) -> None:
        clock = world.account(self.account).clock
        member = self._member(group, state)
        member.launched = member.joins = clock.timestamp()
        if not self._first:
            self._delay(member, state.instance.image_id, wake)
        self.all[member.instance] = member

    def _member(self, group, state) -> Member:
        instance, name = state.instance, self._name(state.instance)
        tags = {t["Key"]: t.get("Value") for t in group.tags}
        windows = instance.platform == "windows"
        zone = state.availability_zone
        ec2 = ec2_backends[self.account][self.region]
        image = ec2.amis.get(instance.image_id)
        architecture = image.architecture if image else instance.architecture
        labels = kube_nodes.labels_of(instance, architecture, self.region, zone, windows)
        labels |= {k.removeprefix(LABEL): v for k, v in tags.items() if k.startswith(LABEL)}
        cluster = self.eks
        managed = cluster.nodegroups.get(tags.get("eks:nodegroup-name")) if cluster else None
        taints = []
        if managed is not None:
            source = nodes.source_of(group, state)
            labels |= kube_nodes.eks_labels(managed, instance.image_id, source)
            taints = kube_nodes.eks_taints(managed)
        return Member(
            instance=instance.id,
            name=name,
            group=group.name,
            node_group=managed.nodegroup_name if managed is not None else None,
            zone=zone,
            address=instance.private_ip,
            kubernetes=cluster.version if cluster else "1.31",
            windows=windows,
            labels=labels,
            taints=taints,
        )

    def _name(self, instance) -> str:
        """Return the name of the node. Addresses are random, so one that is taken is replaced."""
        while instance.private_dns_name in self._names:
            instance.nics[0].private_ip_address = random_private_ip()
        self._names.add(instance.private_dns_name)
        return instance.private_dns_name

    def _delay(self, member: Member, image: str, wake) -> None:
        """Decide when a new instance joins, and how: by the settings, its image, and faults."""
        account = world.account(self.account)
        delay = account.settings.node_join_seconds
        for fault in self._hits(member, image):
            if fault.kind == "node-never-joins":
                delay = None
            elif fault.kind == "node-joins-late" and delay is not None:
                delay += float(fault.options.get("seconds", 600))
            elif fault.kind == "node-not-ready":
                member.ready = False
                member.why = (
                    fault.options.get("reason", member.why[0]),
                    fault.options.get("message", member.why[1]),
                )
                if "seconds" in fault.options and delay is not None:
                    later = delay + float(fault.options["seconds"])
                    account.clock.after(later, lambda: self._recover(member, wake))
        known = ec2_backends[self.account][self.region].amis.get(image)
        if delay is None or not getattr(known, "healthy", True):
            member.joins = None
            return
        member.joins = member.launched + delay
        if delay > 0:
            account.clock.after(delay, wake)

    def _hits(self, member: Member, image: str) -> list:
        """Return the faults of a node that is about to join, which is the operation Join of a service `nodes`."""
        params = {
            "group": member.node_group or member.group,
            "image": image,
            "instance": member.instance,
            "node": member.name,
        }
        call = Call(Request("JOIN", "/", "", {}, b""), "nodes", "Join", self.region, self.account, params=params)
        return self._faults.hit(call)[1]

    @staticmethod
    def _recover(member: Member, wake) -> None:
        member.ready = True
        wake()

    def joined(self) -> list[Member]:
        """Return the members that have joined by now."""
        now = world.account(self.account).clock.timestamp() + asg_instances.ROUNDING
        return [m for m in self.all.values() if m.joins is not None and m.joins <= now]

    def named(self, name: str) -> Member | None:
        """Return a member by the name of its node or the ID of its instance."""
        return self.all.get(name) or next((m for m in self.all.values() if m.name == name), None)
