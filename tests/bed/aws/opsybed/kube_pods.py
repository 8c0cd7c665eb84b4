"""What the kubelet of an emulated node does with a pod: it runs, is ready, or is gone. Pure, except for the requests.

The annotation opsybed/ready: "false" keeps a pod running, but not ready.
"""

from .kube_client import STRATEGIC, Kube

HOLD = "opsybed/ready"
ENDED = ("Succeeded", "Failed")
MIRROR = "kubernetes.io/config.mirror"


def path_of(pod: dict) -> str:
    where = pod["metadata"]
    return f"/api/v1/namespaces/{where['namespace']}/pods/{where['name']}"


def uid(pod: dict) -> str:
    return pod["metadata"]["uid"]


def is_leaving(pod: dict) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_ended(pod: dict) -> bool:
    return pod["status"].get("phase") in ENDED


def _true(pod: dict, kind: str) -> bool:
    found = (c for c in pod["status"].get("conditions") or [] if c["type"] == kind)
    return next((c["status"] == "True" for c in found), False)


def holds(pod: dict) -> bool:
    return (pod["metadata"].get("annotations") or {}).get(HOLD) == "false"


def is_as_wanted(pod: dict) -> bool:
    """Whether the status of a pod on a live node is what its kubelet reports."""
    if is_ended(pod):
        return True
    return pod["status"].get("phase") == "Running" and _true(pod, "Ready") is not holds(pod)


def is_unplaced(pod: dict) -> bool:
    """Whether the scheduler has not looked at a pod yet."""
    if pod["spec"].get("nodeName") or is_leaving(pod) or is_ended(pod):
        return False
    conditions = pod["status"].get("conditions") or []
    return not any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions)


def is_evictable(pod: dict) -> bool:
    """Whether a drain evicts a pod: not those of a DaemonSet, and not mirror pods of a kubelet."""
    meta = pod["metadata"]
    owners = [o["kind"] for o in meta.get("ownerReferences") or [] if o.get("controller")]
    return "DaemonSet" not in owners and MIRROR not in (meta.get("annotations") or {})


def run(kube: Kube, pod: dict, address: str, now: str) -> None:
    """Report the pod as running, and as ready unless its annotation says otherwise."""
    ready = "False" if holds(pod) else "True"
    given = {c["name"]: c for c in pod["status"].get("containerStatuses") or []}
    containers = [
        {
            "name": c["name"],
            "image": c.get("image", ""),
            "imageID": "",
            "containerID": f"opsybed://{uid(pod)}/{c['name']}",
            "ready": ready == "True",
            "started": True,
            "restartCount": given.get(c["name"], {}).get("restartCount", 0),
            "state": {"running": {"startedAt": now}},
        }
        for c in pod["spec"]["containers"]
    ]
    conditions = [
        {"type": kind, "status": value, "lastTransitionTime": now}
        for kind, value in (
            ("Initialized", "True"),
            ("ContainersReady", ready),
            ("Ready", ready),
        )
    ]
    status = {
        "phase": "Running",
        "hostIP": address,
        "podIP": pod["status"].get("podIP") or pod_address(pod, address),
        "startTime": pod["status"].get("startTime") or now,
        "conditions": conditions,
        "containerStatuses": containers,
    }
    kube.patch(f"{path_of(pod)}/status", {"metadata": {"uid": uid(pod)}, "status": status}, STRATEGIC)


def pod_address(pod: dict, host: str) -> str:
    """Return an address that is different for most pods; nothing answers there."""
    if pod["spec"].get("hostNetwork"):
        return host
    number = int(uid(pod).replace("-", "")[:6], 16)
    return f"100.{64 + (number >> 16) % 64}.{(number >> 8) % 256}.{number % 256}"


def remove(kube: Kube, pod: dict) -> None:
    """Remove a pod from the API server, as a kubelet does after its containers have ended."""
    kube.delete(path_of(pod), grace=0)


def evict(kube: Kube, pod: dict) -> None:
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]},
        "deleteOptions": {"preconditions": {"uid": uid(pod)}},
    }
    kube.create(f"{path_of(pod)}/eviction", body)
