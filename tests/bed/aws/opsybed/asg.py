"""EC2 Auto Scaling: groups, instances, lifecycle hooks and instance refreshes, which run in asg_rolling."""

from datetime import timedelta
from types import SimpleNamespace

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from . import asg_activities, asg_config, asg_hooks, asg_instances, asg_rolling, asg_rules, asg_show, iam
from .asg_config import invalid
from .asg_refresh import Refresh, active, all_of
from .paging import page
from .wire import AwsError
from .world import world

FAULTS = ("refresh-fails", "refresh-hangs", "instances-unhealthy", "rollback-fails", "cancel-slow")
# settings of groups that moto does not store: parameter -> attribute
FURTHER = {
    "DefaultInstanceWarmup": "default_instance_warmup",
    "InstanceMaintenancePolicy": "instance_maintenance_policy",
    "MaxInstanceLifetime": "max_instance_lifetime",
}
# how long DescribeInstanceRefreshes shows a refresh
REMEMBERED = timedelta(weeks=6)


class BedAutoScaling(AutoScalingResponse):
    def call_action(self):
        """After a change of any kind, active refreshes do what it makes possible."""
        answer = super().call_action()
        if not world.call.operation.startswith("Describe"):
            for group in list(self.autoscaling_backend.autoscaling_groups.values()):
                asg_rolling.advance(group)
        return answer

    def _group(self):
        return group_of(self.autoscaling_backend, self._get_param("AutoScalingGroupName"))

    def _page(self, items: list) -> tuple[list, str | None]:
        limit = self._get_param("MaxRecords")
        if limit is not None and not 1 <= limit <= asg_show.LARGEST_PAGE:
            raise invalid(f"MaxRecords must be from 1 to {asg_show.LARGEST_PAGE}, but is {limit}.")
        bad = AwsError("InvalidNextToken", "The NextToken value is not valid.")
        return page(items, limit or asg_show.PAGE, self._get_param("NextToken"), bad)

    def create_auto_scaling_group(self):
        name = self._get_param("AutoScalingGroupName")
        if name in self.autoscaling_backend.autoscaling_groups:
            raise AwsError("AlreadyExists", f"AutoScalingGroup by this name already exists - {name}")
        config = self._named_configuration()
        asg_config.check_names(config)
        if config:
            self._check_launch(self._future_group(), config)
        answer = super().create_auto_scaling_group()
        group = self._group()
        group.created_time = world.account(self.current_account).clock.now()
        group.health_check_grace_period = self._get_param("HealthCheckGracePeriod") or 0
        self._store_further(group)
        return answer

    def _future_group(self) -> SimpleNamespace:
        """Return what the checks of a launch need of the group that is to be created."""
        return SimpleNamespace(
            ec2_backend=self.autoscaling_backend.ec2_backend,
            account_id=self.current_account,
            region=self.region,
            vpc_zone_identifier=self._get_param("VPCZoneIdentifier"),
        )

    def _check_launch(self, group, config: dict) -> None:
        asg_config.check(group, config)
        iam.try_group_launch(world.call, group, asg_config.specs(config))

    def _named_configuration(self) -> dict:
        kinds = ("LaunchTemplate", "MixedInstancesPolicy")
        return {k: self._get_param(k) for k in kinds if self._get_param(k)}

    def _store_further(self, group) -> None:
        for name, attribute in FURTHER.items():
            value = self._get_param(name)
            if value is not None:
                cleared = value == -1 or (isinstance(value, dict) and -1 in value.values())
                setattr(group, attribute, None if cleared else value)

    def update_auto_scaling_group(self):
        group, config = self._group(), self._named_configuration()
        asg_rules.check_update(active(group), world.call.params)
        asg_config.check_names(config)
        if config:
            self._check_launch(group, config)
        kept = group.mixed_instances_policy
        answer = super().update_auto_scaling_group()
        if not config and not self._get_param("LaunchConfigurationName"):
            group.mixed_instances_policy = kept
        self._store_further(group)
        return answer

    def describe_auto_scaling_groups(self):
        names, filters = self._get_param("AutoScalingGroupNames", []), self._get_param("Filters")
        most = self._get_param("MaxRecords") or asg_show.PAGE
        if len(names) > most:
            raise invalid(f"At most {most} group names can be specified.")
        groups = list(self.autoscaling_backend.autoscaling_groups.values())
        groups = [g for g in groups if not names or g.name in names]
        if world.account(self.current_account).settings.short_pages:
            chosen, token = self._page(groups)
            chosen = asg_show.filtered(chosen, filters)
        else:
            chosen, token = self._page(asg_show.filtered(groups, filters))
        members = self._get_param("IncludeInstances") is not False
        shown = [asg_show.group(g, members) for g in chosen]
        return ActionResult({"AutoScalingGroups": shown, "NextToken": token})

    def describe_auto_scaling_instances(self):
        ids = self._get_param("InstanceIds", [])
        groups = self.autoscaling_backend.autoscaling_groups.values()
        found = [
            {**asg_show.instance(m), "AutoScalingGroupName": g.name}
            for g in groups
            for m in g.instance_states
            if not ids or m.instance.id in ids
        ]
        chosen, token = self._page(found)
        return ActionResult({"AutoScalingInstances": chosen, "NextToken": token})

    def describe_scaling_activities(self):
        name = self._get_param("AutoScalingGroupName")
        if self._get_param("Filters"):
            raise unsupported("filters of DescribeScalingActivities")
        groups = self.autoscaling_backend.autoscaling_groups.values()
        chosen = [self._group()] if name else list(groups)
        chosen, token = self._page([a for g in chosen for a in asg_activities.of(g)])
        return ActionResult({"Activities": chosen, "NextToken": token})

    def put_lifecycle_hook(self):
        group, transition = self._group(), self._get_param("LifecycleTransition")
        key = f"{group.name}_{self._get_param('LifecycleHookName')}"
        before = self.autoscaling_backend.lifecycle_hooks.get(key)
        if before is None and transition not in asg_hooks.TRANSITIONS:
            raise invalid(f"LifecycleTransition must be one of {', '.join(asg_hooks.TRANSITIONS)}.")
        answer = super().put_lifecycle_hook()
        hook = self.autoscaling_backend.lifecycle_hooks[key]
        hook.lifecycle_transition = transition or before.lifecycle_transition
        hook.role_arn = self._get_param("RoleARN")
        hook.notification_target_arn = self._get_param("NotificationTargetARN")
        hook.notification_metadata = self._get_param("NotificationMetadata")
        most = asg_hooks.MOST_HEARTBEATS * hook.heartbeat_timeout
        hook.global_timeout = min(asg_hooks.LONGEST_WAIT, most)
        return answer

    def describe_lifecycle_hooks(self):
        self._group()
        return super().describe_lifecycle_hooks()

    def complete_lifecycle_action(self):
        asg_hooks.complete(self._group(), self._get_param("LifecycleHookName"), world.call.params)
        return EmptyResult()

    def record_lifecycle_action_heartbeat(self):
        asg_hooks.heartbeat(self._group(), self._get_param("LifecycleHookName"), world.call.params)
        return EmptyResult()

    def start_instance_refresh(self):
        group = self._group()
        faults = {k: dict(world.effect(k).options) for k in FAULTS if world.effect(k)}
        refresh = start(group, world.call.params, faults, world.call)
        return ActionResult({"InstanceRefreshId": refresh.id})

    def describe_instance_refreshes(self):
        group, ids = self._group(), self._get_param("InstanceRefreshIds", [])
        oldest = world.account(self.current_account).clock.now() - REMEMBERED
        found = [r for r in reversed(all_of(group)) if r.created >= oldest]
        chosen, token = self._page([r for r in found if not ids or r.id in ids])
        return ActionResult({"InstanceRefreshes": [r.describe() for r in chosen], "NextToken": token})

    def cancel_instance_refresh(self):
        group = self._group()
        refresh = active(group)
        if refresh is None:
            raise asg_rules.not_found(group)
        slow = world.effect("cancel-slow")
        if slow:
            refresh.faults["cancel-slow"] = slow.options
        if refresh.status != "Cancelling":
            asg_rolling.cancel(refresh, self._get_param("WaitForTransitioningInstances") is not False)
        return ActionResult({"InstanceRefreshId": refresh.id})

    def rollback_instance_refresh(self):
        group = self._group()
        refresh = active(group)
        if refresh is None or refresh.status not in ("Pending", "InProgress", "Baking"):
            raise asg_rules.not_found(group)
        asg_rules.check_rollback(refresh)
        failing = world.effect("rollback-fails")
        if failing:
            refresh.faults["rollback-fails"] = dict(failing.options)
        asg_rolling.start_rollback(refresh, "Rollback due to user request.")
        return ActionResult({"InstanceRefreshId": refresh.id})


def group_of(backend, name: str):
    group = backend.autoscaling_groups.get(name)
    if group is None:
        raise invalid(f"AutoScalingGroup name not found - AutoScalingGroup {name} not found")
    return group


def unsupported(what: str) -> AwsError:
    return AwsError("UnsupportedOperation", f"The test bed does not emulate {what}.")


def start(group, asked: dict, faults: dict, call=None) -> Refresh:
    """Start a refresh by the rules; `call` is that of a client whose permissions are checked."""
    account = world.account(group.account_id)
    given, config = asked.get("Preferences") or {}, asked.get("DesiredConfiguration") or None
    strategy = asked.get("Strategy") or "Rolling"
    asg_rules.check_values(strategy, given)
    if active(group) is not None:
        raise asg_rules.in_progress()
    asg_rules.check_preferences(account, given)
    preferences = asg_rules.preferences_of(group, given)
    asg_rules.check_configuration(group, config, preferences)
    if not asg_config.config_of(group):
        raise unsupported("instance refreshes of groups with a launch configuration")
    if strategy == "ReplaceRootVolume":
        asg_rules.check_roots(group, config)
    if config and call is not None:
        iam.try_group_launch(call, group, asg_config.specs(config))
    due = {m.instance.id for m in group.instance_states} - {
        m.instance.id for m in asg_instances.terminating(group)
    }
    named = asg_config.with_names(group, config) if config else None
    refresh = Refresh(group, strategy, named, preferences, account.clock.now(), due, faults=faults)
    refresh.total = refresh.remaining = len(refresh.old())
    account.refreshes.setdefault(group.arn, []).append(refresh)
    asg_rolling.schedule(refresh)
    return refresh


def patch() -> None:
    asg_instances.patch()
    asg_instances.listeners[:] = [asg_rolling.advance]
    asg_instances.configurations[:] = [asg_rolling.configuration]
