//! A self-managed node group: an EC2 Auto Scaling group of the cluster that EKS does not own, with its instances and
//! instance refreshes. Part of `node_group`. Pure.

use std::sync::Arc;

use super::{GroupKind, Lifecycle, NodeGroup, Ready};
use crate::api::ImageId;
use crate::aws::autoscaling::{
    AutoScalingGroup, InstanceRefresh, LaunchSource, Member, TemplateRef, VersionRef,
};
use crate::aws::{AwsError, LaunchTemplateVersion, Tags, TemplateVersion};

/// The tags of the Auto Scaling groups that EKS creates for managed node groups.
const EKS_TAGS: [&str; 2] = ["eks:nodegroup-name", "eks:cluster-name"];
/// The prefix of their names, which are `eks-<node group>-<UUID>`. EKS may change every group with this prefix.
const EKS_PREFIX: &str = "eks-";
/// Lengths of the parts of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];
/// The prefix of the tags that tell the cluster autoscaler the Kubernetes labels of new nodes.
const LABEL: &str = "k8s.io/cluster-autoscaler/node-template/label/";

/// What only a self-managed group has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfManagedGroup {
    pub source: LaunchSource,
    pub instances: Vec<Instance>,
    /// IDs of the instances that are being terminated. They may still be drained.
    pub leaving: Vec<String>,
    /// Newest first.
    pub refreshes: Arc<Vec<InstanceRefresh>>,
    /// New instances are protected from scale-in.
    pub protects_new: bool,
}

/// A node of the group that is not being terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    /// The launch template version that it was launched from.
    pub version: Option<TemplateVersion>,
    /// Its image, as far as it is known.
    pub image: Option<ImageId>,
    pub is_protected: bool,
    pub is_standby: bool,
}

/// An Auto Scaling group with what was read about it.
#[derive(Clone, Debug)]
pub struct ReadGroup<'a> {
    pub group: &'a AutoScalingGroup,
    /// The versions of its launch template; `None` if the template does not exist.
    pub versions: Option<&'a [LaunchTemplateVersion]>,
    /// `None` if they were not read.
    pub refreshes: Option<Result<Arc<Vec<InstanceRefresh>>, AwsError>>,
    /// Everything was read without the cache.
    pub is_fresh: bool,
}

impl SelfManagedGroup {
    /// The refresh in progress. There is at most one.
    pub fn active(&self) -> Option<&InstanceRefresh> {
        self.refreshes.iter().find(|refresh| refresh.is_active())
    }

    pub fn refresh(&self, id: &str) -> Option<&InstanceRefresh> {
        self.refreshes.iter().find(|refresh| refresh.id == id)
    }

    /// The group follows `$Latest` or `$Default` instead of a number.
    pub fn follows_alias(&self) -> bool {
        self.source.template().is_some_and(|template| !matches!(template.version, VersionRef::Number(_)))
    }

    /// A new version of this template would change what the group launches.
    pub fn follows_latest(&self) -> bool {
        self.source.template().is_some_and(|template| template.version == VersionRef::Latest)
    }
}

impl NodeGroup {
    /// A self-managed group. `name` is its unique name.
    pub fn self_managed(name: String, read: ReadGroup<'_>) -> Self {
        let ReadGroup { group, versions, refreshes, is_fresh } = read;
        let template = group.source.template();
        let in_force = template.map(|template| in_force(template, versions.unwrap_or_default()));
        let image_of = |version: &TemplateVersion| image_of(version, template, versions.unwrap_or_default());
        let lifecycle = match &refreshes {
            _ if group.is_deleting => Lifecycle::Deleting,
            Some(Err(error)) => Lifecycle::Unreadable(error.class(), error.to_string()),
            Some(Ok(refreshes)) if refreshes.iter().any(InstanceRefresh::is_active) => Lifecycle::Updating,
            Some(Ok(_)) => Lifecycle::Active(is_fresh.then_some(Ready(()))),
            None => Lifecycle::Active(None),
        };
        let instances = group.instances.iter().filter(|member| is_kept(member));
        let instances = instances.map(|member| instance(member, image_of)).collect();
        let leaving = group.instances.iter().filter(|member| is_leaving(member));
        let leaving = leaving.map(|member| member.id.clone()).collect();
        let refreshes = refreshes.and_then(Result::ok).unwrap_or_default();
        let (source, protects_new) = (group.source.clone(), group.protects_new);
        Self {
            name,
            kind: GroupKind::SelfManaged(SelfManagedGroup {
                source,
                instances,
                leaving,
                refreshes,
                protects_new,
            }),
            lifecycle,
            image: in_force.as_ref().and_then(image_of),
            launch_template: in_force,
            health: Vec::new(),
            instance_types: match &group.source {
                LaunchSource::Mixed(policy) => policy.instance_types.clone(),
                _ => Vec::new(),
            },
            desired: group.desired.and_then(|nodes| u32::try_from(nodes).ok()).unwrap_or(0),
            labels: labels(&group.tags),
            tags: group.tags.clone(),
        }
    }
}

/// Whether EKS, or another service of AWS, owns a group, so that only that service may change it.
pub fn is_owned_by_aws(group: &AutoScalingGroup) -> bool {
    let has_tag = EKS_TAGS.iter().any(|tag| group.tags.contains_key(*tag));
    has_tag || has_name_of_eks(&group.name) || group.has_operator
}

/// Whether a name is one that EKS gives: `eks-<node group>-<UUID>`.
fn has_name_of_eks(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(EKS_PREFIX) else { return false };
    let parts: Vec<&str> = rest.rsplitn(UUID.len() + 1, '-').collect();
    let lengths = parts.iter().rev().skip(1).map(|part| part.len());
    let hex = |part: &&str| part.chars().all(|c| c.is_ascii_hexdigit());
    parts.len() > UUID.len() && lengths.eq(UUID) && parts.iter().take(UUID.len()).all(hex)
}

/// The version in force as a number. If it does not exist, what the group follows.
fn in_force(template: &TemplateRef, versions: &[LaunchTemplateVersion]) -> TemplateVersion {
    let latest = || versions.iter().map(|version| version.number).max();
    let default = || versions.iter().find(|version| version.is_default).map(|version| version.number);
    let (number, alias) = match template.version {
        VersionRef::Number(number) => (Some(number), ""),
        VersionRef::Latest => (latest(), "$Latest"),
        VersionRef::Default => (default(), "$Default"),
    };
    let version = number.map_or_else(|| alias.to_owned(), |number| number.to_string());
    TemplateVersion { template: template.template.clone(), version }
}

fn image_of(
    version: &TemplateVersion,
    template: Option<&TemplateRef>,
    versions: &[LaunchTemplateVersion],
) -> Option<ImageId> {
    template.filter(|template| template.template == version.template)?;
    let found = versions.iter().find(|known| known.number.to_string() == version.version)?;
    ImageId::parse(found.image.clone()?).ok()
}

/// Whether an instance stays: it is not being terminated, and is not in the warm pool.
fn is_kept(member: &Member) -> bool {
    !["Detach", "Warmed"].iter().any(|state| member.state.starts_with(state)) && !is_leaving(member)
}

fn is_leaving(member: &Member) -> bool {
    member.state.starts_with("Terminat")
}

fn instance(member: &Member, image_of: impl Fn(&TemplateVersion) -> Option<ImageId>) -> Instance {
    Instance {
        id: member.id.clone(),
        version: member.version.clone(),
        image: member.image.clone().or_else(|| member.version.as_ref().and_then(image_of)),
        is_protected: member.is_protected,
        is_standby: matches!(member.state.as_str(), "Standby" | "EnteringStandby"),
    }
}

fn labels(tags: &Tags) -> Tags {
    let labels = tags.iter().filter_map(|(key, value)| Some((key.strip_prefix(LABEL)?, value)));
    labels.map(|(key, value)| (key.to_owned(), value.clone())).collect()
}
