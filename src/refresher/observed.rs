//! What one reconcile knows, and what it still has to read. `observe` fills it; `plan` reads it, and a fact that was
//! not read yet is a `MissingFact` that names what to read. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cluster_view::{ClusterNeed, ClusterView, GroupNode, View};
use super::node_group::NodeGroup;
use super::spec::SoakCheck;
use crate::api::{Class, ImageId, Seen, TemplateId};
use crate::aws::{Image, LaunchTemplateVersion, Update};
use crate::engine::nodes::{Hosts, NodePod};
use crate::probe::Verdict;

/// Everything that one reconcile has read.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Which of `groups` were read without the cache in this reconcile.
    pub fresh_groups: FreshGroups,
    /// `groups` contains only the groups whose update is awaited.
    pub partial: bool,
    /// `source_images` was read without the cache in this reconcile.
    pub fresh_source_images: bool,
    /// Whether the account of the credentials may be changed.
    pub account: Seen<Account>,
    pub groups: Seen<Vec<NodeGroup>>,
    /// The groups of the cluster that may use a launch template, including excluded ones, by template.
    pub users: BTreeMap<TemplateId, Seen<Vec<NodeGroup>>>,
    pub source_images: Seen<SourceImages>,
    /// Images by ID; `None` for an image that EC2 does not return.
    pub images: BTreeMap<ImageId, Seen<Option<Image>>>,
    /// Versions by launch template.
    pub templates: BTreeMap<TemplateId, Seen<Arc<Vec<LaunchTemplateVersion>>>>,
    /// The launch templates that were read without the cache in this reconcile.
    pub fresh_templates: BTreeSet<TemplateId>,
    /// Architectures by instance types.
    pub architectures: BTreeMap<Vec<String>, Seen<BTreeSet<String>>>,
    /// Kubernetes version of the cluster.
    pub cluster_version: Option<Seen<String>>,
    /// Updates by group and ID.
    pub updates: BTreeMap<(String, String), Seen<Update>>,
    /// All updates of a group.
    pub all_updates: BTreeMap<String, Seen<Vec<Update>>>,
    /// The lifecycle hooks for terminating instances of a self-managed group.
    pub hooks: BTreeMap<String, Seen<Vec<String>>>,
    /// The cluster in which the agent runs.
    pub cluster: ClusterView,
    /// Results of checks, by name.
    pub verdicts: BTreeMap<String, Verdict>,
}

/// The groups that were read without the cache in a reconcile. One that is not in the list does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FreshGroups {
    /// The list of names as well.
    All,
    Only(BTreeSet<String>),
}

impl FreshGroups {
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }

    pub fn add(&mut self, further: BTreeSet<String>) {
        if let Self::Only(names) = self {
            names.extend(further);
        }
    }
}

/// The account of the credentials, compared with `accounts` in `opsy.yaml`.
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

/// The images that the source of the target offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceImages {
    /// `ami` names the image; nothing has to be searched.
    Named,
    /// The images that match `amiFilters`.
    Filtered(Vec<Image>),
    /// The images that Opsy built in the account, and those of them that the status of a builder names.
    Tagged { images: Vec<Image>, recorded: BTreeSet<ImageId> },
    /// The builder of `amiFrom` does not exist.
    NoBuilder,
    /// The images that the builder's status names; `None` for an image that EC2 does not return.
    Built(Vec<(ImageId, Option<Image>)>),
}

impl SourceImages {
    /// An image that the source offers.
    pub fn get(&self, id: &ImageId) -> Option<&Image> {
        match self {
            Self::Named | Self::NoBuilder => None,
            Self::Filtered(images) | Self::Tagged { images, .. } => {
                images.iter().find(|image| image.id == *id)
            }
            Self::Built(images) => {
                images.iter().find_map(|(_, image)| image.as_ref().filter(|image| image.id == *id))
            }
        }
    }
}

/// What has to be read before the plan can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// These groups, without the cache.
    FreshGroups(BTreeSet<String>),
    /// The groups that are not being moved.
    OtherGroups,
    /// The groups that may use this launch template, including excluded ones: a version of it is to be deleted.
    UsersOf(TemplateId),
    FreshSourceImages,
    Images(BTreeSet<ImageId>),
    Template(TemplateId),
    /// The launch template, without the cache.
    FreshTemplate(TemplateId),
    Architectures(Vec<String>),
    ClusterVersion,
    Update {
        group: String,
        id: String,
    },
    AllUpdates {
        group: String,
    },
    /// The lifecycle hooks for terminating instances of a self-managed group.
    Hooks {
        group: String,
    },
    /// Something of the cluster in which the agent runs.
    Cluster(ClusterNeed),
    /// The results of these checks.
    Checks(BTreeSet<String>),
}

/// Why the plan cannot decide yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingFact {
    /// It was not read yet in this reconcile.
    NotRead(Need),
    /// The read failed.
    Unreadable(Class, String),
}

impl Observed {
    /// The result of the first reads: nothing is fresh, and nothing further was read.
    pub fn first(
        account: Seen<Account>,
        groups: Seen<Vec<NodeGroup>>,
        source_images: Seen<SourceImages>,
    ) -> Self {
        Self {
            fresh_groups: FreshGroups::Only(BTreeSet::new()),
            partial: false,
            fresh_source_images: false,
            account,
            groups,
            users: BTreeMap::new(),
            source_images,
            images: BTreeMap::new(),
            templates: BTreeMap::new(),
            fresh_templates: BTreeSet::new(),
            architectures: BTreeMap::new(),
            cluster_version: None,
            updates: BTreeMap::new(),
            all_updates: BTreeMap::new(),
            hooks: BTreeMap::new(),
            cluster: ClusterView::default(),
            verdicts: BTreeMap::new(),
        }
    }

    pub fn groups(&self) -> Result<&[NodeGroup], MissingFact> {
        value(&self.groups).map(Vec::as_slice)
    }

    pub fn source_images(&self) -> Result<&SourceImages, MissingFact> {
        value(&self.source_images)
    }

    /// One image. If it has to be read, `batch` is read in the same call, because it will be needed too.
    pub fn image(&self, id: &ImageId, batch: &BTreeSet<ImageId>) -> Result<Option<&Image>, MissingFact> {
        let need = || Need::Images(batch.iter().chain([id]).cloned().collect());
        value(self.images.get(id).ok_or_else(|| MissingFact::NotRead(need()))?).map(Option::as_ref)
    }

    /// The groups of the cluster that may use a launch template, including excluded ones.
    pub fn users_of(&self, template: &TemplateId) -> Result<&[NodeGroup], MissingFact> {
        let need = || MissingFact::NotRead(Need::UsersOf(template.clone()));
        value(self.users.get(template).ok_or_else(need)?).map(Vec::as_slice)
    }

    /// The architectures that any of these instance types supports.
    pub fn architectures(&self, types: &[String]) -> Result<&BTreeSet<String>, MissingFact> {
        let need = || MissingFact::NotRead(Need::Architectures(types.to_vec()));
        value(self.architectures.get(types).ok_or_else(need)?)
    }

    /// Kubernetes version of the cluster.
    pub fn cluster_version(&self) -> Result<&str, MissingFact> {
        value(self.cluster_version.as_ref().ok_or(MissingFact::NotRead(Need::ClusterVersion))?)
            .map(String::as_str)
    }

    /// The versions of a launch template; `None` if the template does not exist.
    pub fn template_versions(
        &self,
        id: &TemplateId,
    ) -> Result<Option<&[LaunchTemplateVersion]>, MissingFact> {
        let versions =
            self.templates.get(id).ok_or_else(|| MissingFact::NotRead(Need::Template(id.clone())))?;
        value_if_found(versions).map(|versions| versions.map(|versions| versions.as_slice()))
    }

    /// Must hold before a version of the template is created, used or deleted, and before one counts as missing.
    pub fn require_fresh_template(&self, id: &TemplateId) -> Result<(), MissingFact> {
        let is_fresh = self.fresh_templates.contains(id);
        if is_fresh { Ok(()) } else { Err(MissingFact::NotRead(Need::FreshTemplate(id.clone()))) }
    }

    /// One update; `None` if EKS has no update with this ID.
    pub fn update(&self, group: &str, id: &str) -> Result<Option<&Update>, MissingFact> {
        let key = (group.to_owned(), id.to_owned());
        let need = || MissingFact::NotRead(Need::Update { group: key.0.clone(), id: key.1.clone() });
        value_if_found(self.updates.get(&key).ok_or_else(need)?)
    }

    pub fn all_updates(&self, group: &str) -> Result<&[Update], MissingFact> {
        let need = || MissingFact::NotRead(Need::AllUpdates { group: group.to_owned() });
        value(self.all_updates.get(group).ok_or_else(need)?).map(Vec::as_slice)
    }

    /// The lifecycle hooks for terminating instances of a self-managed group.
    pub fn hooks(&self, group: &str) -> Result<&[String], MissingFact> {
        let need = || MissingFact::NotRead(Need::Hooks { group: group.to_owned() });
        value(self.hooks.get(group).ok_or_else(need)?).map(Vec::as_slice)
    }

    /// The nodes of a group in the cluster in which the agent runs. Those of a self-managed group are recognized by its
    /// instances, which change whenever it scales.
    pub fn nodes<'a>(&'a self, group: &'a NodeGroup) -> Result<View<Vec<GroupNode<'a>>>, MissingFact> {
        if self.cluster.exists && group.self_managed_kind().is_some() {
            self.require_fresh_group(&group.name)?;
        }
        self.cluster.nodes(group).map_err(not_read)
    }

    /// Where the agent and builds run.
    pub fn hosts(&self) -> Result<View<&Hosts>, MissingFact> {
        self.cluster.hosts().map_err(not_read)
    }

    /// The pods on these nodes of a group.
    pub fn pods(&self, group: &str, nodes: &[GroupNode<'_>]) -> Result<View<&[NodePod]>, MissingFact> {
        self.cluster.pods(group, nodes).map_err(not_read)
    }

    /// The results of these checks, in their order.
    pub fn verdicts(&self, checks: &[&SoakCheck]) -> Result<Vec<&Verdict>, MissingFact> {
        let read = checks.iter().map(|check| self.verdicts.get(&check.name));
        let need = || Need::Checks(checks.iter().map(|check| check.name.clone()).collect());
        read.collect::<Option<_>>().ok_or_else(|| MissingFact::NotRead(need()))
    }

    /// Must hold before anything is changed on a group or recorded of it: a cached read may be outdated.
    pub fn require_fresh_group(&self, name: &str) -> Result<(), MissingFact> {
        self.require_fresh_groups([name])
    }

    /// The same for several groups, which are then read together.
    pub fn require_fresh_groups<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), MissingFact> {
        let is_cached = |name: &&str| !self.fresh_groups.contains(name);
        let cached: BTreeSet<String> = names.into_iter().filter(is_cached).map(str::to_owned).collect();
        if cached.is_empty() { Ok(()) } else { Err(MissingFact::NotRead(Need::FreshGroups(cached))) }
    }

    /// Must hold before a rollout starts: a cached read may name an outdated image.
    pub fn require_fresh_source_images(&self) -> Result<(), MissingFact> {
        if self.fresh_source_images { Ok(()) } else { Err(MissingFact::NotRead(Need::FreshSourceImages)) }
    }
}

fn not_read(need: ClusterNeed) -> MissingFact {
    MissingFact::NotRead(Need::Cluster(need))
}

fn value<T>(seen: &Seen<T>) -> Result<&T, MissingFact> {
    match seen {
        Seen::Is(value) => Ok(value),
        Seen::Unknown(class, why) => Err(MissingFact::Unreadable(*class, why.clone())),
    }
}

/// Like `value`, but `None` if AWS returned that it does not exist.
fn value_if_found<T>(seen: &Seen<T>) -> Result<Option<&T>, MissingFact> {
    match seen {
        Seen::Unknown(Class::NotFound, _) => Ok(None),
        other => value(other).map(Some),
    }
}
