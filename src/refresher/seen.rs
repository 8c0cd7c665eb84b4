//! What a pass knows of the world, and what it must still ask for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::memory::Memory;
use super::spec::Spec;
use crate::api::{Class, ImageId, Seen, TemplateId};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{Image, LaunchTemplateVersion, Nodegroup, Tags, TemplateVersion, Update};

/// Proof that a node group was at rest (ACTIVE or DEGRADED) in a fresh read. Made only here: an update
/// cannot start on a busy group or on an old answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready(());

/// Where a node group is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// With the proof where the read was fresh.
    Active(Option<Ready>),
    Updating,
    /// With the proof where the read was fresh.
    Degraded(Option<Ready>),
    Creating,
    Deleting,
    /// CREATE_FAILED, DELETE_FAILED, or a word this version does not know.
    Broken(String),
    /// Not read: it is excluded.
    Unread,
    /// Could not be read.
    Unreadable(Class, String),
}

/// A managed node group, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub life: Life,
    pub ami_type: String,
    /// The image in force; known of `CUSTOM` groups only.
    pub image: Option<ImageId>,
    pub template: Option<TemplateVersion>,
    pub max_unavailable: MaxUnavailable,
    /// DEFAULT or MINIMAL, where EKS says so.
    pub strategy: Option<String>,
    pub health: Vec<String>,
    pub instance_types: Vec<String>,
    /// Nodes that it should have.
    pub desired: u32,
    pub tags: Tags,
}

/// Everything one pass knows of the world.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Was `groups` asked for in this pass?
    pub fresh_groups: bool,
    /// Does `groups` have only those that an update is waited for?
    pub partial: bool,
    /// Was `found` asked for in this pass?
    pub fresh_found: bool,
    /// May this account be touched?
    pub account: Seen<Account>,
    pub groups: Seen<Vec<Group>>,
    /// All groups of the cluster, the excluded ones described, too.
    pub every: Option<Seen<Vec<Group>>>,
    pub found: Seen<Found>,
    /// Facts of images by id; `None` when there is no such image.
    pub images: BTreeMap<ImageId, Seen<Option<Image>>>,
    pub templates: BTreeMap<TemplateId, Seen<Vec<LaunchTemplateVersion>>>,
    /// Architectures by instance types.
    pub architectures: BTreeMap<Vec<String>, Seen<BTreeSet<String>>>,
    /// Kubernetes version of the cluster.
    pub cluster: Option<Seen<String>>,
    /// Updates by group and id.
    pub updates: BTreeMap<(String, String), Seen<Update>>,
    /// All updates of a group.
    pub all_updates: BTreeMap<String, Seen<Vec<Update>>>,
}

/// The account the credentials are of, against those `opsy.yaml` allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    Allowed,
    /// `opsy.yaml` was not read yet.
    NotSynced,
    Other {
        account: String,
        allowed: Vec<String>,
    },
}

/// What the source of the target offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// `ami` names the image itself.
    Named,
    /// What filters found.
    Images(Vec<Image>),
    /// The agent's images in the account, and those of them that a builder's status names.
    Tagged {
        images: Vec<Image>,
        recorded: BTreeSet<ImageId>,
    },
    NoBuilder,
    /// The images of the builder, with their facts; `None` of one that is gone.
    Built(Vec<(ImageId, Option<Image>)>),
}

/// What the plan must know before it can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    FreshGroups,
    /// All groups, the excluded ones, too: before launch template versions are deleted.
    EveryGroup,
    FreshFound,
    Images(BTreeSet<ImageId>),
    Template(TemplateId),
    Architectures(Vec<String>),
    ClusterVersion,
    Update {
        group: String,
        id: String,
    },
    AllUpdates {
        group: String,
    },
}

/// Why a plan cannot decide yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    Look(Need),
    Unknown(Class, String),
}

/// A node group as the plan sees it.
pub fn group(seen: &Nodegroup, fresh: bool) -> Group {
    let custom = seen.ami_type == "CUSTOM";
    let ready = || fresh.then_some(Ready(()));
    let life = match seen.status.as_str() {
        "ACTIVE" => Life::Active(ready()),
        "UPDATING" => Life::Updating,
        "DEGRADED" => Life::Degraded(ready()),
        "CREATING" => Life::Creating,
        "DELETING" => Life::Deleting,
        other => Life::Broken(other.to_owned()),
    };
    Group {
        name: seen.name.clone(),
        life,
        ami_type: seen.ami_type.clone(),
        image: seen.release_version.clone().filter(|_| custom).and_then(|id| ImageId::parse(id).ok()),
        template: seen.launch_template.clone(),
        max_unavailable: MaxUnavailable {
            count: seen.max_unavailable,
            percentage: seen.max_unavailable_percentage,
        },
        strategy: seen.update_strategy.clone(),
        health: seen.health.clone(),
        instance_types: seen.instance_types.clone(),
        desired: seen.desired.and_then(|nodes| u32::try_from(nodes).ok()).unwrap_or(0),
        tags: seen.tags.clone(),
    }
}

/// A node group of which only the name is known.
pub fn unread(name: &str, life: Life) -> Group {
    let seen = Nodegroup { name: name.to_owned(), ..Nodegroup::default() };
    Group { life, ..group(&seen, false) }
}

impl Group {
    pub fn is_degraded(&self) -> bool {
        matches!(self.life, Life::Degraded(_))
    }
}

/// Groups of a list, by name. Where none can be read, the list itself is unknown.
pub fn listed(mut groups: Vec<Group>) -> Seen<Vec<Group>> {
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    let described = || groups.iter().filter(|group| group.life != Life::Unread);
    let unreadable = |group: &Group| matches!(group.life, Life::Unreadable(..));
    match described().next().map(|first| first.life.clone()) {
        Some(Life::Unreadable(class, why)) if described().all(unreadable) => Seen::Unknown(class, why),
        _ => Seen::Is(groups),
    }
}

/// Which groups to read first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All in scope; fresh where somebody asks for it.
    All { fresh: bool },
    /// Only those being moved, fresh: most likely an update is waited for.
    Only(BTreeSet<String>),
}

impl Reading {
    /// While updates run and none may start beside them, nothing else of the cluster matters.
    pub fn of(spec: &Spec, memory: &Memory, asked: bool) -> Self {
        let Some(rollout) = memory.rollout.as_ref().filter(|rollout| rollout.open()) else {
            return Self::All { fresh: asked };
        };
        let moving = rollout.moving().filter(|(_, entry)| !entry.held());
        let moving: BTreeSet<String> = moving.map(|(name, _)| name.to_owned()).collect();
        let full = moving.len() >= spec.how.max_parallel || !memory.pending;
        if !moving.is_empty() && full && !asked { Self::Only(moving) } else { Self::All { fresh: asked } }
    }
}

impl Observed {
    /// What the first reads gave; nothing fresh, nothing further.
    pub fn first(account: Seen<Account>, groups: Seen<Vec<Group>>, found: Seen<Found>) -> Self {
        Self {
            fresh_groups: false,
            partial: false,
            fresh_found: false,
            account,
            groups,
            every: None,
            found,
            images: BTreeMap::new(),
            templates: BTreeMap::new(),
            architectures: BTreeMap::new(),
            cluster: None,
            updates: BTreeMap::new(),
            all_updates: BTreeMap::new(),
        }
    }

    pub fn groups(&self) -> Result<&[Group], Gap> {
        plain(&self.groups).map(Vec::as_slice)
    }

    pub fn found(&self) -> Result<&Found, Gap> {
        plain(&self.found)
    }

    /// Facts of one image, asked together with `also`, which will be needed too.
    pub fn image(&self, id: &ImageId, also: &BTreeSet<ImageId>) -> Result<Option<&Image>, Gap> {
        let need = || Need::Images(also.iter().chain([id]).cloned().collect());
        plain(self.images.get(id).ok_or_else(|| Gap::Look(need()))?).map(Option::as_ref)
    }

    /// All groups, the excluded ones, too.
    pub fn every(&self) -> Result<&[Group], Gap> {
        plain(self.every.as_ref().ok_or(Gap::Look(Need::EveryGroup))?).map(Vec::as_slice)
    }

    /// Architectures that any of these instance types supports.
    pub fn architectures(&self, types: &[String]) -> Result<&BTreeSet<String>, Gap> {
        let need = || Gap::Look(Need::Architectures(types.to_vec()));
        plain(self.architectures.get(types).ok_or_else(need)?)
    }

    /// Kubernetes version of the cluster.
    pub fn cluster(&self) -> Result<&str, Gap> {
        plain(self.cluster.as_ref().ok_or(Gap::Look(Need::ClusterVersion))?).map(String::as_str)
    }

    /// Versions of a template; `None` when there is no such template.
    pub fn template(&self, id: &TemplateId) -> Result<Option<&[LaunchTemplateVersion]>, Gap> {
        let seen = self.templates.get(id).ok_or_else(|| Gap::Look(Need::Template(id.clone())))?;
        present(seen).map(|versions| versions.map(Vec::as_slice))
    }

    /// One update; `None` when EKS knows none by that id.
    pub fn update(&self, group: &str, id: &str) -> Result<Option<&Update>, Gap> {
        let key = (group.to_owned(), id.to_owned());
        let need = || Gap::Look(Need::Update { group: key.0.clone(), id: key.1.clone() });
        present(self.updates.get(&key).ok_or_else(need)?)
    }

    pub fn all_updates(&self, group: &str) -> Result<&[Update], Gap> {
        let need = || Gap::Look(Need::AllUpdates { group: group.to_owned() });
        plain(self.all_updates.get(group).ok_or_else(need)?).map(Vec::as_slice)
    }

    /// Nothing is touched on a shared answer.
    pub fn fresh_groups(&self) -> Result<(), Gap> {
        if self.fresh_groups { Ok(()) } else { Err(Gap::Look(Need::FreshGroups)) }
    }

    /// No rollout starts on a shared answer.
    pub fn fresh_found(&self) -> Result<(), Gap> {
        if self.fresh_found { Ok(()) } else { Err(Gap::Look(Need::FreshFound)) }
    }
}

fn plain<T>(seen: &Seen<T>) -> Result<&T, Gap> {
    match seen {
        Seen::Is(value) => Ok(value),
        Seen::Unknown(class, why) => Err(Gap::Unknown(*class, why.clone())),
    }
}

fn present<T>(seen: &Seen<T>) -> Result<Option<&T>, Gap> {
    match seen {
        Seen::Unknown(Class::NotFound, _) => Ok(None),
        other => plain(other).map(Some),
    }
}
