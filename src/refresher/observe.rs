//! Reads what a reconcile needs into `Observed`. The first reads are shared and cheap; anything further is read only
//! when the plan needs it (`Need`), so that the reconcile of a settled refresher makes no call of its own. `groups`
//! reads the node groups, `self_managed` those of them that are Auto Scaling groups, and `cluster` the cluster in which
//! the agent runs.

mod cluster;
mod groups;
mod self_managed;

use std::collections::BTreeSet;

use futures::future::join_all;

use super::Context;
use super::cluster_view::ClusterView;
use super::images::builder_of;
use super::memory::Memory;
use super::node_group::name_in_aws;
use super::observed::{Account, Need, Observed, SourceImages};
use super::spec::{Source, Spec};
use crate::api::{ImageId, Key, Seen, TemplateId};
use crate::aws::{AwsError, Fresh, Image, Update};
use crate::probe::Verdict;
pub use groups::GroupsToRead;
#[cfg(test)]
pub use groups::RolloutGroups;

/// The first reads. Groups whose update is awaited are read without the cache, everything else only if a person
/// requested a reconcile.
pub async fn observe(spec: &Spec, memory: &Memory, ctx: &Context, requested: bool) -> Observed {
    let fresh = if requested { Fresh::Now } else { Fresh::Cached };
    let to_read = GroupsToRead::of(spec, memory, requested, (ctx.now)());
    let (groups, source_images) =
        tokio::join!(groups::first(spec, memory, ctx, &to_read), source_images(spec, ctx, fresh));
    // Read last: if the credentials changed in between, this is the account that an effect would reach.
    let account = account(spec, ctx).await;
    Observed {
        fresh_groups: groups.fresh,
        partial: matches!(to_read, GroupsToRead::Only(_)),
        fresh_source_images: requested,
        cluster: ClusterView::new(ctx.nodes.is_some()),
        ..Observed::first(account, groups.groups, source_images)
    }
}

/// Reads what the plan needs.
pub async fn read(
    mut observed: Observed,
    need: Need,
    spec: &Spec,
    memory: &Memory,
    ctx: &Context,
) -> Observed {
    let (region, cluster) = (&spec.region, spec.cluster.as_str());
    match need {
        Need::FreshGroups(names) => return groups::read_fresh(observed, names, spec, ctx).await,
        Need::OtherGroups => return groups::read_others(observed, spec, memory, ctx).await,
        Need::UsersOf(template) => {
            let users = groups::users_of(&template, &observed, spec, ctx).await;
            observed.users.insert(template, users);
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
            observed = read_template(observed, template, Fresh::Cached, spec, ctx).await;
        }
        Need::FreshTemplate(template) => {
            observed = read_template(observed, template, Fresh::Now, spec, ctx).await;
        }
        Need::Update { group, id } => {
            let update = ctx.aws.update(region, cluster, &group, &id).await;
            observed.updates.insert((group, id), seen(update));
        }
        Need::Hooks { group } => {
            let hooks = ctx.aws.terminating_hooks(region, name_in_aws(&group)).await;
            observed.hooks.insert(group, seen(hooks));
        }
        Need::AllUpdates { group } => {
            let updates = all_updates(spec, ctx, &group).await;
            observed.all_updates.insert(group, seen(updates));
        }
        Need::Checks(names) => observed.verdicts.extend(verdicts(spec, ctx, &names).await),
        Need::Cluster(need) => observed.cluster = cluster::read(observed.cluster, need, ctx).await,
    }
    observed
}

/// Evaluates these checks at the same time. Each has a time limit.
async fn verdicts(spec: &Spec, ctx: &Context, names: &BTreeSet<String>) -> Vec<(String, Verdict)> {
    let checks = spec.policy.health.checks.iter().filter(|check| names.contains(&check.name));
    let asked = checks
        .map(async |check| (check.name.clone(), ctx.probes.ask(&spec.key.namespace, &check.probe).await));
    join_all(asked).await
}

async fn account(spec: &Spec, ctx: &Context) -> Seen<Account> {
    let Some(synced) = ctx.synced.borrow().clone() else { return Seen::Is(Account::NotSynced) };
    let Some(allowed) = synced.set.settings.accounts.clone() else { return Seen::Is(Account::Allowed) };
    seen(ctx.aws.account(&spec.region).await).map(|account| {
        if allowed.contains(&account) { Account::Allowed } else { Account::Other { account, allowed } }
    })
}

async fn read_template(
    mut observed: Observed,
    template: TemplateId,
    fresh: Fresh,
    spec: &Spec,
    ctx: &Context,
) -> Observed {
    let read = ctx.aws.template_versions(&spec.region, &template, fresh).await;
    // A failure is as recent as it can be.
    if read.as_ref().map_or(true, |(_, is_fresh)| *is_fresh) {
        observed.fresh_templates.insert(template.clone());
    }
    observed.templates.insert(template, seen(read.map(|(versions, _)| versions)));
    observed
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
/// was lost, and EKS may have forgotten its client token. Updates that ended are described once, so that a read that
/// fails halfway continues there.
async fn all_updates(spec: &Spec, ctx: &Context, group: &str) -> Result<Vec<Update>, AwsError> {
    let ids = ctx.aws.update_ids(&spec.region, &spec.cluster, group).await?;
    let mut updates = Vec::with_capacity(ids.len());
    for id in &ids {
        updates.push(ctx.aws.past_update(&spec.region, &spec.cluster, group, id).await?);
    }
    Ok(updates)
}

fn seen<T>(read: Result<T, AwsError>) -> Seen<T> {
    match read {
        Ok(value) => Seen::Is(value),
        Err(error) => Seen::Unknown(error.class(), error.to_string()),
    }
}
