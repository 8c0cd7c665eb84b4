"""The resources that IAM checks for the operations of services other than EC2."""

from email.utils import parseaddr

from moto.eks.models import eks_backends

from . import iam_autoscaling
from .iam_launch import pass_role
from .iam_scope import Check, Scope, resource_tags

CLUSTER = ("DescribeCluster", "ListNodegroups", "DeleteCluster")
GROUP = ("DescribeNodegroup", "UpdateNodegroupVersion", "UpdateNodegroupConfig", "DeleteNodegroup")
UPDATES = ("DescribeUpdate", "ListUpdates")
TAGS = ("TagResource", "UntagResource", "ListTagsForResource")
# This call is always allowed, regardless of policies.
FREE = {("sts", "GetCallerIdentity")}


def checks(scope: Scope, service: str, operation: str, params: dict) -> list[Check] | None:
    """Return the checks of an operation, or None if it is unknown."""
    if (service, operation) in FREE:
        return []
    by_service = {
        "eks": _eks,
        "sns": _sns,
        "sesv2": _ses,
        "ssm": _ssm,
        "sts": _sts,
        "autoscaling": iam_autoscaling.checks,
        "iam": _iam,
    }
    return by_service[service](scope, operation, params) if service in by_service else None


def _eks(scope: Scope, operation: str, params: dict) -> list[Check] | None:
    action = f"eks:{operation}"
    name = params.get("clusterName") or params.get("name")
    if operation == "ListClusters":
        return [Check(action, "*", scope.everywhere())]
    if operation in ("CreateCluster", *CLUSTER):
        return [_cluster(scope, action, name)]
    if operation == "CreateNodegroup":
        role = pass_role(scope, params["nodeRole"], "eks.amazonaws.com")
        return [_cluster(scope, action, name), role]
    if operation in GROUP:
        return [_group(scope, action, name, params["nodegroupName"])]
    if operation in UPDATES:
        found = [_cluster(scope, action, name)]
        group = params.get("nodegroupName")
        return found + ([_group(scope, action, name, group)] if group else [])
    if operation in TAGS:
        return [Check(action, params["resourceArn"], scope.everywhere())]
    return None


def _cluster_of(scope: Scope, name: str):
    if scope.account not in dict.keys(eks_backends):
        return None
    regions = eks_backends[scope.account]
    return regions[scope.region].clusters.get(name) if scope.region in dict.keys(regions) else None


def _cluster(scope: Scope, action: str, name: str) -> Check:
    found = _cluster_of(scope, name)
    tags = resource_tags(dict(found.tags or {})) if found else {}
    return Check(action, scope.arn("eks", f"cluster/{name}"), {**scope.everywhere(), **tags})


def _group(scope: Scope, action: str, cluster: str, name: str) -> Check:
    found = _cluster_of(scope, cluster)
    group = found.nodegroups.get(name) if found else None
    tags = resource_tags(dict(group.tags or {})) if group else {}
    arn = scope.arn("eks", f"nodegroup/{cluster}/{name}/{group.uuid if group else '*'}")
    return Check(action, arn, {**scope.everywhere(), **tags})


def _sns(scope: Scope, operation: str, params: dict) -> list[Check] | None:
    topic = params.get("TopicArn") or params.get("TargetArn")
    if operation == "ListTopics":
        topic = "*"
    if operation == "CreateTopic":
        topic = scope.arn("sns", params["Name"])
    return [Check(f"SNS:{operation}", topic or "*", scope.everywhere())]


def _ses(scope: Scope, operation: str, params: dict) -> list[Check] | None:
    """Mail is sent by an identity: the address if it is one, else its domain."""
    action = f"ses:{operation}"
    if operation != "SendEmail":
        identity = params.get("EmailIdentity")
        return [Check(action, scope.arn("ses", f"identity/{identity}"), scope.everywhere())]
    address = parseaddr(params.get("FromEmailAddress") or "")[1]
    context = {**scope.everywhere(), "ses:fromaddress": [address]}
    found = [Check(action, scope.arn("ses", f"identity/{_identity(scope, address)}"), context)]
    if params.get("ConfigurationSetName"):
        name = f"configuration-set/{params['ConfigurationSetName']}"
        found.append(Check(action, scope.arn("ses", name), context))
    return found


def _identity(scope: Scope, address: str) -> str:
    from moto.ses.models import ses_backends

    known = ses_backends[scope.account][scope.region].email_identities
    return address if address in known else address.partition("@")[2]


def _ssm(scope: Scope, operation: str, params: dict) -> list[Check] | None:
    names = params.get("Names") or [params.get("Name") or params.get("Path")]
    if not operation.startswith(("GetParameter", "PutParameter")):
        return None
    return [
        Check(f"ssm:{operation}", _parameter(scope, name or ""), scope.everywhere()) for name in names
    ]


def _parameter(scope: Scope, name: str) -> str:
    """The ARN of a public parameter contains no account."""
    account = "" if name.startswith("/aws/") else scope.account
    return f"arn:{scope.partition}:ssm:{scope.region}:{account}:parameter/{name.lstrip('/')}"


def _sts(scope: Scope, operation: str, params: dict) -> list[Check] | None:
    if operation != "DecodeAuthorizationMessage":
        return None
    return [Check(f"sts:{operation}", "*", scope.everywhere())]


def _iam(scope: Scope, operation: str, params: dict) -> list[Check] | None:
    if operation != "GetInstanceProfile":
        return None
    arn = scope.arn("iam", f"instance-profile/{params['InstanceProfileName']}", region="")
    return [Check(f"iam:{operation}", arn, scope.everywhere())]
