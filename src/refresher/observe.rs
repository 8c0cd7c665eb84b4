//! Reads what a pass needs. Cheap, shared reads first; anything further only when the plan asks for it by
//! a `Need`, so that a settled pass costs no call of its own.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Context;
use super::memory::Memory;
use super::seen::{Account, Found, Group, Life, Need, Observed, Reading, group, listed, unread};
use super::spec::{Source, Spec};
use super::target::built_by;
use crate::api::{ImageId, Key, Seen};
use crate::aws::{AwsError, Fresh, Image, Nodegroup, Update};

/// The first, cheap reads. Groups with an update under way are read each time, all else fresh only when
/// somebody asks for it.
pub async fn look(spec: &Spec, memory: &Memory, ctx: &Context, asked: bool) -> Observed {
    let fresh = if asked { Fresh::Now } else { Fresh::Cached };
    let reading = Reading::of(spec, memory, asked);
    let groups = async {
        match &reading {
            Reading::All { fresh: true } => groups(spec, ctx, Fresh::Now).await,
            Reading::All { fresh: false } => groups(spec, ctx, Fresh::Cached).await,
            Reading::Only(names) => only(spec, ctx, names).await,
        }
    };
    let (groups, found) = tokio::join!(groups, found(spec, ctx, fresh));
    // Last: where the credentials changed meanwhile, it is the account of what was read by the new ones.
    let account = account(spec, ctx).await;
    let partial = matches!(reading, Reading::Only(_));
    Observed {
        fresh_groups: asked || partial,
        partial,
        fresh_found: asked,
        ..Observed::first(account, groups, found)
    }
}

/// Reads what the plan asked for.
pub async fn closer(mut seen: Observed, need: Need, spec: &Spec, ctx: &Context) -> Observed {
    let (region, cluster) = (&spec.region, spec.cluster.as_str());
    match need {
        Need::FreshGroups => {
            seen.groups = groups(spec, ctx, Fresh::Now).await;
            (seen.fresh_groups, seen.partial) = (true, false);
        }
        Need::EveryGroup => seen.every = Some(described(spec, ctx, Fresh::Now, |_| true).await),
        Need::Architectures(types) => {
            let found = known(ctx.aws.architectures(region, &types).await);
            seen.architectures.insert(types, found);
        }
        Need::ClusterVersion => seen.cluster = Some(known(ctx.aws.cluster_version(region, cluster).await)),
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
    described(spec, ctx, fresh, |name| !spec.scope.excludes(name)).await
}

/// All groups; those that are not wanted by their name alone.
async fn described(
    spec: &Spec,
    ctx: &Context,
    fresh: Fresh,
    wanted: impl Fn(&str) -> bool,
) -> Seen<Vec<Group>> {
    match ctx.aws.nodegroups(&spec.region, &spec.cluster, fresh, wanted).await {
        Err(error) => Seen::Unknown(error.class(), error.to_string()),
        Ok(all) => listed(all.into_iter().map(|(name, read)| parsed(&name, read, fresh)).collect()),
    }
}

fn parsed(name: &str, read: Option<Result<Arc<Nodegroup>, AwsError>>, fresh: Fresh) -> Group {
    match read {
        None => unread(name, Life::Unread),
        Some(Ok(seen)) => group(&seen, fresh == Fresh::Now),
        Some(Err(error)) => unread(name, Life::Unreadable(error.class(), error.to_string())),
    }
}

/// Some groups, fresh; one that does not exist any more is left out.
async fn only(spec: &Spec, ctx: &Context, names: &BTreeSet<String>) -> Seen<Vec<Group>> {
    let mut groups = Vec::new();
    for name in names {
        let read = ctx.aws.nodegroup(&spec.region, &spec.cluster, name, Fresh::Now).await;
        groups.extend(read.transpose().map(|read| parsed(name, Some(read), Fresh::Now)));
    }
    listed(groups)
}

async fn found(spec: &Spec, ctx: &Context, fresh: Fresh) -> Seen<Found> {
    match &spec.source {
        Source::Image(_) => Seen::Is(Found::Named),
        Source::Filters(query) => {
            known(ctx.aws.find_images(query, fresh).await).map(|images| Found::Images(images.to_vec()))
        }
        Source::Cluster => {
            known(ctx.aws.own_images(&spec.region, fresh).await).map(|images| tagged(&images, spec, ctx))
        }
        Source::Builder(builder) => {
            let Some(lanes) = (ctx.builder_images)(builder) else { return Seen::Is(Found::NoBuilder) };
            let here = lanes.iter().filter(|lane| lane.region == spec.region.as_str());
            let ids: Vec<ImageId> = here.filter_map(|lane| ImageId::parse(lane.id.clone()).ok()).collect();
            built(spec, ctx, ids, fresh).await
        }
    }
}

/// Tags alone say nothing: everybody who may tag images writes them. The status of a builder is the agent's own.
fn tagged(images: &[Image], spec: &Spec, ctx: &Context) -> Found {
    let builders: BTreeSet<Key> = images.iter().filter_map(|image| built_by(spec, image)).collect();
    let named = builders.iter().filter_map(|builder| (ctx.builder_images)(builder)).flatten();
    let recorded = named.filter_map(|lane| ImageId::parse(lane.id).ok()).collect();
    Found::Tagged { images: images.to_vec(), recorded }
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

/// One after another: this is asked for only when the answer to a start was lost and EKS may have forgotten
/// its token, and EKS allows few calls a second.
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
