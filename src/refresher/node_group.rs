//! A node group as observed: its kind, its place in the life cycle, and the launch template version in force. Made by
//! `observe` from what EKS and EC2 Auto Scaling return (`self_managed`); read by `survey`, `plan` and the report. Pure.

mod self_managed;

use std::borrow::Cow;

use crate::api::words::NodeGroupKind;
use crate::api::{Class, ImageId, Seen, TemplateId};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{ManagedNodegroup, Tags, TemplateVersion};
pub use self_managed::{Instance, ReadGroup, SelfManagedGroup, is_owned_by_aws};

/// What is added to the name of a self-managed group if a managed one has the same name, so that names are unique. No
/// name of a managed group ends like this.
const SELF_MANAGED: &str = " (self-managed)";

/// Proof that a fresh read showed the node group at rest (ACTIVE or DEGRADED). Only this file creates it, so no update
/// can start on a busy group or on a cached read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready(());

/// The place of a node group in its life cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// With the proof if the read was fresh.
    Active(Option<Ready>),
    Updating,
    /// With the proof if the read was fresh.
    Degraded(Option<Ready>),
    Creating,
    Deleting,
    /// CREATE_FAILED, DELETE_FAILED, or a status that this version does not know.
    Broken(String),
    /// Not read, because the spec excludes the group.
    NotRead,
    Unreadable(Class, String),
}

/// Which service owns the nodes. This decides how an image is rolled out to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// EKS owns the Auto Scaling group and replaces the nodes.
    Managed(ManagedGroup),
    /// An Auto Scaling group that EKS does not own; instance refreshes replace the nodes.
    SelfManaged(SelfManagedGroup),
}

/// What only a managed node group has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedGroup {
    /// `CUSTOM` if the launch template names the image, else a type of image that AWS provides.
    pub ami_type: String,
    pub max_unavailable: MaxUnavailable,
    /// DEFAULT or MINIMAL, if EKS returns one.
    pub update_strategy: Option<String>,
}

/// A node group of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeGroup {
    /// Unique among all groups of the cluster.
    pub name: String,
    pub kind: GroupKind,
    pub lifecycle: Lifecycle,
    /// The image in force; known only if the launch template names it.
    pub image: Option<ImageId>,
    /// The launch template version in force.
    pub launch_template: Option<TemplateVersion>,
    /// Health issues, as `code: message`.
    pub health: Vec<String>,
    pub instance_types: Vec<String>,
    /// Desired number of nodes.
    pub desired: u32,
    pub tags: Tags,
    /// Kubernetes labels that EKS gives to its nodes.
    pub labels: Tags,
}

impl GroupKind {
    /// The word in `status.nodeGroups[].kind`.
    pub fn word(&self) -> NodeGroupKind {
        match self {
            Self::Managed(_) => NodeGroupKind::Managed,
            Self::SelfManaged(_) => NodeGroupKind::SelfManaged,
        }
    }
}

impl NodeGroup {
    /// A managed node group, as EKS describes it.
    pub fn managed(read: &ManagedNodegroup, fresh: bool) -> Self {
        let custom = read.ami_type == "CUSTOM";
        let ready = || fresh.then_some(Ready(()));
        let lifecycle = match read.status.as_str() {
            "ACTIVE" => Lifecycle::Active(ready()),
            "UPDATING" => Lifecycle::Updating,
            "DEGRADED" => Lifecycle::Degraded(ready()),
            "CREATING" => Lifecycle::Creating,
            "DELETING" => Lifecycle::Deleting,
            other => Lifecycle::Broken(other.to_owned()),
        };
        Self {
            name: read.name.clone(),
            kind: GroupKind::Managed(ManagedGroup {
                ami_type: read.ami_type.clone(),
                max_unavailable: MaxUnavailable {
                    count: read.max_unavailable,
                    percentage: read.max_unavailable_percentage,
                },
                update_strategy: read.update_strategy.clone(),
            }),
            lifecycle,
            // EKS returns the image ID as the release version, but only for `CUSTOM` groups.
            image: read.release_version.clone().filter(|_| custom).and_then(|id| ImageId::parse(id).ok()),
            launch_template: read.launch_template.clone(),
            health: read.health.clone(),
            instance_types: read.instance_types.clone(),
            desired: read.desired.and_then(|nodes| u32::try_from(nodes).ok()).unwrap_or(0),
            tags: read.tags.clone(),
            labels: read.labels.clone(),
        }
    }

    /// A managed node group of which only the name is known.
    pub fn name_only(name: &str, lifecycle: Lifecycle) -> Self {
        let read = ManagedNodegroup { name: name.to_owned(), ..ManagedNodegroup::default() };
        Self { lifecycle, ..Self::managed(&read, false) }
    }

    pub fn is_degraded(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Degraded(_))
    }

    /// Whether the group is on a launch template, or may launch from it.
    pub fn is_on(&self, template: &TemplateId) -> bool {
        self.launch_template.as_ref().is_some_and(|in_force| in_force.template == *template)
    }

    /// The versions of a launch template that the group launches or that its nodes run.
    pub fn versions_in_use(&self, template: &TemplateId) -> Vec<&str> {
        let in_force = self.launch_template.iter();
        let running = match &self.kind {
            GroupKind::Managed(_) => &[][..],
            GroupKind::SelfManaged(group) => group.instances.as_slice(),
        };
        let used = in_force.chain(running.iter().filter_map(|instance| instance.version.as_ref()));
        used.filter(|used| used.template == *template).map(|used| used.version.as_str()).collect()
    }

    pub fn self_managed_kind(&self) -> Option<&SelfManagedGroup> {
        match &self.kind {
            GroupKind::SelfManaged(group) => Some(group),
            GroupKind::Managed(_) => None,
        }
    }
}

/// The name of a group in AWS, by its unique name.
pub fn name_in_aws(name: &str) -> &str {
    name.strip_suffix(SELF_MANAGED).unwrap_or(name)
}

/// The unique name of a self-managed group. `is_taken`: a managed group has the same name.
pub fn unique_name(name: &str, is_taken: bool) -> Cow<'_, str> {
    if is_taken { Cow::Owned(format!("{name}{SELF_MANAGED}")) } else { Cow::Borrowed(name) }
}

/// Sorts node groups by name. If none of them could be read, the list itself is unknown.
pub fn sorted(mut groups: Vec<NodeGroup>) -> Seen<Vec<NodeGroup>> {
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    let read = || groups.iter().filter(|group| group.lifecycle != Lifecycle::NotRead);
    let unreadable = |group: &NodeGroup| matches!(group.lifecycle, Lifecycle::Unreadable(..));
    match read().next().map(|first| first.lifecycle.clone()) {
        Some(Lifecycle::Unreadable(class, why)) if read().all(unreadable) => Seen::Unknown(class, why),
        _ => Seen::Is(groups),
    }
}
