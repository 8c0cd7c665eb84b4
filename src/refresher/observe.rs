//! Reads what a reconcile needs into `Observed`. The first reads are shared and cheap; anything further is read only
//! when the plan needs it (`Need`), so that the reconcile of a settled refresher makes no call of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Context;
use super::images::builder_of;
use super::memory::Memory;
use super::node_group::{Lifecycle, NodeGroup, sorted};
use super::observed::{Account, Need, Observed, SourceImages};
use super::spec::{Source, Spec};
use crate::api::{ImageId, Key, Seen};
use crate::aws::{AwsError, Fresh, Image, ManagedNodegroup, Update};

/// Which node groups to read first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupsToRead {
    /// All groups in scope; without the cache if a person requested a reconcile.
    All { fresh: bool },
    /// Only the groups that are being moved, without the cache: most likely their update is awaited.
    Only(BTreeSet<String>),
}

impl GroupsToRead {
    /// While updates are in progress and no further one may start, only these groups matter.
    pub fn of(spec: &Spec, memory: &Memory, requested: bool) -> Self {
        let Some(rollout) = memory.rollout.as_ref().filter(|rollout| rollout.is_open()) else {
            return Self::All { fresh: requested };
        };
        let moving = rollout.moving().filter(|(_, entry)| !entry.is_blocked());
        let moving: BTreeSet<String> = moving.map(|(name, _)| name.to_owned()).collect();
        let none_may_start = moving.len() >= spec.update.max_parallel || !memory.pending;
        if !moving.is_empty() && none_may_start && !requested {
            Self::Only(moving)
        } else {
            Self::All { fresh: requested }
        }
    }
}

/// The first reads. Groups with an update in progress are always read without the cache, everything else only if a
/// person requested a reconcile.
pub async fn observe(spec: &Spec, memory: &Memory, ctx: &Context, requested: bool) -> Observed {
    let fresh = if requested { Fresh::Now } else { Fresh::Cached };
    let to_read = GroupsToRead::of(spec, memory, requested);
    let groups = async {
        match &to_read {
            GroupsToRead::All { fresh: true } => groups_in_scope(spec, ctx, Fresh::Now).await,
            GroupsToRead::All { fresh: false } => groups_in_scope(spec, ctx, Fresh::Cached).await,
            GroupsToRead::Only(names) => named_groups(spec, ctx, names).await,
        }
    };
    let (groups, source_images) = tokio::join!(groups, source_images(spec, ctx, fresh));
    // Read last: if the credentials changed in between, this is the account that an effect would reach.
    let account = account(spec, ctx).await;
    let partial = matches!(to_read, GroupsToRead::Only(_));
    Observed {
        fresh_groups: requested || partial,
        partial,
        fresh_source_images: requested,
        ..Observed::first(account, groups, source_images)
    }
}

/// Reads what the plan needs.
pub async fn read(mut observed: Observed, need: Need, spec: &Spec, ctx: &Context) -> Observed {
    let (region, cluster) = (&spec.region, spec.cluster.as_str());
    match need {
        Need::FreshGroups => {
            observed.groups = groups_in_scope(spec, ctx, Fresh::Now).await;
            (observed.fresh_groups, observed.partial) = (true, false);
        }
        Need::AllGroups => {
            observed.all_groups = Some(list_groups(spec, ctx, Fresh::Now, |_| true).await);
        }
        Need::Architectures(types) => {
            let architectures = ctx.aws.architectures(region, &types).await;
            observed.architectures.insert(types, seen(architectures));
        }
        Need::ClusterVersion => {
            observed.cluster_version = Some(seen(ctx.aws.cluster_version(region, cluster).await));
        }
        Need::FreshSourceImages => {
            observed.source_images = source_images(spec, ctx, Fresh::Now).await;
            observed.fresh_source_images = true;
        }
        Need::Images(ids) => observed.images.extend(images(spec, ctx, ids).await),
        Need::Template(template) => {
            let versions = ctx.aws.template_versions(region, &template).await;
            observed.templates.insert(template, seen(versions));
        }
        Need::Update { group, id } => {
            let update = ctx.aws.update(region, cluster, &group, &id).await;
            observed.updates.insert((group, id), seen(update));
        }
        Need::AllUpdates { group } => {
            let updates = all_updates(spec, ctx, &group).await;
            observed.all_updates.insert(group, seen(updates));
        }
    }
    observed
}

async fn account(spec: &Spec, ctx: &Context) -> Seen<Account> {
    let Some(synced) = ctx.synced.borrow().clone() else { return Seen::Is(Account::NotSynced) };
    let Some(allowed) = synced.set.settings.accounts.clone() else { return Seen::Is(Account::Allowed) };
    seen(ctx.aws.account(&spec.region).await).map(|account| {
        if allowed.contains(&account) { Account::Allowed } else { Account::Other { account, allowed } }
    })
}

async fn groups_in_scope(spec: &Spec, ctx: &Context, fresh: Fresh) -> Seen<Vec<NodeGroup>> {
    list_groups(spec, ctx, fresh, |name| !spec.scope.excludes(name)).await
}

/// All groups of the cluster. Those that are not wanted are listed by name only.
async fn list_groups(
    spec: &Spec,
    ctx: &Context,
    fresh: Fresh,
    wanted: impl Fn(&str) -> bool,
) -> Seen<Vec<NodeGroup>> {
    match ctx.aws.nodegroups(&spec.region, &spec.cluster, fresh, wanted).await {
        Err(error) => Seen::Unknown(error.class(), error.to_string()),
        Ok(all) => sorted(all.into_iter().map(|(name, read)| node_group(&name, read, fresh)).collect()),
    }
}

fn node_group(name: &str, read: Option<Result<Arc<ManagedNodegroup>, AwsError>>, fresh: Fresh) -> NodeGroup {
    match read {
        None => NodeGroup::name_only(name, Lifecycle::NotRead),
        Some(Ok(read)) => NodeGroup::managed(&read, fresh == Fresh::Now),
        Some(Err(error)) => {
            NodeGroup::name_only(name, Lifecycle::Unreadable(error.class(), error.to_string()))
        }
    }
}

/// These groups, without the cache. A group that no longer exists is omitted.
async fn named_groups(spec: &Spec, ctx: &Context, names: &BTreeSet<String>) -> Seen<Vec<NodeGroup>> {
    let mut groups = Vec::new();
    for name in names {
        let read = ctx.aws.nodegroup(&spec.region, &spec.cluster, name, Fresh::Now).await;
        groups.extend(read.transpose().map(|read| node_group(name, Some(read), Fresh::Now)));
    }
    sorted(groups)
}

async fn source_images(spec: &Spec, ctx: &Context, fresh: Fresh) -> Seen<SourceImages> {
    match &spec.source {
        Source::Image(_) => Seen::Is(SourceImages::Named),
        Source::Filters(query) => seen(ctx.aws.find_images(query, fresh).await)
            .map(|images| SourceImages::Filtered(images.to_vec())),
        Source::Cluster => {
            seen(ctx.aws.own_images(&spec.region, fresh).await).map(|images| tagged(&images, spec, ctx))
        }
        Source::Builder(builder) => {
            let Some(lanes) = (ctx.builder_images)(builder) else { return Seen::Is(SourceImages::NoBuilder) };
            let in_region = lanes.iter().filter(|lane| lane.region == spec.region.as_str());
            let ids = in_region.filter_map(|lane| ImageId::parse(lane.id.clone()).ok()).collect();
            built(spec, ctx, ids, fresh).await
        }
    }
}

/// The images that Opsy built, with those that the status of their builder names. Tags alone are not trusted: anyone
/// who may tag images can write them, but only the agent writes the status of a builder.
fn tagged(images: &[Image], spec: &Spec, ctx: &Context) -> SourceImages {
    let builders: BTreeSet<Key> = images.iter().filter_map(|image| builder_of(spec, image)).collect();
    let lanes = builders.iter().filter_map(|builder| (ctx.builder_images)(builder)).flatten();
    let recorded = lanes.filter_map(|lane| ImageId::parse(lane.id).ok()).collect();
    SourceImages::Tagged { images: images.to_vec(), recorded }
}

/// The images of a builder: from the shared list, and by ID those that the list does not contain (yet).
async fn built(spec: &Spec, ctx: &Context, ids: Vec<ImageId>, fresh: Fresh) -> Seen<SourceImages> {
    if ids.is_empty() {
        return Seen::Is(SourceImages::Built(Vec::new()));
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
    let with_image = |id: ImageId| {
        let image = listed(&id).or_else(|| further.iter().find(|image| image.id == id).cloned());
        (id, image)
    };
    Seen::Is(SourceImages::Built(ids.into_iter().map(with_image).collect()))
}

async fn images(spec: &Spec, ctx: &Context, ids: BTreeSet<ImageId>) -> Vec<(ImageId, Seen<Option<Image>>)> {
    let ids: Vec<ImageId> = ids.into_iter().collect();
    let read = seen(ctx.aws.images_by_id(&spec.region, &ids).await);
    let of = |id: &ImageId| read.clone().map(|images| images.into_iter().find(|image| image.id == *id));
    ids.iter().map(|id| (id.clone(), of(id))).collect()
}

/// Reads the updates one after another, because EKS allows few calls per second. This is rare: the response to a start
/// was lost, and EKS may have forgotten its client token.
async fn all_updates(spec: &Spec, ctx: &Context, group: &str) -> Result<Vec<Update>, AwsError> {
    let ids = ctx.aws.update_ids(&spec.region, &spec.cluster, group).await?;
    let mut updates = Vec::with_capacity(ids.len());
    for id in &ids {
        updates.push(ctx.aws.update(&spec.region, &spec.cluster, group, id).await?);
    }
    Ok(updates)
}

fn seen<T>(read: Result<T, AwsError>) -> Seen<T> {
    match read {
        Ok(value) => Seen::Is(value),
        Err(error) => Seen::Unknown(error.class(), error.to_string()),
    }
}
