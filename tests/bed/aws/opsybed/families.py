"""The families of machine images: their names, devices and user data."""

import base64
from dataclasses import dataclass

ARCHITECTURES = ("x86_64", "arm64")
INSTANCE_TYPES = {"x86_64": "m6i.large", "arm64": "m6g.large"}
NODE_CONFIG = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="BOUNDARY"

--BOUNDARY
Content-Type: application/node.eks.aws

---
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: {cluster}
    apiServerEndpoint: {endpoint}
    certificateAuthority: {ca}
    cidr: 172.20.0.0/16
  kubelet:
    flags:
      - "--node-labels=pool={group}"

--BOUNDARY--
"""
BOTTLEROCKET = """[settings.kubernetes]
cluster-name = "{cluster}"
api-server = "{endpoint}"
cluster-certificate = "{ca}"

[settings.kubernetes.node-labels]
pool = "{group}"
"""
POWERSHELL = """<powershell>
[string]$EKSBootstrapScriptFile = "$env:ProgramFiles\\Amazon\\EKS\\Start-EKSBootstrap.ps1"
& $EKSBootstrapScriptFile -EKSClusterName "{cluster}" -APIServerEndpoint "{endpoint}" \
-Base64ClusterCA "{ca}" -KubeletExtraArgs "--node-labels=pool={group}"
</powershell>
"""
BOOTSTRAP = """#!/bin/bash
set -ex
/etc/eks/bootstrap.sh {cluster} --apiserver-endpoint {endpoint} --b64-cluster-ca {ca} \
--kubelet-extra-args '--node-labels=pool={group}'
"""


@dataclass(frozen=True)
class Family:
    # ID of the account that publishes the images
    owner: str
    # a template with {arch}, {kubernetes} and {version}
    name: str
    user_data: str
    alias: str | None = "amazon"
    architecture_names: tuple[str, str] = ("x86_64", "arm64")
    root_device_name: str = "/dev/xvda"
    platform: str | None = None
    platform_details: str = "Linux/UNIX"
    size: int = 15
    imds_support: str | None = None
    description: str = ""

    def image_name(self, architecture: str, kubernetes: str, version: str) -> str:
        spelled = self.architecture_names[ARCHITECTURES.index(architecture)]
        return self.name.format(arch=spelled, kubernetes=kubernetes, version=version)

    def encoded_user_data(self, cluster, group: str) -> str:
        text = self.user_data.format(
            cluster=cluster.name,
            endpoint=cluster.endpoint,
            ca=base64.b64encode(cluster.certificate_authority["data"].encode()).decode(),
            group=group,
        )
        return base64.b64encode(text.encode()).decode()


FAMILIES = {
    "al2023": Family(
        "602401143452",
        "amazon-eks-node-al2023-{arch}-standard-{kubernetes}-v{version}",
        NODE_CONFIG,
        imds_support="v2.0",
        description="EKS-optimized Kubernetes node based on Amazon Linux 2023",
    ),
    "al2": Family(
        "602401143452",
        "amazon-eks-{arch}-{kubernetes}-v{version}",
        BOOTSTRAP,
        architecture_names=("node", "arm64-node"),
        description="EKS Kubernetes Worker AMI with AmazonLinux2 image",
    ),
    "bottlerocket": Family(
        "092701018921",
        "bottlerocket-aws-k8s-{kubernetes}-{arch}-v{version}",
        BOTTLEROCKET,
        architecture_names=("x86_64", "aarch64"),
        size=2,
    ),
    "windows": Family(
        "801119661308",
        "Windows_Server-2022-English-Core-EKS_Optimized-{kubernetes}-{version}",
        POWERSHELL,
        root_device_name="/dev/sda1",
        platform="windows",
        platform_details="Windows",
        size=50,
    ),
    "ubuntu": Family(
        "099720109477",
        "ubuntu-eks/k8s_{kubernetes}/images/hvm-ssd/ubuntu-jammy-22.04-{arch}-server-{version}",
        BOOTSTRAP,
        alias=None,
        architecture_names=("amd64", "arm64"),
        root_device_name="/dev/sda1",
        size=20,
    ),
}


def family_of(wanted: dict) -> Family:
    name = wanted.get("family", "al2023")
    if name not in FAMILIES:
        raise ValueError(f"family must be one of {sorted(FAMILIES)}")
    return FAMILIES[name]


def architecture_of(wanted: dict) -> str:
    architecture = wanted.get("arch") or wanted.get("architecture") or "x86_64"
    if architecture not in ARCHITECTURES:
        raise ValueError(f"arch must be one of {ARCHITECTURES}")
    return architecture
