"""The rules of StartInstanceRefresh and RollbackInstanceRefresh, with the errors of EC2 Auto Scaling."""

from . import asg_config
from .asg_config import invalid
from .asg_instances import serving
from .wire import AwsError

ENUMS = {
    "ScaleInProtectedInstances": ["Ignore", "Wait", "Refresh"],
    "StandbyInstances": ["Terminate", "Ignore", "Wait"],
}
RANGES = {
    "MinHealthyPercentage": (0, 100),
    "MaxHealthyPercentage": (100, 200),
    "InstanceWarmup": (0, None),
    "CheckpointDelay": (0, 172_800),
    "BakeTime": (0, 172_800),
}
STRATEGIES = ["Rolling", "ReplaceRootVolume"]
DEFAULT_MINIMUM = 90
DEFAULT_DELAY = 3600
MOST_ALARMS = 10
IN_PROGRESS = (
    "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh."
)
NOT_FOUND = "No in progress or pending Instance Refresh found for Auto Scaling group {name}"
NO_CONFIGURATION = (
    "The request isn't valid. The AutoRollback parameter cannot be set to true when the "
    "DesiredConfiguration parameter is empty. Set AutoRollback to false or specify a desired "
    "configuration and try again."
)
UPDATE_REFUSED = (
    "An active instance refresh with a desired configuration exists. All configuration options "
    "derived from the desired configuration are not available for update while the instance "
    "refresh is active."
)


def in_progress() -> AwsError:
    return AwsError("InstanceRefreshInProgress", IN_PROGRESS)


def not_found(group) -> AwsError:
    return AwsError("ActiveInstanceRefreshNotFound", NOT_FOUND.format(name=group.name))


def check_values(strategy: str, asked: dict) -> None:
    """Check enumerations and ranges, and report all violations at once, as AWS does."""
    found = []
    if strategy not in STRATEGIES:
        found.append(_violation(strategy, "strategy", _one_of(STRATEGIES)))
    for name, allowed in ENUMS.items():
        if name in asked and asked[name] not in allowed:
            found.append(_violation(asked[name], _path(name), _one_of(allowed)))
    for name, (low, high) in RANGES.items():
        value = asked.get(name)
        if value is not None and value < low:
            rule = f"Member must have value greater than or equal to {low}"
            found.append(_violation(value, _path(name), rule))
        if value is not None and high is not None and value > high:
            rule = f"Member must have value less than or equal to {high}"
            found.append(_violation(value, _path(name), rule))
    if found:
        noun = "error" if len(found) == 1 else "errors"
        raise invalid(f"{len(found)} validation {noun} detected: {'; '.join(found)}")


def _path(name: str) -> str:
    return f"preferences.{name[0].lower()}{name[1:]}"


def _one_of(allowed: list[str]) -> str:
    return f"Member must satisfy enum value set: [{', '.join(allowed)}]"


def _violation(value, path: str, rule: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: {rule}"


def preferences_of(group, asked: dict) -> dict:
    """Return the preferences with AWS's defaults, some of which the group defines."""
    policy = getattr(group, "instance_maintenance_policy", None) or {}
    minimum = asked.get("MinHealthyPercentage", policy.get("MinHealthyPercentage", DEFAULT_MINIMUM))
    maximum = asked.get("MaxHealthyPercentage")
    if maximum is None and "MinHealthyPercentage" not in asked:
        maximum = policy.get("MaxHealthyPercentage")
    warmup = getattr(group, "default_instance_warmup", None)
    if warmup is None:
        warmup = group.health_check_grace_period or 0
    given = {k: v for k, v in asked.items() if v is not None}
    filled = {
        "MinHealthyPercentage": minimum,
        "InstanceWarmup": warmup,
        "SkipMatching": False,
        "AutoRollback": False,
        "ScaleInProtectedInstances": "Wait",
        "StandbyInstances": "Wait",
        **given,
    }
    if maximum is not None:
        filled["MaxHealthyPercentage"] = maximum
    if filled.get("CheckpointPercentages"):
        filled.setdefault("CheckpointDelay", DEFAULT_DELAY)
    return filled


def check_preferences(account, asked: dict) -> None:
    minimum, maximum = asked.get("MinHealthyPercentage"), asked.get("MaxHealthyPercentage")
    if maximum is not None and minimum is None:
        raise invalid("MinHealthyPercentage must be specified if MaxHealthyPercentage is specified.")
    if maximum is not None and maximum - minimum > 100:
        raise invalid(
            "The difference between MaxHealthyPercentage and MinHealthyPercentage cannot be greater than 100."
        )
    marks = asked.get("CheckpointPercentages") or []
    if asked.get("CheckpointDelay") is not None and not marks:
        raise invalid("CheckpointPercentages must be specified if CheckpointDelay is specified.")
    if marks != sorted(set(marks)) or any(not 1 <= mark <= 100 for mark in marks):
        raise invalid("CheckpointPercentages must be unique numbers from 1 to 100 in ascending order.")
    _check_alarms(account, (asked.get("AlarmSpecification") or {}).get("Alarms") or [])


def _check_alarms(account, names: list[str]) -> None:
    if len(names) > MOST_ALARMS:
        raise invalid(f"At most {MOST_ALARMS} CloudWatch alarms can be specified.")
    for name in names:
        state = account.alarms.get(name)
        if state is None:
            raise invalid(f"The CloudWatch alarm {name} does not exist.")
        if state != "OK":
            raise invalid(f"The CloudWatch alarm {name} is in the {state} state, but must be OK.")


def check_configuration(group, config: dict | None, preferences: dict) -> None:
    """Check the desired configuration, and the parameters that depend on it."""
    own = asg_config.config_of(group)
    if preferences["AutoRollback"] and not config:
        raise invalid(NO_CONFIGURATION)
    if not own and (config or preferences["SkipMatching"]):
        raise invalid(
            "DesiredConfiguration and SkipMatching are not supported for a group with a launch configuration."
        )
    if config is not None:
        _check_desired(group, config)
    if config or preferences["SkipMatching"]:
        _check_comparable(group, own, config or own)
    if preferences["AutoRollback"]:
        reason = irreversible(group, config)
        if reason:
            raise invalid(f"The AutoRollback parameter cannot be set to true. {reason}")


def _check_comparable(group, own: dict, wanted: dict) -> None:
    """Refuse what makes instances incomparable with a configuration."""
    without = "DesiredConfiguration and SkipMatching are not supported for"
    overrides = [*asg_config.overrides(own), *asg_config.overrides(wanted)]
    if any(o.get("InstanceRequirements") for o in overrides):
        raise invalid(f"{without} a group with InstanceRequirements.")
    if asg_config.by_alias(group, wanted):
        raise invalid(f"{without} a launch template with a Systems Manager parameter as ImageId.")


def _check_desired(group, config: dict) -> None:
    kinds = [k for k in ("LaunchTemplate", "MixedInstancesPolicy") if config.get(k)]
    if len(kinds) != 1:
        raise invalid(
            "DesiredConfiguration must contain either LaunchTemplate or MixedInstancesPolicy."
        )
    template = (config.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
    if kinds == ["MixedInstancesPolicy"] and not template.get("LaunchTemplateSpecification"):
        raise invalid("A mixed instances policy must contain a launch template specification.")
    asg_config.check_names(config)
    asg_config.check(group, config)


def check_roots(group, config: dict | None) -> None:
    """Check what the strategy ReplaceRootVolume requires."""
    own = asg_config.config_of(group)
    wanted = asg_config.overrides(config or {})
    if "MixedInstancesPolicy" not in own or not wanted:
        raise invalid(
            "ReplaceRootVolume requires a mixed instances policy in the group and the desired configuration."
        )
    if any(not o.get("ImageId") for o in wanted):
        raise invalid("ReplaceRootVolume requires an ImageId in every override.")
    if asg_config.floating(own) or asg_config.floating(config):
        raise invalid("ReplaceRootVolume does not support the launch template versions $Latest and $Default.")
    types = {o.get("InstanceType") for o in wanted}
    if any(m.instance.instance_type not in types for m in serving(group)):
        raise invalid("ReplaceRootVolume requires that the policy contains the types of all instances.")
    if group.warm_pool is not None:
        raise invalid("ReplaceRootVolume does not support a group with a warm pool.")


def irreversible(group, config: dict | None) -> str | None:
    """Return why a refresh of a group cannot be rolled back."""
    own = asg_config.config_of(group)
    if not config:
        return "The instance refresh has no desired configuration."
    if not own:
        return "The Auto Scaling group has a launch configuration."
    if asg_config.floating(own):
        return "The Auto Scaling group uses the launch template version $Latest or $Default."
    if asg_config.by_alias(group, own):
        return "The launch template of the Auto Scaling group uses a Systems Manager parameter."
    return None


def check_rollback(refresh) -> None:
    reason = irreversible(refresh.group, refresh.config)
    if reason:
        raise AwsError("IrreversibleInstanceRefresh", reason)


def check_update(refresh, asked: dict) -> None:
    """While a refresh has a desired configuration, only the other settings of its group can be changed."""
    derived = ("LaunchTemplate", "MixedInstancesPolicy", "LaunchConfigurationName")
    if refresh is not None and refresh.config and any(asked.get(k) for k in derived):
        raise invalid(UPDATE_REFUSED)

