//! What an image was made from: the family of its operating system, which decides what user data it understands, and
//! the Kubernetes version it is for. Read from its tags, its name, or the name of its base image. Used by `fit`. Pure.

use std::fmt;

use crate::api::{ImageId, tags};
use crate::aws::Image;

/// Tags in which templates commonly record the Kubernetes version.
const VERSION_TAGS: [&str; 6] = [
    "opsy.dev/kubernetes",
    "kubernetes-version",
    "kubernetes_version",
    "kubernetes",
    "k8s-version",
    "eks-version",
];
/// Kubernetes supports nodes that are at most this many minor versions older than the control plane.
const MAX_MINORS_BEHIND: u32 = 3;

/// A Kubernetes version, without its patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KubernetesVersion {
    major: u32,
    minor: u32,
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl KubernetesVersion {
    /// Reads `1.31`, `v1.31.2`, `1.31/2026-01-01/bin`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
        let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        (major == 1).then_some(Self { major, minor })
    }

    /// Whether nodes of this version are too old for a cluster of that version.
    pub fn is_too_old_for(self, cluster: Self) -> bool {
        cluster.minor.saturating_sub(self.minor) > MAX_MINORS_BEHIND
    }
}

/// What is known about the origin of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// For example `AL2023`, `AL2 gpu` or `Bottlerocket`.
    pub family: Option<String>,
    pub kubernetes: Option<KubernetesVersion>,
}

impl Lineage {
    /// The lineage of an image. What its base image tells is used for what it does not tell itself.
    pub fn of(image: &Image, base: Option<&Image>) -> Self {
        let tagged = VERSION_TAGS.iter().find_map(|tag| KubernetesVersion::parse(image.tags.get(*tag)?));
        let (own, from) = (Self::of_name(&image.name), base.map(|base| Self::of_name(&base.name)));
        let from = from.unwrap_or_default();
        Self { family: own.family.or(from.family), kubernetes: tagged.or(own.kubernetes).or(from.kubernetes) }
    }

    pub fn is_complete(&self) -> bool {
        self.family.is_some() && self.kubernetes.is_some()
    }

    /// Recognizes the names under which AWS and Canonical publish node images.
    pub fn of_name(name: &str) -> Self {
        let lower = name.to_lowercase();
        let family = family(&lower);
        let kubernetes = family.as_ref().and_then(|_| version(&lower));
        Self { family, kubernetes }
    }
}

/// The image that an image was made from: as recorded by EC2, else as named by its tag.
pub fn base_image(image: &Image) -> Option<ImageId> {
    let tagged = || image.tags.get(tags::BASE).and_then(|id| ImageId::parse(id.clone()).ok());
    image.source.clone().or_else(tagged)
}

fn family(name: &str) -> Option<String> {
    let with = |family: &str, variants: &[&str]| {
        let variant = variants.iter().find(|variant| name.contains(**variant));
        variant.map_or(family.to_owned(), |variant| format!("{family} {}", variant.trim_matches('-')))
    };
    if name.starts_with("amazon-eks-node-al2023-") {
        Some(with("AL2023", &["-nvidia-", "-neuron-"]))
    } else if name.starts_with("amazon-eks-") && name.contains("node-") {
        Some(with("AL2", &["-gpu-"]))
    } else if name.starts_with("bottlerocket-aws-k8s-") {
        Some(with("Bottlerocket", &["-nvidia-"]))
    } else if name.starts_with("ubuntu-eks") || name.contains("/ubuntu-eks") {
        Some("Ubuntu".to_owned())
    } else if name.starts_with("windows_server-") && name.contains("eks_optimized") {
        let year = name.split('-').nth(1).unwrap_or_default();
        Some(format!("Windows {year}").trim().to_owned())
    } else {
        None
    }
}

/// The part of a name that is a version: `1.31`, or `k8s_1.31`.
fn version(name: &str) -> Option<KubernetesVersion> {
    let parts = name.split(['-', '_', '/']);
    parts.filter(|part| part.starts_with("1.")).find_map(KubernetesVersion::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_names_contain_family_and_version() {
        for (name, family, version) in [
            ("amazon-eks-node-al2023-x86_64-standard-1.31-v20260801", "AL2023", "1.31"),
            ("amazon-eks-node-al2023-arm64-nvidia-1.32-v20260801", "AL2023 nvidia", "1.32"),
            ("amazon-eks-node-1.29-v20240101", "AL2", "1.29"),
            ("amazon-eks-gpu-node-1.29-v20240101", "AL2 gpu", "1.29"),
            ("amazon-eks-arm64-node-1.29-v20240101", "AL2", "1.29"),
            ("bottlerocket-aws-k8s-1.31-x86_64-v1.20.0-abc", "Bottlerocket", "1.31"),
            ("bottlerocket-aws-k8s-1.31-nvidia-x86_64-v1.20.0-abc", "Bottlerocket nvidia", "1.31"),
            ("ubuntu-eks/k8s_1.30/images/hvm-ssd/ubuntu-jammy-22.04-amd64", "Ubuntu", "1.30"),
            ("Windows_Server-2022-English-Core-EKS_Optimized-1.31-2026.01.15", "Windows 2022", "1.31"),
        ] {
            let found = Lineage::of_name(name);
            assert_eq!(found.family.as_deref(), Some(family), "{name}");
            assert_eq!(
                found.kubernetes.map(|version| version.to_string()).as_deref(),
                Some(version),
                "{name}"
            );
        }
        assert_eq!(Lineage::of_name("node-1.31-20260801"), Lineage::default(), "a custom name tells neither");
    }

    #[test]
    fn versions_are_read_as_people_write_them() {
        let read = |text| KubernetesVersion::parse(text).map(|version| version.to_string());
        for text in ["1.31", "v1.31.2", " 1.31/2026-01-01/bin/linux ", "1.31.0-eks-1"] {
            assert_eq!(read(text).as_deref(), Some("1.31"), "{text}");
        }
        for text in ["", "31", "2.0", "latest"] {
            assert_eq!(read(text), None, "{text}");
        }
        let version = |text| KubernetesVersion::parse(text).expect("a version");
        assert!(version("1.32") > version("1.31") && version("1.9") < version("1.31"));
        assert!(
            version("1.27").is_too_old_for(version("1.31"))
                && !version("1.28").is_too_old_for(version("1.31"))
        );
    }
}
