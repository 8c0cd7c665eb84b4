"""The control interface under /_bed: JSON in, JSON out, executed under the application's lock.

Every endpoint takes `account` (in the body or as ?account=). Without it,
journal, faults, reset and changes of the clock apply to all accounts, and every
other endpoint uses the default account.
"""

import json
import sys
import traceback

from moto.autoscaling.models import autoscaling_backends
from moto.eks.models import eks_backends

from bedkit.control import control as call_route
from bedkit.server import Reply, Request

from . import asg_seed, asg_show, eks, iam, iam_files, kube_control, seed, seed_images, state
from .wire import AwsError
from .world import DEFAULT_ACCOUNT, world

REGION = "us-east-1"


class Refused(Exception):
    """An invalid control request: 400 with the reason."""


def control(app, request: Request) -> Reply:
    try:
        reply = call_route(app, request, ROUTES, _json, (Refused, ValueError))
        if request.method != "GET":
            world.wake_bridges()
        return reply
    except Exception as error:  # a defect of the bed is reported instead of dropping the connection
        traceback.print_exc(file=sys.stderr)
        return _json({"error": f"{type(error).__name__}: {error}"}, 500)


def _json(document, status: int) -> Reply:
    body = json.dumps(document, indent=1, default=str).encode() + b"\n"
    return Reply(status, {"Content-Type": "application/json"}, body)


def _account(asked: dict) -> str:
    account = str(asked.get("account") or DEFAULT_ACCOUNT)
    if len(account) != 12 or not account.isdigit():
        raise Refused(f"account {account!r} is not twelve digits")
    return account


def _where(asked: dict) -> tuple[str, str]:
    account = _account(asked)
    world.account(account).clock.run_due()
    return account, asked.get("region", REGION)


def _chosen(asked: dict) -> list:
    return [world.account(_account(asked))] if asked.get("account") else world.accounts()


def info(app, asked: dict) -> dict:
    return app.info


def read_journal(app, asked: dict) -> list:
    return app.journal.read(asked.get("account"))


def clear_journal(app, asked: dict) -> list:
    return app.journal.clear(asked.get("account"))


def list_faults(app, asked: dict) -> list:
    return app.faults.describe(asked.get("account"))


def add_fault(app, asked: dict) -> dict:
    return app.faults.add(asked).describe()


def clear_faults(app, asked: dict) -> dict:
    fault_id = int(asked["id"]) if "id" in asked else None
    return {"cleared": app.faults.clear(asked.get("account"), fault_id)}


def read_clock(app, asked: dict) -> dict:
    return world.account(_account(asked)).clock.describe()


def change_clock(app, asked: dict) -> dict:
    """`advance` seconds, `freeze` true or false, `speed` factor."""
    settled = True
    for account in _chosen(asked):
        if not account.bridges or "advance" not in asked:
            account.clock.change(asked)
            continue
        account.clock.change({k: v for k, v in asked.items() if k != "advance"})
        settled = kube_control.advance(app, account, float(asked["advance"])) and settled
    if "speed" in asked and not asked.get("account"):
        world.speed = float(asked["speed"])
    return {**read_clock(app, asked), **({} if settled else {"settled": False})}


def read_settings(app, asked: dict) -> dict:
    return world.account(_account(asked)).settings.describe()


def change_settings(app, asked: dict) -> dict:
    wanted = {k: v for k, v in asked.items() if k not in ("account", "region")}
    account = world.account(_account(asked))
    account.settings.change(wanted)
    return account.settings.describe()


def reset(app, asked: dict) -> dict:
    """Delete accounts with all their resources, faults and journal entries."""
    gone = [a.id for a in _chosen(asked)]
    for account in gone:
        kube_control.forget(world.account(account))
        world.forget(account)
        app.journal.clear(account)
        app.faults.clear(account)
        if world.ssh:
            world.ssh.forget(account)
    if not asked.get("account"):
        app.journal.clear()
        app.faults.clear()
    return {"reset": gone}


def seed_account(app, asked: dict) -> dict:
    account, region = _where(asked)
    return seed.seed(account, region, asked.get("cluster", "demo"), asked.get("kubernetes", "1.31"))


def add_base_image(app, asked: dict) -> dict:
    account, region = _where(asked)
    return seed_images.base_image(account, region, asked)


def own_image(app, asked: dict) -> dict:
    account, region = _where(asked)
    return seed_images.own_image(account, region, asked)


def add_group(app, asked: dict) -> dict:
    account, region = _where(asked)
    return seed.add_group(account, region, asked)


def change_cluster(app, asked: dict) -> dict:
    """Set the Kubernetes version (`kubernetes`), as an upgrade of the control plane would."""
    account, region = _where(asked)
    name = asked.get("cluster", "demo")
    cluster = eks_backends[account][region].clusters.get(name)
    if cluster is None:
        raise Refused(f"no cluster {name!r}")
    cluster.version = asked["kubernetes"]
    return {"cluster": name, "kubernetes": cluster.version}


def _group(account: str, region: str, asked: dict):
    cluster = eks_backends[account][region].clusters.get(asked.get("cluster", "demo"))
    group = cluster.nodegroups.get(asked["name"]) if cluster else None
    if group is None:
        raise Refused(f"no node group {asked.get('name')!r} in {asked.get('cluster', 'demo')!r}")
    return cluster, group


def change_group(app, asked: dict) -> dict:
    """Set `tags` and `made_by`, or `status`, with an optional `issue` and `message` for DEGRADED."""
    account, region = _where(asked)
    cluster, group = _group(account, region, asked)
    group.tags |= seed.made_by(cluster, group.nodegroup_name, asked.get("made_by"))
    group.tags |= asked.get("tags", {})
    if "status" not in asked and ("tags" in asked or "made_by" in asked):
        return {"name": group.nodegroup_name, "tags": group.tags}
    group.status = asked["status"]
    group.health = {"issues": []}
    if group.status == "DEGRADED":
        issue = {
            "code": asked.get("issue", "AsgInstanceLaunchFailures"),
            "message": asked.get("message", "Instances failed to launch."),
            "resourceIds": [group.resources["autoScalingGroups"][0]["name"]],
        }
        group.health = {"issues": [issue]}
    return {"name": group.nodegroup_name, "status": group.status, "health": group.health}


def add_auto_scaling_group(app, asked: dict) -> dict:
    account, region = _where(asked)
    return seed.add_auto_scaling_group(account, region, asked)


def _auto_scaling_group(asked: dict):
    account, region = _where(asked)
    group = autoscaling_backends[account][region].autoscaling_groups.get(asked.get("name"))
    if group is None:
        raise Refused(f"no Auto Scaling group {asked.get('name')!r}")
    return group


def change_auto_scaling_group(app, asked: dict) -> dict:
    """Change a group as another writer would: see asg_seed.change."""
    group = _auto_scaling_group(asked)
    try:
        asg_seed.change(group, asked)
    except AwsError as refusal:
        raise Refused(str(refusal)) from None
    return asg_show.summary(group)


def set_alarm(app, asked: dict) -> dict:
    """Set a CloudWatch alarm (`name`) to a `state`: OK, ALARM or INSUFFICIENT_DATA."""
    account, region = _where(asked)
    asg_seed.set_alarm(account, region, asked["name"], asked["state"])
    return {"name": asked["name"], "state": asked["state"]}


def delete_group(app, asked: dict) -> dict:
    """Delete a node group immediately, or through DELETING if `gradually` is true."""
    account, region = _where(asked)
    cluster, group = _group(account, region, asked)
    eks.delete_group(account, region, cluster, group, at_once=not asked.get("gradually"))
    return {"deleted": group.nodegroup_name}


def delete_image(app, asked: dict) -> dict:
    """Deregister an image and keep its snapshots, as a person would by hand."""
    from moto.ec2.models import ec2_backends

    account, region = _where(asked)
    backend = ec2_backends[account][region]
    if asked["id"] not in backend.amis:
        raise Refused(f"no image {asked['id']!r}")
    backend.deregister_image(asked["id"])
    return {"deleted": asked["id"]}


def read_state(app, asked: dict) -> dict:
    return state.describe(*_where(asked))


def connect_cluster(app, asked: dict) -> dict:
    return kube_control.connect(app, *_where(asked), asked)


def disconnect_cluster(app, asked: dict) -> dict:
    return kube_control.disconnect(app, *_where(asked), asked)


def read_nodes(app, asked: dict) -> list:
    return kube_control.show(kube_control.bridge_of(*_where(asked), asked))


def change_node(app, asked: dict) -> dict:
    return kube_control.change_node(kube_control.bridge_of(*_where(asked), asked), asked)


def settle(app, asked: dict) -> dict:
    """Wait for at most `seconds` until the connected clusters have done what is due."""
    account = world.account(_account(asked))
    return {"settled": kube_control.settle(app, account, float(asked.get("seconds", 10)), sees=True)}


def read_keys(app, asked: dict) -> dict:
    from moto.ec2.models import ec2_backends

    account, region = _where(asked)
    return {k.key_name: k.public_key for k in ec2_backends[account][region].key_pairs.values()}


def read_sent(app, asked: dict) -> list:
    return world.account(_account(asked)).sent


def clear_sent(app, asked: dict) -> list:
    account = world.account(_account(asked))
    gone, account.sent = account.sent, []
    return gone


def set_policy(app, asked: dict) -> dict:
    """Attach `document`, `documents`, or `files` of deploy/iam with `values` for their placeholders."""
    account = _account(asked)
    documents = asked.get("documents") or ([asked["document"]] if "document" in asked else [])
    if asked.get("files"):
        where = asked.get("region", REGION)
        documents += iam_files.documents(asked["files"], account, where, asked.get("values"))
    if not documents:
        raise Refused("a policy needs document, documents or files")
    key = asked.get("access_key")
    policy = iam.attach(account, key, documents, asked.get("user", "opsy"))
    return {"access_key": key or iam.ANY_KEY, "user": policy.user, "documents": documents}


def read_policies(app, asked: dict) -> dict:
    policies = world.account(_account(asked)).policies
    return {
        key: {"user": policy.user, "statements": [s.source for s in policy.statements]}
        for key, policy in policies.items()
    }


def clear_policies(app, asked: dict) -> dict:
    policies = world.account(_account(asked)).policies
    gone = [asked["access_key"]] if asked.get("access_key") else list(policies)
    return {"detached": [key for key in gone if policies.pop(key, None)]}


def read_needed(app, asked: dict) -> dict:
    """Return, per statement, the granted checks that depend on it; the list of an unneeded statement is empty."""
    account = _account(asked)
    return {key: iam.needed(account, key) for key in world.account(account).policies}


ROUTES = {
    ("GET", ""): info,
    ("GET", "journal"): read_journal,
    ("DELETE", "journal"): clear_journal,
    ("GET", "faults"): list_faults,
    ("POST", "faults"): add_fault,
    ("DELETE", "faults"): clear_faults,
    ("GET", "clock"): read_clock,
    ("POST", "clock"): change_clock,
    ("GET", "settings"): read_settings,
    ("POST", "settings"): change_settings,
    ("POST", "reset"): reset,
    ("POST", "seed"): seed_account,
    ("POST", "base-image"): add_base_image,
    ("POST", "image"): own_image,
    ("POST", "cluster"): change_cluster,
    ("POST", "new-node-group"): add_group,
    ("POST", "node-group"): change_group,
    ("DELETE", "node-group"): delete_group,
    ("POST", "new-auto-scaling-group"): add_auto_scaling_group,
    ("POST", "auto-scaling-group"): change_auto_scaling_group,
    ("POST", "alarm"): set_alarm,
    ("DELETE", "image"): delete_image,
    ("POST", "connect-cluster"): connect_cluster,
    ("DELETE", "connect-cluster"): disconnect_cluster,
    ("GET", "nodes"): read_nodes,
    ("POST", "node"): change_node,
    ("POST", "settle"): settle,
    ("GET", "state"): read_state,
    ("GET", "keys"): read_keys,
    ("GET", "policy"): read_policies,
    ("POST", "policy"): set_policy,
    ("GET", "policy/needed"): read_needed,
    ("DELETE", "policy"): clear_policies,
    ("GET", "sent"): read_sent,
    ("DELETE", "sent"): clear_sent,
}
