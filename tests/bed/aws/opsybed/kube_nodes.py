"""The Node objects of instances: names, labels and conditions as on EKS. Everything here is pure."""

from dataclasses import dataclass, field

EKS = "eks.amazonaws.com"
# the annotation by which a bridge knows its own nodes
OWNER = "opsybed/cluster"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
SIZES = {"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "60Gi"}
EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "NO_EXECUTE": "NoExecute",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
}
READY = ("KubeletReady", "kubelet is posting ready status")
NOT_READY = ("KubeletNotReady", "container runtime network not ready: cni plugin not initialized")


@dataclass
class Member:
    """An instance that is, or will be, a node. `ready` and `heartbeat` are what its kubelet reports."""

    instance: str
    name: str
    # the Auto Scaling group, and the managed node group if it belongs to one
    group: str
    node_group: str | None
    zone: str
    address: str
    kubernetes: str
    windows: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict] = field(default_factory=list)
    # emulated timestamps: of the launch, and of the moment at which it joins; None means never
    launched: float = 0.0
    joins: float | None = 0.0
    ready: bool = True
    why: tuple[str, str] = NOT_READY
    heartbeat: bool = True
    # whether the node must be unschedulable; None leaves that to others
    cordon: bool | None = None
    # whether EKS keeps load balancers away from the node
    excluded: bool = False

    def condition(self) -> dict:
        reason, message = READY if self.ready else self.why
        status = "True" if self.ready else "False"
        return {"type": "Ready", "status": status, "reason": reason, "message": message}


def labels_of(instance, architecture: str, region: str, zone: str, windows: bool) -> dict[str, str]:
    """Return the labels that every kubelet on EC2 sets."""
    return {
        "kubernetes.io/arch": ARCHITECTURES.get(architecture, architecture),
        "kubernetes.io/os": "windows" if windows else "linux",
        "kubernetes.io/hostname": instance.private_dns_name,
        "node.kubernetes.io/instance-type": instance.instance_type,
        "topology.kubernetes.io/region": region,
        "topology.kubernetes.io/zone": zone,
    }


def eks_labels(group, image: str, source: tuple[str, str] | None) -> dict[str, str]:
    """Return what EKS adds to nodes of a managed group; `source` is the group's template and its version."""
    labels = {
        **(group.labels or {}),
        f"{EKS}/nodegroup": group.nodegroup_name,
        f"{EKS}/nodegroup-image": image,
        f"{EKS}/capacityType": group.capacity_type or "ON_DEMAND",
    }
    if source:
        labels[f"{EKS}/sourceLaunchTemplateId"] = source[0]
        labels[f"{EKS}/sourceLaunchTemplateVersion"] = source[1]
    return labels


def eks_taints(group) -> list[dict]:
    taints = getattr(group, "taints", None) or []
    return [{**t, "effect": EFFECTS.get(t["effect"], t["effect"])} for t in taints]


def manifest(member: Member, owner: str, taints: list[dict], now: str) -> dict:
    """Return the object with which the node joins. Unlike other resources, a Node is created with its status."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": member.name, "labels": member.labels, "annotations": {OWNER: owner}},
        "spec": {
            "providerID": f"aws:///{member.zone}/{member.instance}",
            "taints": [*member.taints, *taints],
        },
        "status": status(member, now),
    }


def status(member: Member, now: str) -> dict:
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    fine = [
        {"type": kind, "status": "False", "reason": f"KubeletHasNo{kind}", "message": "", **times}
        for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    return {
        "capacity": SIZES,
        "allocatable": SIZES,
        "conditions": [*fine, {**member.condition(), **times}],
        "addresses": [
            {"type": "InternalIP", "address": member.address},
            {"type": "InternalDNS", "address": member.name},
            {"type": "Hostname", "address": member.name},
        ],
        "nodeInfo": {
            "architecture": member.labels["kubernetes.io/arch"],
            "operatingSystem": member.labels["kubernetes.io/os"],
            "kubeletVersion": f"v{member.kubernetes}.0-eks-opsybed",
            "kubeProxyVersion": "",
            "osImage": "Windows Server" if member.windows else "Amazon Linux 2023",
            "kernelVersion": "6.1.0",
            "containerRuntimeVersion": "containerd://1.7.0",
            "machineID": member.instance,
            "systemUUID": member.instance,
            "bootID": member.instance,
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
    }


def ready_of(node: dict) -> tuple[str, str, str]:
    """Return status, reason and message of the condition Ready."""
    for condition in node.get("status", {}).get("conditions") or []:
        if condition["type"] == "Ready":
            return condition["status"], condition.get("reason", ""), condition.get("message", "")
    return "Unknown", "", ""


def is_ready(node: dict | None) -> bool:
    return node is not None and ready_of(node)[0] == "True"


def is_cordoned(node: dict) -> bool:
    return bool(node["spec"].get("unschedulable"))


def is_tainted(node: dict) -> bool:
    """Whether the control plane still keeps pods away from a node that is, or was, not ready."""
    keys = {t["key"] for t in node["spec"].get("taints") or []}
    return bool(keys & {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})


def owner_of(node: dict) -> str | None:
    return (node["metadata"].get("annotations") or {}).get(OWNER)
