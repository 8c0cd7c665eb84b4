"""EKS: clusters and managed node groups; updates run in eks_updates."""

import moto.eks.utils as eks_utils
from moto.core.responses import ActionResult, EmptyResult
from moto.eks.responses import EKSResponse

from . import eks_updates, nodes
from .eks_rules import (
    check_template_data,
    cluster_missing,
    group_missing,
    invalid,
    resolve_template,
    update_config_of,
)
from .paging import eks_page
from .wire import AwsError
from .world import world

DEFAULT_AMI_TYPE = "AL2023_x86_64_STANDARD"


class BedEKS(EKSResponse):
    def _param(self, name: str, default=None):
        return world.call.params.get(name, default)

    def _cluster(self):
        name = self._param("clusterName") or self._param("name")
        if name not in self.eks_backend.clusters:
            raise cluster_missing(name)
        return self.eks_backend.clusters[name]

    def _group(self):
        cluster, name = self._cluster(), self._param("nodegroupName")
        if name not in cluster.nodegroups:
            raise group_missing(cluster.name, name)
        return cluster.nodegroups[name]

    def create_cluster(self):
        answer = super().create_cluster()
        cluster = answer.result["cluster"]
        cluster.created_at = world.account(self.current_account).clock.now()
        return answer

    def create_nodegroup(self):
        cluster, asked = self._cluster(), world.call.params
        template = asked.get("launchTemplate")
        version = (
            resolve_template(self.current_account, self.region, template) if template else None
        )
        custom = check_creation(asked, version, cluster.version)
        group = self.eks_backend.create_nodegroup(
            cluster_name=cluster.name,
            node_role=asked["nodeRole"],
            nodegroup_name=asked["nodegroupName"],
            subnets=asked["subnets"],
            scaling_config=asked.get("scalingConfig"),
            labels=asked.get("labels"),
            taints=asked.get("taints"),
            tags=asked.get("tags"),
            capacity_type=asked.get("capacityType"),
            version=asked.get("version") or cluster.version,
        )
        shape_group(group, asked, version, custom)
        nodes.create(self.current_account, self.region, group, version)
        account = world.account(self.current_account)
        group.created_at = group.modified_at = account.clock.now()
        group.status = "CREATING"
        account.clock.after(
            account.settings.nodegroup_create_seconds, lambda: eks_updates.activate(group)
        )
        return ActionResult({"nodegroup": group})

    def describe_nodegroup(self):
        return ActionResult({"nodegroup": self._group()})

    def list_nodegroups(self):
        names, token = eks_page(sorted(self._cluster().nodegroups))
        return ActionResult({"nodegroups": names, "nextToken": token})

    def delete_nodegroup(self):
        cluster, group = self._cluster(), self._group()
        delete_group(self.current_account, self.region, cluster, group)
        return ActionResult({"nodegroup": group})

    def update_nodegroup_version(self):
        group = self._group()
        return ActionResult({"update": eks_updates.start_version(self, group)})

    def update_nodegroup_config(self):
        group = self._group()
        update_config_of(self._param("updateConfig"))
        return ActionResult({"update": eks_updates.start_config(self, group)})

    def describe_update(self):
        cluster, update_id = self._cluster(), self._param("updateId")
        if self._param("nodegroupName"):
            self._group()
        key = (self.region, cluster.name, self._param("nodegroupName") or "", update_id)
        update = world.account(self.current_account).updates.get(key)
        if update is None:
            raise AwsError(
                "ResourceNotFoundException",
                f"No update found for id: {update_id}",
                404,
                clusterName=cluster.name,
            )
        return ActionResult({"update": update})

    def list_updates(self):
        cluster = self._cluster()
        if self._param("nodegroupName"):
            self._group()
        scope = (self.region, cluster.name, self._param("nodegroupName") or "")
        ids = [k[3] for k in world.account(self.current_account).updates if k[:3] == scope]
        # AWS defines no order: sorted random IDs have no meaningful order either
        chosen, token = eks_page(sorted(ids))
        return ActionResult({"updateIds": chosen, "nextToken": token})

    def tag_resource(self):
        self._tags().update(self._param("tags"))
        return EmptyResult()

    def untag_resource(self):
        keys = self._param("tagKeys")
        for key in keys if isinstance(keys, list) else [keys]:
            self._tags().pop(key, None)
        return EmptyResult()

    def list_tags_for_resource(self):
        return ActionResult({"tags": dict(self._tags())})

    def _tags(self) -> dict[str, str]:
        arn = self._param("resourceArn")
        for cluster in self.eks_backend.clusters.values():
            for resource in (cluster, *cluster.nodegroups.values()):
                if resource.arn == arn:
                    return resource.tags
        raise AwsError("NotFoundException", f"No resource found for ARN: {arn}", 404)


def check_creation(asked: dict, version, cluster_version: str) -> bool:
    """Check the request by EKS's rules and return whether the group is of type CUSTOM."""
    image = version.data.get("ImageId") if version else None
    ami_type = asked.get("amiType")
    if version:
        check_template_data(version)
        if asked.get("diskSize"):
            raise invalid("Disk size must be specified within the launch template.")
        if asked.get("remoteAccess"):
            raise invalid("Remote access configuration cannot be specified with a launch template.")
        if asked.get("instanceTypes") and version.data.get("InstanceType"):
            raise invalid(
                "You cannot specify instance types in both the launch template and the request."
            )
    if image and ami_type not in (None, "CUSTOM"):
        raise invalid(
            "You cannot specify an AMI Type other than CUSTOM, when specifying an image id in "
            "your launch template"
        )
    if image and (asked.get("version") or asked.get("releaseVersion")):
        raise invalid(
            "You cannot specify a kubernetes version to use when specifying an image id to use "
            "within the launch template."
        )
    if ami_type == "CUSTOM" and not image:
        raise invalid("Launch template details can't be null for Custom ami type node group")
    if asked.get("version") not in (None, cluster_version):
        raise invalid(
            "Nodegroup Kubernetes version should be equal to Cluster kubernetes version "
            f"{cluster_version}"
        )
    return bool(image)


def shape_group(group, asked: dict, version, custom: bool) -> None:
    """Set the fields that DescribeNodegroup shows and whose moto defaults differ from EKS."""
    group.health = {"issues": []}
    group.update_config = update_config_of(asked.get("updateConfig")) or {"maxUnavailable": 1}
    group.remote_access = asked.get("remoteAccess")
    group.resources = {"autoScalingGroups": [{"name": f"eks-{group.nodegroup_name}-{group.uuid}"}]}
    group.launch_template = None
    group.disk_size = asked.get("diskSize") or (None if version else 20)
    group.instance_types = asked.get("instanceTypes") or (None if version else ["t3.medium"])
    group.ami_type = "CUSTOM" if custom else asked.get("amiType") or DEFAULT_AMI_TYPE
    group.release_version = asked.get("releaseVersion") or f"{group.version}.0-20260801"
    if version:
        group.launch_template = {
            "id": version.template.id,
            "name": version.template.name,
            "version": str(version.number),
        }
    if custom:
        group.release_version = version.data["ImageId"]


def delete_group(account_id: str, region: str, cluster, group, at_once: bool = False) -> None:
    account = world.account(account_id)
    group.status = "DELETING"

    def gone() -> None:
        if cluster.nodegroups.pop(group.nodegroup_name, None) is not None:
            cluster.nodegroup_count -= 1
            nodes.remove(account_id, region, group)

    account.clock.after(0 if at_once else account.settings.nodegroup_delete_seconds, gone)


def patch() -> None:
    """moto reads its list of partitions from disk for every role ARN (70 ms); here it is read once."""
    partitions = tuple(eks_utils.Session().get_available_partitions())

    class Partitions:
        def get_available_partitions(self) -> tuple[str, ...]:
            return partitions

    eks_utils.Session = Partitions
