"""Replaces moto's response classes by those of this package, and checks that they still fit.

moto's extension points are internal, so RELIED_UPON lists every attribute that is
patched or used. They are checked at startup: an incompatible version of moto fails
here with the name of the attribute, instead of somewhere in a test.
"""

import importlib
import inspect

from moto.core.responses import BaseResponse
from moto.core.utils import camelcase_to_underscores, get_service_model

from . import asg, devices, ec2_instances, ec2_network, ec2_templates, eks, fast, staleness
from .asg import BedAutoScaling
from .ec2 import BedEC2
from .eks import BedEKS
from .identity import BedIAM, BedKMS
from .ses import BedSES
from .sns import BedSNS
from .ssm import BedSSM
from .sts import BedSTS

# A class with OPERATIONS supports only those; the others support everything that moto does.
RESPONSES = {
    "ec2": BedEC2,
    "eks": BedEKS,
    "sesv2": BedSES,
    "sns": BedSNS,
    "ssm": BedSSM,
    "sts": BedSTS,
    "iam": BedIAM,
    "kms": BedKMS,
    "autoscaling": BedAutoScaling,
}
EKS_PATHS = (
    "{0}/clusters/(?P<name>[^/]+)/node-groups/(?P<nodegroupName>[^/]+)/update-version$",
    "{0}/clusters/(?P<name>[^/]+)/updates$",
    "{0}/clusters/(?P<name>[^/]+)/updates/(?P<updateId>[^/]+)$",
)
RELIED_UPON = {
    "moto.moto_server.werkzeug_app": [
        "DomainDispatcherApplication.infer_service_region_host",
        "create_backend_app",
    ],
    "moto.core.responses": [
        "ActionResult",
        "BaseResponse.call_action",
        "BaseResponse.dispatch",
        "BaseResponse.serialized",
        "EmptyResult",
    ],
    "moto.core.base_backend": ["BackendDict._instances"],
    "moto.core.parse": ["PROTOCOL_PARSERS"],
    "moto.autoscaling.models": [
        "AutoScalingBackend.create_auto_scaling_group",
        "AutoScalingBackend.delete_auto_scaling_group",
        "AutoScalingBackend.notify_terminate_instances",
        "FakeAutoScalingGroup._set_launch_configuration",
        "FakeAutoScalingGroup.active_instances",
        "FakeAutoScalingGroup.get_propagated_tags",
        "FakeAutoScalingGroup.replace_autoscaling_group_instances",
        "FakeAutoScalingGroup.set_desired_capacity",
        "InstanceState.launch_template",
        "autoscaling_backends",
    ],
    "moto.autoscaling.responses": [
        "AutoScalingResponse.autoscaling_backend",
        "AutoScalingResponse.call_action",
        "AutoScalingResponse.create_auto_scaling_group",
        "AutoScalingResponse.describe_lifecycle_hooks",
        "AutoScalingResponse.put_lifecycle_hook",
        "AutoScalingResponse.update_auto_scaling_group",
    ],
    "moto.ec2.models": ["ec2_backends"],
    "moto.ec2.models.amis": [
        "Ami.block_device_mappings",
        "AmiBackend.deregister_image",
        "AmiBackend.describe_images",
    ],
    "moto.ec2.models.elastic_block_store": ["EBSBackend.detach_volume", "EBSBackend.get_volume"],
    "moto.ec2.models.instance_types": ["INSTANCE_TYPES"],
    "moto.ec2.models.availability_zones_and_regions": ["RegionsAndZonesBackend.describe_regions"],
    "moto.ec2.models.instances": [
        "Instance.public_ip",
        "Instance.public_ip_address",
        "InstanceBackend.all_instances",
        "InstanceBackend.get_instance",
        "InstanceBackend.get_multi_instances_by_id",
        "InstanceBackend.terminate_instances",
    ],
    "moto.ec2.models.key_pairs": ["KeyPair.public_key"],
    "moto.ec2.models.launch_templates": [
        "LaunchTemplate.create_version",
        "LaunchTemplate.default_version",
        "LaunchTemplate.get_version",
        "LaunchTemplate.is_default",
        "LaunchTemplate.latest_version",
    ],
    "moto.ec2.models.subnets": ["Subnet"],
    "moto.ec2.models.vpcs": ["VPC"],
    "moto.ec2.models.tags": [
        "TagBackend.create_tags",
        "TagBackend.delete_tags",
        "TagBackend.describe_tags",
    ],
    "moto.ec2.responses": [
        "EC2Response.create_key_pair",
        "EC2Response.create_security_group",
        "EC2Response.create_tags",
        "EC2Response.delete_key_pair",
        "EC2Response.delete_security_group",
        "EC2Response.delete_snapshot",
        "EC2Response.describe_snapshots",
        "EC2Response.import_key_pair",
        "EC2Response.modify_image_attribute",
        "EC2Response.modify_snapshot_attribute",
        "EC2Response.run_instances",
        "EC2Response.terminate_instances",
    ],
    "moto.ec2.utils": ["EC2_PREFIX_TO_RESOURCE", "get_prefix"],
    "moto.eks.models": [
        "EKSBackend.create_cluster",
        "EKSBackend.create_nodegroup",
        "eks_backends",
    ],
    "moto.eks.responses": ["EKSResponse.create_cluster"],
    "moto.eks.utils": ["Session"],
    "moto.iam.models": ["iam_backends"],
    "moto.iam.responses": [
        "IamResponse.add_role_to_instance_profile",
        "IamResponse.create_instance_profile",
        "IamResponse.create_role",
        "IamResponse.get_instance_profile",
    ],
    "moto.kms.models": ["KmsBackend.any_id_to_key_id", "kms_backends"],
    "moto.kms.responses": [
        "KmsResponse.create_alias",
        "KmsResponse.create_key",
        "KmsResponse.describe_key",
    ],
    "moto.ses.models": ["EmailIdentity", "SESBackend.send_email"],
    "moto.sesv2.models": ["SESV2Backend.send_email"],
    "moto.sesv2.responses": [
        "SESV2Response.create_email_identity",
        "SESV2Response.delete_email_identity",
        "SESV2Response.get_email_identity",
        "SESV2Response.sesv2_backend",
    ],
    "moto.sns.models": ["SNSBackend.publish"],
    "moto.sns.responses": [
        "SNSResponse.backend",
        "SNSResponse.create_topic",
        "SNSResponse.delete_topic",
        "SNSResponse.get_topic_attributes",
        "SNSResponse.list_topics",
    ],
    "moto.ssm.models": ["Parameter", "ssm_backends"],
    "moto.ssm.responses": ["SimpleSystemManagerResponse.put_parameter"],
}


def self_test() -> None:
    """Raise RuntimeError with the names of everything that no longer exists."""
    missing = []
    for module_name, attributes in RELIED_UPON.items():
        module = importlib.import_module(module_name)
        for path in attributes:
            target = module
            for part in path.split("."):
                target = getattr(target, part, None)
            if target is None:
                missing.append(f"{module_name}.{path}")
    for service, response in RESPONSES.items():
        known = {camelcase_to_underscores(n) for n in get_service_model(service).operation_names}
        for name in our_operations(response):
            if name not in known:
                missing.append(f"operation {service}:{name} is not in the botocore model")
    if missing:
        raise RuntimeError("the installed moto or botocore is incompatible: " + "; ".join(missing))


def our_operations(response: type) -> list[str]:
    """Return the public methods that this package adds to moto's base class; each must be an AWS operation."""
    return sorted(
        name
        for base in response.__mro__
        if base.__module__.startswith(__package__ + ".")
        for name, member in vars(base).items()
        if inspect.isfunction(member) and not name.startswith("_") and not hasattr(BaseResponse, name)
    )


def install() -> None:
    """Install the response classes. This must run before the first request, because moto reads the tables only once."""
    self_test()
    for service in RESPONSES:
        urls = importlib.import_module(f"moto.{service}.urls")
        for path in urls.url_paths:
            urls.url_paths[path] = RESPONSES[service].dispatch
    eks_urls = importlib.import_module("moto.eks.urls")
    for path in EKS_PATHS:
        eks_urls.url_paths[path] = BedEKS.dispatch
    for module in (fast, asg, devices, ec2_instances, ec2_network, ec2_templates, eks, staleness):
        module.patch()
