//! Reads the self-managed groups of the cluster. One call returns all of them with their instances; further calls are
//! made only for what is needed of one group: the versions of its launch template, which are shared, and its instance
//! refreshes while a rollout is in progress. Called by `groups`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};

use super::super::Context;
use super::super::node_group::{Lifecycle, NodeGroup, ReadGroup, is_owned_by_aws, name_in_aws, unique_name};
use super::super::spec::Spec;
use crate::api::Class;
use crate::aws::autoscaling::{AutoScalingGroup, TemplateRef, VersionRef};
use crate::aws::{AwsError, Fresh, LaunchTemplateVersion};

/// Groups that are read at the same time.
const AT_ONCE: usize = 8;
/// For this long, a response is shared with everyone.
const SHARED: Duration = Duration::from_secs(30);

/// The managed node groups of the cluster, by which self-managed ones are recognized.
#[derive(Clone, Debug, Default)]
pub struct ManagedGroups {
    pub names: BTreeSet<String>,
    /// The Auto Scaling groups of those that were read.
    pub auto_scaling_groups: BTreeSet<String>,
}

/// Which self-managed groups to read, and how.
pub struct Wanted<'a> {
    pub managed: &'a ManagedGroups,
    /// How fresh the list must be.
    pub list: Fresh,
    /// How fresh the read of a group must be, by its unique name. A group that is not wanted is listed only.
    pub groups: &'a (dyn Fn(&str) -> Option<Fresh> + Sync),
    /// Their instance refreshes are read too.
    pub with_refreshes: bool,
}

/// Self-managed groups, and the names of those that were read without the cache.
pub type Read = (Vec<NodeGroup>, BTreeSet<String>);

/// All self-managed groups of the cluster.
pub async fn list(spec: &Spec, ctx: &Context, wanted: Wanted<'_>) -> Result<Read, AwsError> {
    let (region, cluster) = (&spec.region, spec.cluster.as_str());
    let (mut all, mut is_fresh) = ctx.aws.auto_scaling_groups(region, cluster, wanted.list).await?;
    let strictest = all.iter().filter_map(|group| wanted.of(group)).min_by_key(|fresh| age(*fresh));
    if let Some(strictest) = strictest.filter(|fresh| !is_fresh && age(*fresh) < age(wanted.list)) {
        (all, is_fresh) = ctx.aws.auto_scaling_groups(region, cluster, strictest).await?;
    }
    let own = all.iter().filter(|group| !wanted.is_owned(group));
    let mut reads = Vec::new();
    for group in own {
        let name = wanted.name(group).into_owned();
        let fresh = wanted.of(group);
        reads.push(read(spec, ctx, name, group, fresh, wanted.with_refreshes, is_fresh));
    }
    let groups: Vec<(NodeGroup, bool)> = stream::iter(reads).buffered(AT_ONCE).collect().await;
    let fresh =
        groups.iter().filter(|(_, is_fresh)| *is_fresh).map(|(group, _)| group.name.clone()).collect();
    Ok((groups.into_iter().map(|(group, _)| group).collect(), fresh))
}

/// These groups by their unique names, without the cache. A group that does not exist is omitted.
pub async fn named(spec: &Spec, ctx: &Context, names: &BTreeSet<String>) -> Vec<NodeGroup> {
    if names.is_empty() {
        return Vec::new();
    }
    // A name with the addition means that a managed group has it without.
    let taken = names.iter().filter(|name| name_in_aws(name) != name.as_str());
    let taken = taken.map(|name| name_in_aws(name).to_owned()).collect();
    let managed = ManagedGroups { names: taken, ..ManagedGroups::default() };
    let groups = |name: &str| names.contains(name).then_some(Fresh::Now);
    let wanted = Wanted { managed: &managed, list: Fresh::Now, groups: &groups, with_refreshes: true };
    match list(spec, ctx, wanted).await {
        Ok((groups, _)) => groups.into_iter().filter(|group| names.contains(&group.name)).collect(),
        Err(error) => names.iter().map(|name| unreadable(name, &error)).collect(),
    }
}

impl Wanted<'_> {
    fn name<'a>(&self, group: &'a AutoScalingGroup) -> std::borrow::Cow<'a, str> {
        unique_name(&group.name, self.managed.names.contains(&group.name))
    }

    fn of(&self, group: &AutoScalingGroup) -> Option<Fresh> {
        (self.groups)(&self.name(group)).filter(|_| !self.is_owned(group))
    }

    fn is_owned(&self, group: &AutoScalingGroup) -> bool {
        is_owned_by_aws(group) || self.managed.auto_scaling_groups.contains(&group.name)
    }
}

/// The age up to which a response is enough.
fn age(fresh: Fresh) -> Duration {
    match fresh {
        Fresh::Now => Duration::ZERO,
        Fresh::Cached => SHARED,
        Fresh::Within(age) => age,
    }
}

/// Reads one group, and returns whether everything was read without the cache.
async fn read(
    spec: &Spec,
    ctx: &Context,
    name: String,
    group: &AutoScalingGroup,
    fresh: Option<Fresh>,
    with_refreshes: bool,
    is_list_fresh: bool,
) -> (NodeGroup, bool) {
    let only_listed = ReadGroup { group, versions: None, refreshes: None, is_fresh: false };
    let Some(fresh) = fresh else {
        let group = NodeGroup::self_managed(name, only_listed);
        return (NodeGroup { lifecycle: Lifecycle::NotRead, ..group }, false);
    };
    let versions = match group.source.template() {
        Some(template) => versions(spec, ctx, template, fresh).await,
        None => Ok((None, true)),
    };
    let (versions, are_versions_fresh) = match versions {
        Ok(versions) => versions,
        Err(error) => {
            let lifecycle = Lifecycle::Unreadable(error.class(), error.to_string());
            return (NodeGroup { lifecycle, ..NodeGroup::self_managed(name, only_listed) }, is_list_fresh);
        }
    };
    let (refreshes, are_refreshes_fresh) = match with_refreshes {
        false => (None, false),
        true => match ctx.aws.instance_refreshes(&spec.region, &group.name, fresh).await {
            Ok((refreshes, is_fresh)) => (Some(Ok(refreshes)), is_fresh),
            Err(error) => (Some(Err(error)), true),
        },
    };
    let is_fresh = is_list_fresh && are_versions_fresh && are_refreshes_fresh;
    let versions = versions.as_deref().map(Vec::as_slice);
    (NodeGroup::self_managed(name, ReadGroup { group, versions, refreshes, is_fresh }), is_fresh)
}

/// The versions of a launch template, and whether they show what is in force now. A numbered version never changes, so
/// an older response is enough if it contains it.
async fn versions(
    spec: &Spec,
    ctx: &Context,
    template: &TemplateRef,
    fresh: Fresh,
) -> Result<(Option<Arc<Vec<LaunchTemplateVersion>>>, bool), AwsError> {
    let VersionRef::Number(number) = template.version else {
        let fresh = if fresh == Fresh::Now { Fresh::Now } else { Fresh::Cached };
        return known(ctx.aws.template_versions(&spec.region, &template.template, fresh).await);
    };
    let read = ctx.aws.template_versions(&spec.region, &template.template, Fresh::Cached).await;
    let is_listed = |versions: &[LaunchTemplateVersion]| versions.iter().any(|known| known.number == number);
    match read {
        Ok((versions, is_fresh)) if !is_fresh && !is_listed(&versions) => {
            known(ctx.aws.template_versions(&spec.region, &template.template, Fresh::Now).await)
        }
        read => known(read).map(|(versions, _)| (versions, true)),
    }
}

/// A template that does not exist has no versions.
fn known<T>(read: Result<(T, bool), AwsError>) -> Result<(Option<T>, bool), AwsError> {
    match read {
        Ok((versions, is_fresh)) => Ok((Some(versions), is_fresh)),
        Err(error) if error.class() == Class::NotFound => Ok((None, true)),
        Err(error) => Err(error),
    }
}

fn unreadable(name: &str, error: &AwsError) -> NodeGroup {
    let group = AutoScalingGroup::default();
    let read = ReadGroup { group: &group, versions: None, refreshes: None, is_fresh: false };
    let lifecycle = Lifecycle::Unreadable(error.class(), error.to_string());
    NodeGroup { lifecycle, ..NodeGroup::self_managed(name.to_owned(), read) }
}
