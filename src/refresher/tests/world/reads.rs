//! Reads of the simulated world. With shared responses, a read may return what an earlier one did, as the AWS edge
//! does: the world then remembers what it returned, and when.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{SimGroup, World};
use crate::api::time::between;
use crate::api::{Class, Seen, TemplateId};
use crate::aws::{Fresh, LaunchTemplateVersion, ManagedNodegroup, TemplateVersion};
use crate::refresher::cluster_view::ClusterView;
use crate::refresher::memory::Memory;
use crate::refresher::node_group::{Lifecycle, NodeGroup, sorted};
use crate::refresher::observe::{GroupsToRead, RolloutGroups};
use crate::refresher::observed::{Account, FreshGroups, Need, Observed, SourceImages};
use crate::refresher::spec::{Source, Spec};
use crate::refresher::step::Step;

/// How long a response is shared with everyone.
const KEEP: Duration = Duration::from_secs(30);
/// How long the versions of a launch template are shared.
const KEEP_VERSIONS: Duration = Duration::from_secs(300);

/// The versions of a launch template.
type Versions = Arc<Vec<LaunchTemplateVersion>>;

/// Responses, with the time at which they were requested.
#[derive(Default)]
pub struct Responses {
    groups: RefCell<BTreeMap<String, (Timestamp, Option<ManagedNodegroup>)>>,
    names: RefCell<Option<(Timestamp, Vec<String>)>>,
    versions: RefCell<BTreeMap<TemplateId, (Timestamp, Versions)>>,
}

/// Groups that were read, and the names of those that were read without the cache.
type Read = (Vec<NodeGroup>, BTreeSet<String>);

impl World {
    pub fn observe(&self, spec: &Spec, to_read: &GroupsToRead, blind: bool) -> Observed {
        let unknown = || Seen::Unknown(Class::TRANSIENT, "no answer".to_owned());
        let images = match (&spec.source, &self.built) {
            (Source::Image(_), _) => SourceImages::Named,
            (_, None) => SourceImages::NoBuilder,
            (_, Some(id)) => SourceImages::Built(vec![(id.clone(), self.images.get(id).cloned())]),
        };
        if blind {
            let images = Seen::Unknown(Class::TRANSIENT, "no answer".to_owned());
            return Observed::first(Seen::Is(Account::Allowed), unknown(), images);
        }
        let (groups, fresh) = self.first_groups(spec, to_read);
        Observed {
            fresh_groups: match to_read {
                GroupsToRead::All { fresh: true } => FreshGroups::All,
                _ => FreshGroups::Only(fresh),
            },
            partial: matches!(to_read, GroupsToRead::Only(_)),
            cluster: ClusterView::new(self.cluster.is_some()),
            ..Observed::first(Seen::Is(Account::Allowed), sorted(groups), Seen::Is(images))
        }
    }

    fn first_groups(&self, spec: &Spec, to_read: &GroupsToRead) -> Read {
        match to_read {
            GroupsToRead::All { fresh } => {
                let with_refreshes = *fresh;
                let fresh = if *fresh { Fresh::Now } else { Fresh::Cached };
                self.list(fresh, with_refreshes, |name| (!spec.scope.excludes(name)).then_some(fresh))
            }
            GroupsToRead::Only(names) => (self.named(names), names.clone()),
            GroupsToRead::Rollout(rollout) => self.with_others(spec, rollout, &BTreeSet::new()),
        }
    }

    fn with_others(&self, spec: &Spec, others: &RolloutGroups, read: &BTreeSet<String>) -> Read {
        let wanted = |name: &str| (!spec.scope.excludes(name)).then(|| others.freshness(name));
        let (mut groups, mut fresh) = self.list(others.freshness(""), true, wanted);
        groups.retain(|group| !read.contains(&group.name));
        groups.extend(self.named(read));
        fresh.extend(read.iter().cloned());
        (groups, fresh)
    }

    fn list(&self, names: Fresh, with_refreshes: bool, wanted: impl Fn(&str) -> Option<Fresh>) -> Read {
        let (mut groups, mut read) = (Vec::new(), BTreeSet::new());
        for name in self.names(names) {
            let Some(fresh) = wanted(&name) else {
                groups.push(NodeGroup::name_only(&name, Lifecycle::NotRead));
                continue;
            };
            let (group, is_fresh) = self.group(&name, fresh);
            groups.extend(group.map(|group| NodeGroup::managed(&group, is_fresh)));
            if is_fresh {
                read.insert(name);
            }
        }
        for name in self.own.keys() {
            let fresh = wanted(name);
            groups.extend(self.own_group(name, fresh, with_refreshes));
            if fresh == Some(Fresh::Now) {
                read.insert(name.clone());
            }
        }
        (groups, read)
    }

    fn named(&self, names: &BTreeSet<String>) -> Vec<NodeGroup> {
        let read = names.iter().filter_map(|name| self.group(name, Fresh::Now).0);
        let managed = read.map(|group| NodeGroup::managed(&group, true));
        let own = names.iter().filter_map(|name| self.own_group(name, Some(Fresh::Now), true));
        managed.chain(own).collect()
    }

    fn names(&self, fresh: Fresh) -> Vec<String> {
        let mut kept = self.responses.names.borrow_mut();
        if let Some((_, names)) = kept.as_ref().filter(|(at, _)| self.is_usable(*at, fresh)) {
            return names.clone();
        }
        let names: Vec<String> = self.groups.keys().cloned().collect();
        *kept = Some((self.now, names.clone()));
        names
    }

    /// A group, and whether it was read now.
    fn group(&self, name: &str, fresh: Fresh) -> (Option<ManagedNodegroup>, bool) {
        let mut kept = self.responses.groups.borrow_mut();
        if let Some((at, group)) = kept.get(name) {
            let is_at_rest =
                group.as_ref().is_some_and(|group| matches!(group.status.as_str(), "ACTIVE" | "DEGRADED"));
            let fresh = if matches!(fresh, Fresh::Within(_)) && !is_at_rest { Fresh::Cached } else { fresh };
            if self.is_usable(*at, fresh) {
                return (group.clone(), false);
            }
        }
        let group = self.groups.get(name).map(|sim| sim.seen.clone());
        kept.insert(name.to_owned(), (self.now, group.clone()));
        // Without shared responses, every read returns the truth, but only some count as fresh.
        (group, self.shares || fresh == Fresh::Now)
    }

    fn is_usable(&self, at: Timestamp, fresh: Fresh) -> bool {
        let age = between(at, self.now);
        self.shares
            && match fresh {
                Fresh::Now => false,
                Fresh::Cached => age < KEEP,
                Fresh::Within(limit) => age < limit,
            }
    }

    /// What a write of ours drops.
    pub fn forget(&mut self, step: &Step) {
        let Responses { groups, versions, .. } = &mut self.responses;
        match step {
            Step::ConfigureManaged { group, .. } | Step::StartManagedUpdate { group, .. } => {
                groups.get_mut().remove(group);
            }
            Step::CreateVersion { source: TemplateVersion { template, .. }, .. }
            | Step::PruneVersions { template, .. } => {
                versions.get_mut().remove(template);
            }
            Step::PinGroup { .. }
            | Step::StartRefresh { .. }
            | Step::CancelRefresh { .. }
            | Step::RollBackRefresh { .. } => {}
        }
    }

    /// The agent restarts: it loses what it shared.
    pub fn restart(&mut self) {
        self.responses = Responses::default();
    }

    /// Whether a group is updating, and the refresher could know it: with shared responses, an update of another writer
    /// shows later.
    pub fn is_known_busy(&self, sim: &SimGroup) -> bool {
        let Some(running) = &sim.running else { return false };
        let kept = self.responses.groups.borrow();
        let shown = kept.get(&sim.seen.name).and_then(|(_, group)| group.as_ref());
        !self.shares || !running.foreign || shown.is_some_and(|group| group.status == "UPDATING")
    }

    /// Status and release of a group, as the refresher can know them; `None` if it cannot know the group yet.
    pub fn shown(&self, name: &str) -> Option<(String, Option<String>)> {
        let of = |group: &ManagedNodegroup| (group.status.clone(), group.release_version.clone());
        if !self.shares {
            return self.groups.get(name).map(|sim| of(&sim.seen));
        }
        let listed = self.responses.names.borrow();
        listed.as_ref().filter(|(_, names)| names.iter().any(|listed| listed == name))?;
        self.responses.groups.borrow().get(name).and_then(|(_, group)| group.as_ref().map(of))
    }

    fn versions(&self, id: &TemplateId, fresh: Fresh) -> (Seen<Versions>, bool) {
        let mut kept = self.responses.versions.borrow_mut();
        if let Some((at, versions)) = kept.get(id)
            && self.shares
            && fresh == Fresh::Cached
            && between(*at, self.now) < KEEP_VERSIONS
        {
            return (Seen::Is(versions.clone()), false);
        }
        let listed = |(shown, version): &(Timestamp, LaunchTemplateVersion)| {
            (*shown <= self.now).then(|| version.clone())
        };
        let Some(all) = self.templates.get(id) else {
            return (Seen::Unknown(Class::NotFound, "no such template".to_owned()), true);
        };
        let versions: Versions = Arc::new(all.iter().filter_map(listed).collect());
        kept.insert(id.clone(), (self.now, versions.clone()));
        (Seen::Is(versions), true)
    }

    fn users_of(&self, template: &TemplateId, seen: &Observed) -> Seen<Vec<NodeGroup>> {
        let is_fresh = |group: &&NodeGroup| {
            group.lifecycle != Lifecycle::NotRead && seen.fresh_groups.contains(&group.name)
        };
        let read: Vec<NodeGroup> =
            seen.groups.known().into_iter().flatten().filter(is_fresh).cloned().collect();
        let is_read = |name: &str| read.iter().any(|group| group.name == name);
        let (others, fresh) = self.list(Fresh::Now, true, |name| {
            (!is_read(name)).then_some(Fresh::Within(Duration::from_secs(600)))
        });
        let is_current = |group: &NodeGroup| {
            let uses = group.launch_template.as_ref().is_some_and(|force| force.template == *template);
            fresh.contains(&group.name) || !uses
        };
        let others = others.into_iter().filter(|group| !is_read(&group.name));
        let (mut groups, outdated): (Vec<_>, Vec<_>) = others.partition(is_current);
        groups.extend(self.named(&outdated.into_iter().map(|group| group.name).collect()));
        groups.extend(read);
        sorted(groups)
    }

    pub fn read(&self, mut seen: Observed, need: Need, spec: &Spec, memory: &Memory) -> Observed {
        match need {
            Need::FreshGroups(names) => {
                let mut groups = seen.groups.known().cloned().unwrap_or_default();
                groups.retain(|group| !names.contains(&group.name));
                groups.extend(self.named(&names));
                seen.groups = sorted(groups);
                seen.fresh_groups.add(names);
            }
            Need::OtherGroups => {
                let FreshGroups::Only(names) = &seen.fresh_groups else { panic!("all were read") };
                let (groups, fresh) =
                    self.with_others(spec, &RolloutGroups::of(spec, memory, self.now), &names.clone());
                seen.groups = sorted(groups);
                (seen.fresh_groups, seen.partial) = (FreshGroups::Only(fresh), false);
            }
            Need::UsersOf(template) => {
                let users = self.users_of(&template, &seen);
                seen.users.insert(template, users);
            }
            Need::Architectures(types) => {
                seen.architectures.insert(types, Seen::Is(["x86_64".to_owned()].into()));
            }
            Need::ClusterVersion => seen.cluster_version = Some(Seen::Is("1.31".to_owned())),
            Need::FreshSourceImages => seen.fresh_source_images = true,
            Need::Images(ids) => {
                seen.images
                    .extend(ids.into_iter().map(|id| (id.clone(), Seen::Is(self.images.get(&id).cloned()))));
            }
            Need::Template(id) => self.read_versions(&mut seen, id, Fresh::Cached),
            Need::FreshTemplate(id) => self.read_versions(&mut seen, id, Fresh::Now),
            Need::Update { group, id } => {
                let key = (group, id);
                let gone = Seen::Unknown(Class::NotFound, "no such update".to_owned());
                let update = self.updates.get(&key).cloned().map_or(gone, Seen::Is);
                seen.updates.insert(key, update);
            }
            Need::Hooks { group } => drop(seen.hooks.insert(group, Seen::Is(Vec::new()))),
            Need::AllUpdates { group } => {
                let of = self.updates.iter().filter(|((name, _), _)| *name == group);
                let all = of.map(|(_, update)| update.clone()).collect();
                seen.all_updates.insert(group, Seen::Is(all));
            }
            Need::Checks(names) => {
                let of = |name: String| (name.clone(), self.verdict(&name));
                seen.verdicts.extend(names.into_iter().map(of));
            }
            Need::Cluster(need) => seen.cluster = self.read_cluster(seen.cluster, need),
        }
        seen
    }

    fn read_versions(&self, seen: &mut Observed, id: TemplateId, fresh: Fresh) {
        let (versions, is_fresh) = self.versions(&id, fresh);
        if is_fresh {
            seen.fresh_templates.insert(id.clone());
        }
        seen.templates.insert(id, versions);
    }
}
