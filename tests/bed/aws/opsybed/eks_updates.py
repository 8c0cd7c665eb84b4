"""The course of node group updates: InProgress, nodes replaced one by one, then Successful or Failed."""

import json
import uuid

from moto.ec2.models import ec2_backends

from . import eks_rolling, iam, nodes
from .eks_dry_run import try_launch
from .eks_rules import busy, check_version_update, invalid
from .world import world

# EKS's messages; other codes have a generic message.
FAILURES = {
    "PodEvictionFailure": (
        "Reached max retries while trying to evict pods from nodes in node group {group}"
    ),
    "NodeCreationFailure": (
        "Couldn't proceed with upgrade process as new nodes are not joining node group {group}"
    ),
}


def activate(group) -> None:
    if group.status in ("CREATING", "UPDATING"):
        group.status = "ACTIVE"


def start_version(response, group) -> dict:
    asked = world.call.params
    earlier = _repeated(response, group, asked)
    if earlier:
        return earlier
    _refuse_busy(response, group)
    version = check_version_update(group, asked, response.current_account, response.region)
    iam.try_launch(world.call, group, version)
    try_launch(response.current_account, response.region, group, version)
    if version is None:
        asked = _eks_release(response, group, asked)
    params = _version_params(asked, version)
    update = _record(response, group, "VersionUpdate", params)
    account = world.account(response.current_account)
    bridge = account.bridges.get((response.region, group.cluster_name))
    failure = _failure(response, version, connected=bridge is not None)
    if bridge is not None and version is not None and not failure:
        _roll_connected(bridge, group, update, version, asked)
        return update
    if failure and failure["errorCode"] == "PodEvictionFailure":
        failure.setdefault("resourceIds", _stuck_nodes(response, group))
    seconds = account.settings.nodegroup_update_seconds
    if failure and "seconds" in failure:
        seconds = float(failure["seconds"])
    _roll(response, group, version, seconds, failure)

    def finish() -> None:
        if update["status"] != "InProgress":
            return
        if failure:
            _fail(group, update, failure)
            if failure.get("shows_new_version"):
                _show(group, version, asked)
        else:
            _succeed(group, update, version, asked)

    account.clock.after(seconds, finish)
    return update


def _roll_connected(bridge, group, update: dict, version, asked: dict) -> None:
    """Replace the nodes as EKS does, with drains and waits for nodes (see eks_rolling)."""

    def succeed() -> None:
        if update["status"] == "InProgress":
            _succeed(group, update, version, asked)

    def fail(code: str, resources: list[str]) -> None:
        if update["status"] == "InProgress":
            _fail(group, update, {"errorCode": code, "resourceIds": resources})

    eks_rolling.begin(bridge, group, version, bool(asked.get("force")), succeed, fail)


def _refuse_busy(response, group) -> None:
    """A setting decides whether a DEGRADED group accepts updates, because AWS does not document it."""
    ready = {"ACTIVE"}
    if world.account(response.current_account).settings.degraded_accepts_updates:
        ready.add("DEGRADED")
    if group.status not in ready:
        raise busy(group.cluster_name, group.nodegroup_name)


def start_config(response, group) -> dict:
    asked = world.call.params
    earlier = _repeated(response, group, asked)
    if earlier:
        return earlier
    _refuse_busy(response, group)
    kinds = {
        "labels": "LabelsToAdd",
        "taints": "TaintsToAdd",
        "scalingConfig": "DesiredSize",
        "updateConfig": "MaxUnavailable",
        "nodeRepairConfig": "NodeRepairEnabled",
    }
    params = [{"type": t, "value": json.dumps(asked[k])} for k, t in kinds.items() if asked.get(k)]
    update = _record(response, group, "ConfigUpdate", params)
    account = world.account(response.current_account)

    def finish() -> None:
        if update["status"] != "InProgress":
            return
        _apply_config(group, asked)
        update["status"], group.status = "Successful", "ACTIVE"

    account.clock.after(account.settings.nodegroup_config_seconds, finish)
    return update


def _apply_config(group, asked: dict) -> None:
    labels = asked.get("labels") or {}
    group.labels.update(labels.get("addOrUpdateLabels") or {})
    for key in labels.get("removeLabels") or []:
        group.labels.pop(key, None)
    if asked.get("scalingConfig"):
        group.scaling_config = {**group.scaling_config, **asked["scalingConfig"]}
    if asked.get("updateConfig"):
        kept = _without_limits(group.update_config)
        if world.account(group.arn.split(":")[4]).settings.config_update_resets:
            kept = {"updateStrategy": "DEFAULT"}
        group.update_config = {**kept, **asked["updateConfig"]}
    if asked.get("nodeRepairConfig"):
        group.node_repair_config = asked["nodeRepairConfig"]


def _without_limits(config: dict | None) -> dict:
    limits = ("maxUnavailable", "maxUnavailablePercentage")
    return {k: v for k, v in (config or {}).items() if k not in limits}


def _repeated(response, group, asked: dict) -> dict | None:
    """Return the update that an equal request with the same token has started."""
    token = asked.get("clientRequestToken")
    if not token:
        return None
    account = world.account(response.current_account)
    key = (f"eks:{response.region}:{group.cluster_name}:{group.nodegroup_name}", token)
    fingerprint = json.dumps([world.call.operation, asked], sort_keys=True, default=str)
    before = account.tokens.get(key)
    if before is None:
        return None
    if before[0] != fingerprint:
        raise invalid(f"The clientRequestToken {token} was used with different parameters.")
    return before[1]


def _record(response, group, kind: str, params: list[dict]) -> dict:
    account, asked = world.account(response.current_account), world.call.params
    now = account.clock.now()
    update = {
        "id": str(uuid.uuid4()),
        "status": "InProgress",
        "type": kind,
        "params": params,
        "createdAt": now,
        "errors": [],
    }
    group.status, group.modified_at = "UPDATING", now
    scope = (response.region, group.cluster_name, group.nodegroup_name)
    account.updates[(*scope, update["id"])] = update
    if asked.get("clientRequestToken"):
        key = (f"eks:{':'.join(scope)}", asked["clientRequestToken"])
        fingerprint = json.dumps([world.call.operation, asked], sort_keys=True, default=str)
        account.tokens[key] = (fingerprint, update)
    return update


def _eks_release(response, group, asked: dict) -> dict:
    """A group with EKS's own images is updated to the newest release unless the request names one."""
    where = (response.current_account, response.region)
    version = asked.get("version") or group.version
    newest = nodes.recommended(*where, version, "release_version") or group.release_version
    return {**asked, "version": version, "releaseVersion": asked.get("releaseVersion") or newest}


def _version_params(asked: dict, version) -> list[dict]:
    if version is None:
        return [
            {"type": "Version", "value": asked["version"]},
            {"type": "ReleaseVersion", "value": asked["releaseVersion"]},
        ]
    return [
        {"type": "LaunchTemplateName", "value": version.template.name},
        {"type": "LaunchTemplateVersion", "value": str(version.number)},
    ]


def _failure(response, version, connected: bool) -> dict | None:
    """Return how this update will fail: because of a fault, or because no node can start from its image.

    In a connected cluster, nodes of an image that does not work do not join, which fails the update later.
    """
    fault = world.effect("nodegroup-update-fails")
    if fault:
        return {"errorCode": "NodeCreationFailure", **fault.options}
    image_id = version.data.get("ImageId") if version else None
    if not image_id:
        return None
    ami = ec2_backends[response.current_account][response.region].amis.get(image_id)
    if ami is None or ami.state != "available":
        return {"errorCode": "NodeCreationFailure", "issue": "AmiIdNotFound"}
    return None if connected or getattr(ami, "healthy", True) else {"errorCode": "NodeCreationFailure"}


def _stuck_nodes(response, group) -> list[str]:
    """Return the names of the nodes that could not be drained: here, the first one of the group."""
    where = (response.current_account, response.region)
    backend, found = ec2_backends[where[0]][where[1]], nodes.instances(*where, group)
    return [backend.get_instance(i).private_dns_name for i in found[:1]]


def _roll(response, group, version, seconds: float, failure: dict | None) -> None:
    """Replace the nodes at equal intervals; a failing update instead restores the old version at its end.

    With the option shows_new_version, a failing update replaces the nodes like a successful one.
    """
    if version is None:
        return
    account = world.account(response.current_account)
    where = (response.current_account, response.region, group)
    old = nodes.prepare(*where, version)
    waiting = nodes.instances(*where)
    if failure and not failure.get("shows_new_version"):
        account.clock.after(seconds, lambda: nodes.back(*where, old))
        return
    for index, instance_id in enumerate(waiting, start=1):
        moment = seconds * index / (len(waiting) + 1)
        account.clock.after(moment, lambda i=instance_id: nodes.replace(*where, i))


def _succeed(group, update: dict, version, asked: dict) -> None:
    update["status"], group.status = "Successful", "ACTIVE"
    group.health = {"issues": []}
    _show(group, version, asked)


def _show(group, version, asked: dict) -> None:
    """Make DescribeNodegroup return the version of the update."""
    if version is None:
        group.version, group.release_version = asked["version"], asked["releaseVersion"]
        return
    group.launch_template = {**group.launch_template, "version": str(version.number)}
    if version.data.get("ImageId"):
        group.release_version = version.data["ImageId"]


def _fail(group, update: dict, failure: dict) -> None:
    """Set the update to Failed, and the group to ACTIVE, or to DEGRADED if the fault requests it."""
    code = failure["errorCode"]
    text = FAILURES.get(code, "The update of node group {group} failed")
    message = failure.get("message") or text.format(group=group.nodegroup_name)
    resources = failure.get("resourceIds") or [group.nodegroup_name]
    update["status"] = "Failed"
    update["errors"] = [{"errorCode": code, "errorMessage": message, "resourceIds": resources}]
    group.status = "DEGRADED" if failure.get("degraded") else "ACTIVE"
    if failure.get("degraded"):
        issue = {"code": failure.get("issue", code), "message": message, "resourceIds": resources}
        group.health = {"issues": [issue]}
