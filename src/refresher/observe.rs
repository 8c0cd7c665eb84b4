//! What a pass sees. Cheap, shared reads first; anything further only when the plan asks for it by a
//! `Need`, so that a settled pass costs no call of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::Context;
use super::memory::Memory;
use super::spec::{Source, Spec};
use crate::api::{Class, ImageId, Seen, TemplateId};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{AwsError, Fresh, Image, LaunchTemplateVersion, Nodegroup, TemplateVersion, Update};

/// Proof that a node group was ACTIVE in a fresh read. Made only here: an update cannot start on a
/// busy group or on an old answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready(());

/// Where a node group is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// With the proof where the read was fresh.
    Active(Option<Ready>),
    Updating,
    Degraded,
    Creating,
    Deleting,
    /// CREATE_FAILED, DELETE_FAILED, or a word this version does not know.
    Broken(String),
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
    pub health: Vec<String>,
}

/// Everything one pass knows of the world.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Was `groups` asked for in this pass?
    pub fresh_groups: bool,
    /// Was `found` asked for in this pass?
    pub fresh_found: bool,
    /// May this account be touched?
    pub account: Seen<Account>,
    pub groups: Seen<Vec<Group>>,
    pub found: Seen<Found>,
    /// Facts of images by id; `None` when there is no such image.
    pub images: BTreeMap<ImageId, Seen<Option<Image>>>,
    pub templates: BTreeMap<TemplateId, Seen<Vec<LaunchTemplateVersion>>>,
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
    /// What filters or tags found.
    Images(Vec<Image>),
    NoBuilder,
    /// The images of the builder, with their facts; `None` of one that is gone.
    Built(Vec<(ImageId, Option<Image>)>),
}

/// What the plan must know before it can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    FreshGroups,
    FreshFound,
    Images(BTreeSet<ImageId>),
    Template(TemplateId),
    Update { group: String, id: String },
    AllUpdates { group: String },
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
    let life = match seen.status.as_str() {
        "ACTIVE" => Life::Active(fresh.then_some(Ready(()))),
        "UPDATING" => Life::Updating,
        "DEGRADED" => Life::Degraded,
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
        health: seen.health.clone(),
    }
}

/// The first, cheap look. Groups being moved are read anew each time, all else only when somebody asks
/// for it.
pub async fn look(spec: &Spec, memory: &Memory, ctx: &Context, anew: bool) -> Observed {
    let moving = memory.rollout.as_ref().is_some_and(|rollout| rollout.moving().next().is_some());
    let fresh = |wanted| if wanted { Fresh::Now } else { Fresh::Cached };
    let (groups, found) =
        tokio::join!(groups(spec, ctx, fresh(moving || anew)), found(spec, ctx, fresh(anew)));
    // Last: where the credentials changed meanwhile, it is the account of what was read by the new ones.
    let account = account(spec, ctx).await;
    Observed {
        fresh_groups: moving || anew,
        fresh_found: anew,
        account,
        groups,
        found,
        images: BTreeMap::new(),
        templates: BTreeMap::new(),
        updates: BTreeMap::new(),
        all_updates: BTreeMap::new(),
    }
}

/// Reads what the plan asked for.
pub async fn closer(mut seen: Observed, need: Need, spec: &Spec, ctx: &Context) -> Observed {
    let (region, cluster) = (&spec.region, spec.cluster.as_str());
    match need {
        Need::FreshGroups => {
            seen.groups = groups(spec, ctx, Fresh::Now).await;
            seen.fresh_groups = true;
        }
        Need::FreshFound => {
            seen.found = found(spec, ctx, Fresh::Now).await;
            seen.fresh_found = true;
        }
        Need::Images(ids) => seen.images.extend(facts(spec, ctx, ids).await),
        Need::Template(template) => {
            let versions = ctx.aws.template_versions(region, &template).await;
            seen.templates.insert(template, known(versions));
        }
        Need::Update { group, id } => {
            let update = ctx.aws.update(region, cluster, &group, &id).await;
            seen.updates.insert((group, id), known(update));
        }
        Need::AllUpdates { group } => {
            let updates = all_updates(spec, ctx, &group).await;
            seen.all_updates.insert(group, known(updates));
        }
    }
    seen
}

async fn account(spec: &Spec, ctx: &Context) -> Seen<Account> {
    let Some(synced) = ctx.synced.borrow().clone() else { return Seen::Is(Account::NotSynced) };
    let Some(allowed) = synced.set.settings.accounts.clone() else { return Seen::Is(Account::Allowed) };
    known(ctx.aws.account(&spec.region).await).map(|account| {
        if allowed.contains(&account) { Account::Allowed } else { Account::Other { account, allowed } }
    })
}

async fn groups(spec: &Spec, ctx: &Context, fresh: Fresh) -> Seen<Vec<Group>> {
    let read = known(ctx.aws.nodegroups(&spec.region, &spec.cluster, fresh).await);
    read.map(|groups| {
        let mut groups: Vec<Group> = groups.iter().map(|seen| group(seen, fresh == Fresh::Now)).collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    })
}

async fn found(spec: &Spec, ctx: &Context, fresh: Fresh) -> Seen<Found> {
    match &spec.source {
        Source::Image(_) => Seen::Is(Found::Named),
        Source::Filters(query) => {
            known(ctx.aws.find_images(query, fresh).await).map(|images| Found::Images(images.to_vec()))
        }
        Source::Cluster => {
            known(ctx.aws.own_images(&spec.region, fresh).await).map(|images| Found::Images(images.to_vec()))
        }
        Source::Builder(builder) => {
            let Some(lanes) = (ctx.builder_images)(builder) else { return Seen::Is(Found::NoBuilder) };
            let here = lanes.iter().filter(|lane| lane.region == spec.region.as_str());
            let ids: Vec<ImageId> = here.filter_map(|lane| ImageId::parse(lane.id.clone()).ok()).collect();
            built(spec, ctx, ids, fresh).await
        }
    }
}

/// Facts of a builder's images: from the shared list, and by id those it does not have (yet).
async fn built(spec: &Spec, ctx: &Context, ids: Vec<ImageId>, fresh: Fresh) -> Seen<Found> {
    if ids.is_empty() {
        return Seen::Is(Found::Built(Vec::new()));
    }
    let own = match ctx.aws.own_images(&spec.region, fresh).await {
        Ok(own) => own,
        Err(error) => return Seen::Unknown(error.class(), error.to_string()),
    };
    let listed = |id: &ImageId| own.iter().find(|image| image.id == *id).cloned();
    let missing: Vec<ImageId> = ids.iter().filter(|id| listed(id).is_none()).cloned().collect();
    let mut further = Vec::new();
    if !missing.is_empty() {
        match ctx.aws.images_by_id(&spec.region, &missing).await {
            Ok(images) => further = images,
            Err(error) => return Seen::Unknown(error.class(), error.to_string()),
        }
    }
    let fact = |id: ImageId| {
        let image = listed(&id).or_else(|| further.iter().find(|image| image.id == id).cloned());
        (id, image)
    };
    Seen::Is(Found::Built(ids.into_iter().map(fact).collect()))
}

async fn facts(spec: &Spec, ctx: &Context, ids: BTreeSet<ImageId>) -> Vec<(ImageId, Seen<Option<Image>>)> {
    let asked: Vec<ImageId> = ids.into_iter().collect();
    let read = known(ctx.aws.images_by_id(&spec.region, &asked).await);
    let of = |id: &ImageId| read.clone().map(|images| images.into_iter().find(|image| image.id == *id));
    asked.iter().map(|id| (id.clone(), of(id))).collect()
}

/// One after another: this is rare, and EKS allows few calls a second.
async fn all_updates(spec: &Spec, ctx: &Context, group: &str) -> Result<Vec<Update>, AwsError> {
    let ids = ctx.aws.update_ids(&spec.region, &spec.cluster, group).await?;
    let mut updates = Vec::with_capacity(ids.len());
    for id in &ids {
        updates.push(ctx.aws.update(&spec.region, &spec.cluster, group, id).await?);
    }
    Ok(updates)
}

fn known<T>(read: Result<T, AwsError>) -> Seen<T> {
    match read {
        Ok(value) => Seen::Is(value),
        Err(error) => Seen::Unknown(error.class(), error.to_string()),
    }
}

impl Observed {
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
