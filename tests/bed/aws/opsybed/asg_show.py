"""What the Describe operations of EC2 Auto Scaling return for groups and instances."""

from datetime import datetime

from . import asg_config, asg_hooks
from .asg_refresh import all_of
from .filters import select, tag_value

# AWS's defaults and limits of MaxRecords
PAGE = 50
LARGEST_PAGE = 100


def group(found, with_instances: bool = True) -> dict:
    created = found.created_time
    shown = {
        "AutoScalingGroupName": found.name,
        "AutoScalingGroupARN": found.arn,
        **asg_config.config_of(found),
        "LaunchConfigurationName": getattr(found, "launch_configuration_name", None),
        "MinSize": found.min_size,
        "MaxSize": found.max_size,
        "DesiredCapacity": found.desired_capacity,
        "DefaultCooldown": found.default_cooldown,
        "AvailabilityZones": found.availability_zones,
        "LoadBalancerNames": found.load_balancer_names,
        "TargetGroupARNs": found.target_group_arns,
        "HealthCheckType": found.health_check_type,
        "HealthCheckGracePeriod": found.health_check_grace_period,
        "Instances": [instance(m) for m in found.instance_states] if with_instances else [],
        "CreatedTime": datetime.fromisoformat(created) if isinstance(created, str) else created,
        "SuspendedProcesses": found.suspended_processes,
        "PlacementGroup": found.placement_group,
        "VPCZoneIdentifier": found.vpc_zone_identifier or "",
        "EnabledMetrics": found.enabled_metrics,
        "Tags": found.tags,
        "TerminationPolicies": found.termination_policies,
        "NewInstancesProtectedFromScaleIn": bool(found.new_instances_protected_from_scale_in),
        "ServiceLinkedRoleARN": found.service_linked_role_arn,
        "CapacityRebalance": found.capacity_rebalance,
        "WarmPoolConfiguration": found.warm_pool_configuration,
        "DefaultInstanceWarmup": getattr(found, "default_instance_warmup", None),
        "InstanceMaintenancePolicy": getattr(found, "instance_maintenance_policy", None),
        "MaxInstanceLifetime": getattr(found, "max_instance_lifetime", None),
    }
    return {k: v for k, v in shown.items() if v is not None}


def instance(member) -> dict:
    shown = {
        "InstanceId": member.instance.id,
        "InstanceType": member.instance.instance_type,
        "AvailabilityZone": member.availability_zone,
        "LifecycleState": member.lifecycle_state,
        "HealthStatus": member.health_status,
        "LaunchTemplate": member.launch_template,
        "LaunchConfigurationName": member.launch_configuration_name if not member.launch_template else None,
        "ImageId": getattr(member, "image_id", None),
        "ProtectedFromScaleIn": bool(member.protected_from_scale_in),
    }
    return {k: v for k, v in shown.items() if v is not None}


def filtered(groups: list, wanted: list[dict] | None) -> list:
    def value(found, name: str):
        tags = {t["Key"]: t.get("Value", "") for t in found.tags}
        return list(tags.values()) if name == "tag-value" else tag_value(tags, name)

    return select(groups, wanted, value, "DescribeAutoScalingGroups")


def summary(found) -> dict:
    """Return a group for the state of the account: its configuration, instances, hooks and refreshes."""
    hooks = [h for t in asg_hooks.TRANSITIONS for h in asg_hooks.hooks_of(found, t)]
    return {
        "name": found.name,
        **asg_config.config_of(found),
        "size": [found.min_size, found.desired_capacity, found.max_size],
        "tags": {t["Key"]: t.get("Value", "") for t in found.tags},
        "hooks": {h.name: h.lifecycle_transition for h in hooks},
        "instances": [_member(m) for m in found.instance_states],
        "refreshes": [_times(r.describe()) for r in reversed(all_of(found))],
    }


def _member(member) -> dict:
    return {
        "id": member.instance.id,
        "state": member.lifecycle_state,
        "health": member.health_status,
        "protected": bool(member.protected_from_scale_in),
        "type": member.instance.instance_type,
        "image": member.instance.image_id,
        "version": str((member.launch_template or {}).get("Version", "")),
        "waits_for": sorted(asg_hooks.actions_of(member)),
    }


def _times(shown: dict) -> dict:
    return {k: v.isoformat() + "Z" if isinstance(v, datetime) else v for k, v in shown.items()}
