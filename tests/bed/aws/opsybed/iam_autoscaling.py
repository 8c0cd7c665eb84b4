"""The resources and condition keys that IAM checks for the operations of EC2 Auto Scaling."""

from moto.autoscaling.models import autoscaling_backends

from .iam_scope import Check, Scope, request_tags

# Operations on one group; they support permissions for its ARN and conditions on its tags.
GROUP = {
    "CancelInstanceRefresh",
    "CompleteLifecycleAction",
    "CreateAutoScalingGroup",
    "DeleteAutoScalingGroup",
    "DeleteLifecycleHook",
    "EnterStandby",
    "ExitStandby",
    "PutLifecycleHook",
    "RecordLifecycleActionHeartbeat",
    "ResumeProcesses",
    "RollbackInstanceRefresh",
    "SetDesiredCapacity",
    "SetInstanceProtection",
    "StartInstanceRefresh",
    "SuspendProcesses",
    "UpdateAutoScalingGroup",
}
# Operations on one instance, which are checked for its group.
INSTANCE = {"SetInstanceHealth", "TerminateInstanceInAutoScalingGroup"}
TAGS = {"CreateOrUpdateTags", "DeleteTags"}
CONFIGURES = {"CreateAutoScalingGroup", "UpdateAutoScalingGroup"}


def checks(scope: Scope, operation: str, params: dict) -> list[Check] | None:
    """Return the checks of an operation, or None if it is unknown."""
    action = f"autoscaling:{operation}"
    if operation.startswith("Describe"):
        return [Check(action, "*", scope.everywhere())]
    if operation in GROUP:
        keys = _configuration_keys(params) if operation in CONFIGURES else {}
        return [_group(scope, action, params["AutoScalingGroupName"], keys)]
    if operation in INSTANCE:
        return [_group(scope, action, _group_of(scope, params.get("InstanceId")), {})]
    if operation in TAGS:
        names = {t.get("ResourceId", "") for t in params.get("Tags") or []}
        return [_group(scope, action, n, _tag_keys(params)) for n in sorted(names)]
    return None


def _known(scope: Scope) -> dict:
    if scope.account not in dict.keys(autoscaling_backends):
        return {}
    regions = autoscaling_backends[scope.account]
    return regions[scope.region].autoscaling_groups if scope.region in dict.keys(regions) else {}


def _group(scope: Scope, action: str, name: str, keys: dict) -> Check:
    found = _known(scope).get(name)
    arn = scope.arn("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{name}")
    tags = {t["Key"]: t.get("Value", "") for t in found.tags} if found else {}
    about = {
        f"{prefix}:resourcetag/{key.lower()}": [str(value)]
        for key, value in tags.items()
        for prefix in ("aws", "autoscaling")
    }
    return Check(action, found.arn if found else arn, {**scope.everywhere(), **about, **keys})


def _group_of(scope: Scope, instance_id: str | None) -> str:
    members = ((m.instance.id, g.name) for g in _known(scope).values() for m in g.instance_states)
    return next((name for known, name in members if known == instance_id), "*")


def _tag_keys(params: dict) -> dict[str, list[str]]:
    return request_tags({t["Key"]: t.get("Value", "") for t in params.get("Tags") or []})


def _configuration_keys(params: dict) -> dict[str, list[str]]:
    """Return the keys about the launch template, the sizes and the subnets, and the tags of a new group."""
    keys = _tag_keys(params)
    policy = (params.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
    spec = params.get("LaunchTemplate") or policy.get("LaunchTemplateSpecification")
    if spec:
        numbered = str(spec.get("Version") or "").isdigit()
        keys["autoscaling:launchtemplateversionspecified"] = [str(numbered).lower()]
    if params.get("LaunchConfigurationName"):
        keys["autoscaling:launchconfigurationname"] = [params["LaunchConfigurationName"]]
    # A key is present only if the request contains the parameter; there is none for the desired capacity.
    for name in ("MinSize", "MaxSize"):
        if params.get(name) is not None:
            keys[f"autoscaling:{name.lower()}"] = [str(params[name])]
    if params.get("VPCZoneIdentifier"):
        keys["autoscaling:vpczoneidentifiers"] = params["VPCZoneIdentifier"].split(",")
    return keys
