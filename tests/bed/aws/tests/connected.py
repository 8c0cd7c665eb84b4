"""The seeded cluster of an account on a real control plane: its nodes, workloads and updates."""

import itertools

from awsclient import Bed

from bedkit.wait import until
from opsybed.kube_client import Kube, Refused
from opsybed.kube_nodes import owner_of

_numbers = itertools.count(1)
CONTAINERS = [{"name": "main", "image": "example.com/app:1"}]
NODES = "/api/v1/nodes"


def ready(node: dict) -> tuple[str, str]:
    return next((c["status"], c["reason"]) for c in node["status"]["conditions"] if c["type"] == "Ready")


class Connected:
    def __init__(self, bed: Bed, plane: dict, **options) -> None:
        self.bed, self.plane = bed, plane
        self.kube = Kube(plane["server"], plane["ca"], plane["token"])
        bed.control("POST", "clock", freeze=True)
        bed.control("POST", "settings", eviction_retry_seconds=15)
        self.seeded = bed.seed()
        self.eks = bed.client("eks")
        self.namespace = f"test-{next(_numbers)}"
        self.kube.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        until("the service account", lambda: self.get("/api/v1", "serviceaccounts/default"), errors=(Refused,))
        self.connect(**options)

    def connect(self, **options) -> dict:
        where = {k: self.plane[k] for k in ("server", "ca", "token")}
        return self.bed.control("POST", "connect-cluster", **{**where, **options})

    def reconnect(self, **options) -> None:
        self.bed.control("DELETE", "connect-cluster")
        self.connect(**options)

    def close(self) -> None:
        self.kube.delete(f"/api/v1/namespaces/{self.namespace}")
        self.bed.control("DELETE", "connect-cluster")
        self.kube.close()

    def advance(self, seconds: float) -> None:
        moved = self.bed.control("POST", "clock", advance=seconds)
        assert "settled" not in moved, moved

    def settle(self) -> None:
        assert self.bed.control("POST", "settle")["settled"]

    # the API server

    def get(self, api: str, path: str) -> dict:
        return self.kube.get(f"{api}/namespaces/{self.namespace}/{path}")

    def create(self, api: str, resource: str, body: dict) -> dict:
        return self.kube.create(f"{api}/namespaces/{self.namespace}/{resource}", body)

    def delete(self, api: str, path: str) -> None:
        self.kube.delete(f"{api}/namespaces/{self.namespace}/{path}")

    def nodes(self, group: str | None = None) -> list[dict]:
        """Return the nodes of this account; all accounts share the API server."""
        found = [n for n in self.kube.get(NODES)["items"] if (owner_of(n) or "").startswith(self.bed.account)]
        return [n for n in found if group in (None, n["metadata"]["labels"].get("eks.amazonaws.com/nodegroup"))]

    def names(self, group: str | None = None) -> set[str]:
        return {n["metadata"]["name"] for n in self.nodes(group)}

    def node_of(self, instance: str) -> dict:
        return next(n for n in self.nodes() if n["spec"]["providerID"].endswith(f"/{instance}"))

    def known(self, **wanted) -> list[dict]:
        """Return what the bed says about its nodes."""
        shown = self.bed.control("GET", "nodes")
        return [n for n in shown if all(n[k] == v for k, v in wanted.items())]

    def pods(self, app: str | None = None) -> list[dict]:
        query = f"?labelSelector=app%3D{app}" if app else ""
        return self.get("/api/v1", f"pods{query}")["items"]

    def placed(self, app: str) -> dict[str, str | None]:
        """Return the nodes of the pods that run and are ready."""
        return {
            p["metadata"]["name"]: p["spec"].get("nodeName")
            for p in self.pods(app)
            if any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))
        }

    # workloads

    def deploy(self, app: str, replicas: int, group: str | None = "web", **pod) -> None:
        """Create a Deployment on the nodes of a group, and wait until its pods are ready."""
        body = {
            "metadata": {"name": app},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": app}},
                "template": self.template(app, group, **pod),
            },
        }
        self.create("/apis/apps/v1", "deployments", body)
        until(f"the pods of {app}", lambda: len(self.placed(app)) == replicas)
        self.settle()

    def template(self, app: str, group: str | None, **pod) -> dict:
        on = {"nodeSelector": {"eks.amazonaws.com/nodegroup": group}} if group else {}
        spec = {"containers": CONTAINERS, "automountServiceAccountToken": False, **on, **pod}
        return {"metadata": {"labels": {"app": app}}, "spec": spec}

    def budget(self, app: str, pods: int = 0, **spec) -> None:
        """Create a budget, and wait until the controller has counted that many healthy pods."""
        path = f"poddisruptionbudgets/{app}"
        selector = {"selector": {"matchLabels": {"app": app}}}
        body = {"metadata": {"name": app}, "spec": {**selector, **spec}}
        self.create("/apis/policy/v1", "poddisruptionbudgets", body)

        def counted() -> bool:
            return self.get("/apis/policy/v1", path).get("status", {}).get("currentHealthy", 0) >= pods

        until("the budget", counted)
        self.settle()

    # AWS

    def version(self, group: str, image: str | None = None) -> str:
        """Add a version of the group's template with another image, and return its number."""
        image = image or self.bed.control("POST", "image", name=f"next-{group}-{next(_numbers)}")["id"]
        made = self.bed.client("ec2").create_launch_template_version(
            LaunchTemplateId=self.template_of(group),
            SourceVersion="1",
            LaunchTemplateData={"ImageId": image},
        )
        return str(made["LaunchTemplateVersion"]["VersionNumber"])

    def template_of(self, group: str) -> str:
        return self.bed.group(group)["launch_template"]["id"]

    def update(self, group: str, version: str | None = None, settle: bool = True, **asked) -> "Update":
        template = {"id": self.template_of(group), "version": version or self.version(group)}
        started = self.eks.update_nodegroup_version(
            clusterName="demo", nodegroupName=group, launchTemplate=template, **asked
        )
        if settle:
            self.settle()
        return Update(self, group, started["update"]["id"])

    def scaling(self, group: str) -> dict:
        """Return the Auto Scaling group of a node group in the state of the account."""
        name = self.bed.group(group)["auto_scaling_group"]
        return next(g for g in self.bed.state()["auto_scaling_groups"] if g["name"] == name)


class Update:
    def __init__(self, cluster: Connected, group: str, update: str) -> None:
        self.cluster, self.group, self.id = cluster, group, update

    def describe(self) -> dict:
        asked = {"name": "demo", "nodegroupName": self.group, "updateId": self.id}
        return self.cluster.eks.describe_update(**asked)["update"]

    @property
    def status(self) -> str:
        return self.describe()["status"]

    def finish(self, step: float = 60, most: float = 3600, look=lambda: None) -> dict:
        """Let time pass until the update ends; `look` is called after each step."""
        for _ in range(int(most / step)):
            update = self.describe()
            if update["status"] != "InProgress":
                return update
            self.cluster.advance(step)
            look()
        raise AssertionError(f"still InProgress: {self.cluster.known(group=self.group)}")
