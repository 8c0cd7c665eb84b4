//! Reads the node groups of the cluster. There is one call per managed group, so during a rollout the groups that it moves
//! are read in every reconcile, and the others only as often as those of a settled refresher. `self_managed` reads the
//! Auto Scaling groups among them. Called by `observe`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::super::Context;
use super::super::memory::{Memory, Rollout};
use super::super::node_group::{Lifecycle, NodeGroup, sorted};
use super::super::observed::{FreshGroups, Observed};
use super::super::spec::Spec;
use super::self_managed::{self, ManagedGroups, Wanted};
use crate::api::words::NodeGroupKind;
use crate::api::{Seen, TemplateId};
use crate::aws::eks::Described;
use crate::aws::{AwsError, Fresh};

/// While a rollout is in progress, groups that it does not move are read again at the interval of the refresher, but at
/// least this often.
const LONGEST_IDLE: Duration = Duration::from_secs(600);

/// While further groups start one after another, those that are being moved are not read again in every reconcile.
const MOVING: Duration = Duration::from_secs(10);
/// What is shared with everyone is shared for this long.
const SHORTEST_IDLE: Duration = Duration::from_secs(30);

/// Which node groups to read first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupsToRead {
    /// All groups in scope; without the cache if a person requested a reconcile.
    All { fresh: bool },
    /// Only the groups that are being moved, without the cache: most likely their update is awaited.
    Only(BTreeSet<String>),
    /// A further group may start: all groups in scope.
    Rollout(RolloutGroups),
}

/// How groups are read while a rollout is in progress. Whatever is done to one of them is decided after a read without
/// the cache, so an older response only delays what it does not show yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutGroups {
    /// They are being moved.
    moving: BTreeSet<String>,
    /// They were just moved, and EKS may have returned their old state: their response becomes outdated soon.
    settling: BTreeSet<String>,
    /// The age up to which a response is enough for all others.
    age: Duration,
}

impl GroupsToRead {
    /// While updates are in progress and no further one may start, only these groups matter.
    pub fn of(spec: &Spec, memory: &Memory, requested: bool, now: Timestamp) -> Self {
        let Some(rollout) = memory.rollout.as_ref().filter(|rollout| rollout.is_open() && !requested) else {
            return Self::All { fresh: requested };
        };
        let moving = moving(rollout);
        let none_may_start = moving.len() >= spec.policy.max_parallel() || !memory.pending;
        if !moving.is_empty() && none_may_start {
            Self::Only(moving)
        } else {
            Self::Rollout(RolloutGroups::of(spec, memory, now))
        }
    }
}

impl RolloutGroups {
    pub fn of(spec: &Spec, memory: &Memory, now: Timestamp) -> Self {
        let entries = memory.rollout.iter().flat_map(|rollout| &rollout.groups);
        let settling = entries.filter(|(_, entry)| entry.is_settling(now)).map(|(name, _)| name.clone());
        let moving = memory.rollout.as_ref().map(moving).unwrap_or_default();
        Self { moving, settling: settling.collect(), age: Self::longest_age(spec) }
    }

    /// The age up to which a response is enough for a group at rest that nothing is done to.
    fn longest_age(spec: &Spec) -> Duration {
        spec.timer.clamp(SHORTEST_IDLE, LONGEST_IDLE)
    }

    /// How fresh the read of a group must be.
    pub fn freshness(&self, name: &str) -> Fresh {
        if self.moving.contains(name) {
            Fresh::Within(MOVING)
        } else if self.settling.contains(name) {
            Fresh::Cached
        } else {
            Fresh::Within(self.age)
        }
    }
}

/// The groups that are being moved, except for those that wait to be retried after a refusal.
fn moving(rollout: &Rollout) -> BTreeSet<String> {
    let moving = rollout.moving().filter(|(_, entry)| !entry.is_blocked());
    moving.map(|(name, _)| name.to_owned()).collect()
}

/// Groups as read.
pub struct ReadGroups {
    pub groups: Seen<Vec<NodeGroup>>,
    pub fresh: FreshGroups,
}

/// The first read of the groups.
pub async fn first(spec: &Spec, memory: &Memory, ctx: &Context, to_read: &GroupsToRead) -> ReadGroups {
    match to_read {
        GroupsToRead::All { fresh: true } => {
            let listed = list(spec, ctx, Fresh::Now, true, in_scope(spec, Fresh::Now)).await;
            ReadGroups { fresh: FreshGroups::All, ..read_groups(listed) }
        }
        GroupsToRead::All { fresh: false } => {
            read_groups(list(spec, ctx, Fresh::Cached, false, in_scope(spec, Fresh::Cached)).await)
        }
        GroupsToRead::Only(names) => {
            let entries = memory.rollout.iter().flat_map(|rollout| &rollout.groups);
            let own = entries.filter(|(_, entry)| entry.kind == NodeGroupKind::SelfManaged);
            let own: BTreeSet<&str> = own.map(|(name, _)| name.as_str()).collect();
            let groups = sorted(named(spec, ctx, names, |name| own.contains(name)).await);
            ReadGroups { groups, fresh: FreshGroups::Only(names.clone()) }
        }
        GroupsToRead::Rollout(rollout) => with_others(spec, ctx, rollout, Vec::new(), &BTreeSet::new()).await,
    }
}

/// Reads all groups in scope like this.
fn in_scope(spec: &Spec, fresh: Fresh) -> impl Fn(&str) -> Option<Fresh> + Sync {
    move |name| (!spec.scope.excludes(name)).then_some(fresh)
}

/// Reads the groups that are not being moved, in addition to those that are.
pub async fn read_others(observed: Observed, spec: &Spec, memory: &Memory, ctx: &Context) -> Observed {
    let (FreshGroups::Only(names), Seen::Is(read)) = (&observed.fresh_groups, &observed.groups) else {
        return Observed { partial: false, ..observed };
    };
    let others = RolloutGroups::of(spec, memory, (ctx.now)());
    let ReadGroups { groups, mut fresh } = with_others(spec, ctx, &others, read.clone(), names).await;
    fresh.add(names.clone());
    Observed { groups, fresh_groups: fresh, partial: false, ..observed }
}

/// Reads these groups without the cache.
pub async fn read_fresh(
    mut observed: Observed,
    names: BTreeSet<String>,
    spec: &Spec,
    ctx: &Context,
) -> Observed {
    if let Seen::Is(mut groups) = observed.groups {
        let own = self_managed_names(&groups);
        groups.retain(|group| !names.contains(&group.name));
        groups.extend(named(spec, ctx, &names, |name| own.contains(name)).await);
        observed.groups = sorted(groups);
    }
    observed.fresh_groups.add(names);
    observed
}

/// The groups of the cluster, including excluded ones; those on this launch template without the cache. EKS never
/// changes the template of a group, so an older response is enough to know the others.
pub async fn users_of(
    template: &TemplateId,
    observed: &Observed,
    spec: &Spec,
    ctx: &Context,
) -> Seen<Vec<NodeGroup>> {
    let is_read = |group: &&NodeGroup| {
        group.lifecycle != Lifecycle::NotRead && observed.fresh_groups.contains(&group.name)
    };
    let read: Vec<NodeGroup> =
        observed.groups.known().into_iter().flatten().filter(is_read).cloned().collect();
    let known: BTreeSet<String> = read.iter().map(|group| group.name.clone()).collect();
    let age = Fresh::Within(RolloutGroups::longest_age(spec));
    let others = |name: &str| (!known.contains(name)).then_some(age);
    let listed = match list(spec, ctx, Fresh::Now, true, others).await {
        Ok(listed) => listed,
        Err(error) => return Seen::Unknown(error.class(), error.to_string()),
    };
    let (mut groups, fresh) = listed;
    groups.retain(|group| !known.contains(&group.name));
    groups.extend(read);
    let uses = |group: &&NodeGroup| group.is_on(template);
    let outdated = groups.iter().filter(uses).map(|group| group.name.clone());
    let outdated: BTreeSet<String> =
        outdated.filter(|name| !known.contains(name) && !fresh.contains(name)).collect();
    let own = self_managed_names(&groups);
    groups.retain(|group| !outdated.contains(&group.name));
    groups.extend(named(spec, ctx, &outdated, |name| own.contains(name)).await);
    sorted(groups)
}

/// These groups, with all others of the cluster. `names` are the groups that were read.
async fn with_others(
    spec: &Spec,
    ctx: &Context,
    others: &RolloutGroups,
    read: Vec<NodeGroup>,
    names: &BTreeSet<String>,
) -> ReadGroups {
    let wanted = |name: &str| {
        let is_other = !names.contains(name) && !spec.scope.excludes(name);
        is_other.then(|| others.freshness(name))
    };
    let listed = list(spec, ctx, Fresh::Within(others.age), true, wanted).await;
    read_groups(listed.map(|(mut groups, fresh)| {
        groups.retain(|group| !names.contains(&group.name));
        groups.extend(read);
        (groups, fresh)
    }))
}

fn read_groups(listed: Result<(Vec<NodeGroup>, BTreeSet<String>), AwsError>) -> ReadGroups {
    match listed {
        Ok((groups, fresh)) => ReadGroups { groups: sorted(groups), fresh: FreshGroups::Only(fresh) },
        Err(error) => ReadGroups {
            groups: Seen::Unknown(error.class(), error.to_string()),
            fresh: FreshGroups::Only(BTreeSet::new()),
        },
    }
}

/// All groups of the cluster that are in scope by their kind, and the names of those that were read without the cache.
/// Groups that are not wanted are listed by name only.
async fn list(
    spec: &Spec,
    ctx: &Context,
    names: Fresh,
    with_refreshes: bool,
    wanted: impl Fn(&str) -> Option<Fresh> + Sync,
) -> Result<(Vec<NodeGroup>, BTreeSet<String>), AwsError> {
    let all = match spec.scope.managed {
        true => ctx.aws.nodegroups(&spec.region, &spec.cluster, names, &wanted).await?,
        false => Vec::new(),
    };
    let is_fresh = |(_, read): &&Described| read.as_ref().is_some_and(|read| read.is_fresh);
    let mut fresh: BTreeSet<String> = all.iter().filter(is_fresh).map(|(name, _)| name.clone()).collect();
    let mut groups: Vec<NodeGroup> = all.iter().map(node_group).collect();
    if spec.scope.self_managed {
        let managed = managed_groups(&all);
        let wanted = Wanted { managed: &managed, list: names, groups: &wanted, with_refreshes };
        let (own, own_fresh) = self_managed::list(spec, ctx, wanted).await?;
        groups.extend(own);
        fresh.extend(own_fresh);
    }
    Ok((groups, fresh))
}

fn managed_groups(all: &[Described]) -> ManagedGroups {
    let read = all.iter().filter_map(|(_, read)| read.as_ref()?.group.as_ref().ok());
    ManagedGroups {
        names: all.iter().map(|(name, _)| name.clone()).collect(),
        auto_scaling_groups: read.flat_map(|group| group.auto_scaling_groups.iter().cloned()).collect(),
    }
}

/// These groups, without the cache. A group that does not exist is omitted.
async fn named(
    spec: &Spec,
    ctx: &Context,
    names: &BTreeSet<String>,
    is_self_managed: impl Fn(&str) -> bool,
) -> Vec<NodeGroup> {
    let (own, managed): (BTreeSet<String>, BTreeSet<String>) =
        names.iter().cloned().partition(|name| is_self_managed(name));
    let (own, managed) = tokio::join!(
        self_managed::named(spec, ctx, &own),
        ctx.aws.nodegroups_named(&spec.region, &spec.cluster, &managed)
    );
    managed.iter().map(node_group).chain(own).collect()
}

fn self_managed_names(groups: &[NodeGroup]) -> BTreeSet<String> {
    let own = groups.iter().filter(|group| group.self_managed_kind().is_some());
    own.map(|group| group.name.clone()).collect()
}

fn node_group((name, read): &Described) -> NodeGroup {
    match read {
        None => NodeGroup::name_only(name, Lifecycle::NotRead),
        Some(read) => match &read.group {
            Ok(group) => NodeGroup::managed(group, read.is_fresh),
            Err(error) => NodeGroup::name_only(name, Lifecycle::Unreadable(error.class(), error.to_string())),
        },
    }
}
