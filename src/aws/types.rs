//! What the AWS APIs return, with the properties that Opsy uses: images, node groups, launch template versions, updates, and
//! what a build has left behind. The files of the services fill these.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

use super::templates::Disk;
use crate::api::tags::Tags;
use crate::api::{ImageId, Region, TemplateId};

/// An AMI, with the properties that Opsy uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: ImageId,
    pub name: String,
    pub owner_id: String,
    pub architecture: String,
    pub state: ImageState,
    /// Why the image failed, as reported by EC2.
    pub state_reason: Option<String>,
    pub created: Option<Timestamp>,
    pub deprecated: Option<Timestamp>,
    pub tags: Tags,
    pub snapshots: Vec<String>,
    /// The image from which it was made: the image of the instance, or for a copy the copied image.
    pub source: Option<ImageId>,
    pub machine: Machine,
}

impl Image {
    /// An available image of which only the ID and the name are known.
    pub fn named(id: ImageId, name: String) -> Self {
        Self {
            id,
            name,
            owner_id: String::new(),
            architecture: String::new(),
            state: ImageState::Available,
            state_reason: None,
            created: None,
            deprecated: None,
            tags: Tags::new(),
            snapshots: Vec::new(),
            source: None,
            machine: Machine::default(),
        }
    }

    /// Returns the state, with the reason if EC2 reports one.
    pub fn state_and_reason(&self) -> String {
        match &self.state_reason {
            Some(reason) => format!("{} ({reason})", self.state),
            None => self.state.to_string(),
        }
    }
}

/// What an image requires of the machine that it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `windows`, or empty for all other platforms.
    pub platform: String,
    /// Device name of the root volume. It is empty if EC2 reports none.
    pub root_device: String,
    /// Size of the root volume's snapshot in GiB.
    pub root_size: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    Available,
    Pending,
    /// EC2's states failed, invalid and error.
    Failed,
    Disabled,
    Deregistered,
    /// A state that this version does not know.
    Other(String),
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Available => "available",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
            Self::Deregistered => "deregistered",
            Self::Other(state) => state,
        })
    }
}

/// An instance, with the properties that Opsy uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    pub image: ImageId,
    /// pending, running, stopped, terminated, …
    pub state: Option<String>,
}

/// A validated EC2 filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter {
    pub name: String,
    pub values: Vec<String>,
}

/// A query for images of others. It always has image owners, so that it never searches all public images.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageQuery {
    pub region: Region,
    pub owners: Vec<String>,
    pub filters: Vec<Filter>,
}

/// Resources that an ended build may have left behind, found by build tag and announced IDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    pub instances: Vec<String>,
    pub volumes: Vec<String>,
    pub security_groups: Vec<String>,
    /// Key pair names.
    pub key_pairs: Vec<String>,
    /// Images that are not a result. They are removed with their snapshots.
    pub images: Vec<ImageId>,
    /// Images that are not a result and have snapshots that the build did not create. Those snapshots stay.
    pub partly: Vec<ImageId>,
    pub snapshots: Vec<String>,
    /// Images and snapshots among these that do not have the build's tags.
    pub unmarked: Vec<String>,
    /// The build's tags.
    pub marks: Tags,
}

impl Orphans {
    /// Adds the resources of another region.
    pub fn extend(&mut self, others: Self) {
        self.instances.extend(others.instances);
        self.volumes.extend(others.volumes);
        self.security_groups.extend(others.security_groups);
        self.key_pairs.extend(others.key_pairs);
        self.images.extend(others.images);
        self.partly.extend(others.partly);
        self.snapshots.extend(others.snapshots);
        self.unmarked.extend(others.unmarked);
        self.marks.extend(others.marks);
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a run announced, for orphaned resources without tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    pub instances: Vec<String>,
    pub security_groups: Vec<String>,
    pub key_pairs: Vec<String>,
    pub images: Vec<String>,
    pub volumes: Vec<String>,
    /// Images that Packer named as its result in a machine-readable line.
    pub artifacts: Vec<String>,
    /// When the run was started, if that is known. Anything older does not belong to it.
    pub since: Option<Timestamp>,
    /// The region in which the run made its images, if that is known. Its copies come from there.
    pub home: Option<Region>,
}

/// Which snapshots of an image belong to it: a template may map a snapshot that others use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Snapshots that were created since then, or slightly earlier if they have the build's tag, because clocks differ.
    Since(Timestamp),
    /// Snapshots with a `status` tag.
    Marked,
}

/// A managed node group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagedNodegroup {
    pub name: String,
    /// ACTIVE, UPDATING, DEGRADED, CREATING, DELETING, …
    pub status: String,
    /// `CUSTOM` if the launch template names the image.
    pub ami_type: String,
    /// With `CUSTOM`, the ID of the image in force.
    pub release_version: Option<String>,
    /// Only for groups that were created with a launch template.
    pub launch_template: Option<TemplateVersion>,
    pub max_unavailable: Option<i32>,
    pub max_unavailable_percentage: Option<i32>,
    /// DEFAULT or MINIMAL, if EKS reports it.
    pub update_strategy: Option<String>,
    /// `code: message` of each health issue.
    pub health: Vec<String>,
    /// Present if the group itself names them, instead of its launch template.
    pub instance_types: Vec<String>,
    /// Number of nodes that the group should have.
    pub desired: Option<i32>,
    /// Names of the Auto Scaling groups that EKS created for it.
    pub auto_scaling_groups: Vec<String>,
    pub tags: Tags,
    /// Kubernetes labels that EKS gives to the nodes.
    pub labels: Tags,
}

/// A launch template version by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateVersion {
    pub template: TemplateId,
    /// A number, as a string.
    pub version: String,
}

/// A version of a launch template, with the properties that Opsy uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchTemplateVersion {
    pub number: i64,
    pub image: Option<String>,
    pub description: Option<String>,
    pub is_default: bool,
    pub instance_type: Option<String>,
    pub disks: Vec<Disk>,
}

/// An update of a node group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub id: String,
    /// VersionUpdate, ConfigUpdate, …
    pub kind: String,
    pub status: UpdateStatus,
    /// `code: message (resource IDs)` of each error.
    pub errors: Vec<String>,
    pub created: Option<Timestamp>,
    /// Parameter names and values as EKS reports them (LaunchTemplateVersion, …).
    pub params: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateStatus {
    InProgress,
    Successful,
    Failed,
    Cancelled,
    Other(String),
}
