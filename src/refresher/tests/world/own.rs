//! Self-managed groups in the simulated world: instance refreshes that succeed, fail, are canceled by others or rolled
//! back, groups on `$Latest`, and mixed groups. Every effect is checked for what must never be requested.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{World, image_id, template_id};
use crate::api::refresher::NodeGroups;
use crate::api::{Class, ImageId, TemplateId};
use crate::aws::autoscaling::{
    AutoScalingGroup, InstanceRefresh, LaunchSource, Member, RefreshStatus, TemplateRef, VersionRef,
};
use crate::aws::{Fresh, LaunchTemplateVersion, TemplateVersion};
use crate::refresher::memory::Rollout;
use crate::refresher::node_group::{Lifecycle, NodeGroup, ReadGroup};
use crate::refresher::outcome::{ActError, ActErrorKind};

/// How long a refresh takes, in seconds.
const REFRESH: u64 = 300;
/// Nodes per group.
const NODES: usize = 2;

/// A self-managed group.
#[derive(Clone, Debug)]
pub struct SimOwn {
    pub seen: AutoScalingGroup,
    /// Newest first.
    pub refreshes: Vec<InstanceRefresh>,
    pub running: Option<OwnRunning>,
}

/// The refresh in progress, which is the first of the group.
#[derive(Clone, Debug)]
pub struct OwnRunning {
    pub ends: Timestamp,
    pub to: TemplateVersion,
    pub fails: bool,
    pub ours: bool,
    /// The refresher remembers that it started it.
    pub remembered: bool,
}

impl World {
    /// Adds self-managed groups to the cluster and to the scope. The first is on the launch template of the first managed
    /// groups, the second follows `$Latest` of its own.
    pub fn with_own(mut self, count: usize) -> Self {
        self.object.spec.node_groups = Some(NodeGroups {
            self_managed: Some(true),
            allow_without_drain: Some(true),
            ..NodeGroups::default()
        });
        for number in 0..count {
            let template = template_id(if number == 0 { 1 } else { 90 + number });
            let first = image_id(0);
            let number_of = self.add_version(&template, first.as_str(), None);
            let version = if number == 1 { VersionRef::Latest } else { VersionRef::Number(number_of) };
            let in_force = TemplateVersion { template: template.clone(), version: number_of.to_string() };
            let node = |node: usize| Member {
                id: format!("i-{number}-{node}"),
                version: Some(in_force.clone()),
                state: "InService".to_owned(),
                ..Member::default()
            };
            let name = format!("own-{number}");
            let seen = AutoScalingGroup {
                name: name.clone(),
                source: LaunchSource::Template(TemplateRef { template, version }),
                instances: (0..NODES).map(node).collect(),
                desired: Some(2),
                ..AutoScalingGroup::default()
            };
            self.own.insert(name, SimOwn { seen, refreshes: Vec::new(), running: None });
        }
        self
    }

    /// A self-managed group as the refresher reads it.
    pub fn own_group(&self, name: &str, fresh: Option<Fresh>, with_refreshes: bool) -> Option<NodeGroup> {
        let own = self.own.get(name)?;
        let template = &own.seen.source.template().expect("a template").template;
        let versions: Vec<LaunchTemplateVersion> = self.listed(template);
        let read = ReadGroup {
            group: &own.seen,
            versions: Some(&versions),
            refreshes: with_refreshes.then(|| Ok(Arc::new(own.refreshes.clone()))),
            is_fresh: fresh == Some(Fresh::Now),
        };
        let group = NodeGroup::self_managed(name.to_owned(), read);
        Some(match fresh {
            Some(_) => group,
            None => NodeGroup { lifecycle: Lifecycle::NotRead, ..group },
        })
    }

    fn listed(&self, template: &TemplateId) -> Vec<LaunchTemplateVersion> {
        let all = self.templates.get(template).into_iter().flatten();
        all.filter(|(shown, _)| *shown <= self.now).map(|(_, version)| version.clone()).collect()
    }

    /// The number of the version that a group launches now.
    pub fn own_in_force(&self, own: &SimOwn) -> TemplateVersion {
        self.own_launches(own, self.templates.values().flatten().map(|(_, version)| version.number))
    }

    /// The version that a group launches, if these are the numbers of all versions.
    fn own_launches(&self, own: &SimOwn, numbers: impl Iterator<Item = i64>) -> TemplateVersion {
        let reference = own.seen.source.template().expect("a template");
        let of_template = |number: &i64| {
            self.templates[&reference.template].iter().any(|(_, version)| version.number == *number)
        };
        let latest = || numbers.filter(of_template).max();
        let number = match reference.version {
            VersionRef::Number(number) => number,
            _ => latest().expect("a version"),
        };
        TemplateVersion { template: reference.template.clone(), version: number.to_string() }
    }

    pub fn expect_no_follower(&self, template: &TemplateId) {
        let follows = |own: &&SimOwn| {
            let reference = own.seen.source.template().expect("a template");
            reference.template == *template && reference.version == VersionRef::Latest
        };
        let follower = self.own.values().find(follows).map(|own| own.seen.name.clone());
        assert_eq!(follower, None, "a version is created that this group would launch at once");
    }

    pub fn pin(&mut self, name: &str, version: &TemplateVersion) -> Result<(), ActError> {
        self.effects.push("pin");
        // A version of ours that EC2 does not list yet is not meant for this group.
        let listed = self.listed(&version.template).into_iter().map(|version| version.number);
        let in_force = self.own_launches(&self.own[name], listed);
        assert_eq!(*version, in_force, "{name} is pinned to another version than the one in force");
        assert!(self.own[name].running.is_none(), "{name} is pinned during a refresh");
        self.point(name, version);
        Ok(())
    }

    fn point(&mut self, name: &str, version: &TemplateVersion) {
        let number = version.version.parse().expect("a number");
        let reference =
            TemplateRef { template: version.template.clone(), version: VersionRef::Number(number) };
        self.own.get_mut(name).expect("a group").seen.source = LaunchSource::Template(reference);
    }

    /// A refresh that the refresher starts. `since` is the start of the rollout.
    pub fn start_own(
        &mut self,
        name: &str,
        source: &LaunchSource,
        version: &TemplateVersion,
        rollout: &Rollout,
    ) -> Result<String, ActError> {
        self.effects.push("start refresh");
        let image = self.image_of(version).expect("the version exists");
        if rollout.rollback.is_none() {
            self.expect_in_window(name);
            self.expect_turn_of(name, &image, rollout.started);
        }
        let own = &self.own[name];
        if own.running.is_some() {
            let message = "InstanceRefreshInProgress: already in progress".to_owned();
            return Err(ActError { class: Class::Conflict, message, kind: ActErrorKind::Other });
        }
        if let Some(refusal) = self.refusing.get(name).cloned() {
            self.refused.insert((name.to_owned(), image));
            return Err(refusal);
        }
        let in_force = self.own_in_force(own);
        assert_eq!(*source, own.seen.source, "what the group launches is not what was read");
        let is_number =
            source.template().is_some_and(|template| matches!(template.version, VersionRef::Number(_)));
        assert!(is_number, "a refresh of a group that follows an alias starts");
        let number: i64 = version.version.parse().expect("a number");
        let from = self.sources.get(&number);
        // A version that this agent did not create was in force before.
        let is_from_in_force = *version == in_force || from.is_none_or(|from| *from == in_force.version);
        if rollout.rollback.is_some() {
            self.expect_origin(name, image.as_str());
        } else {
            assert!(is_from_in_force, "created from {from:?} instead of {}", in_force.version);
            let before = self.image_of(&in_force).expect("it exists").to_string();
            self.remember_origin(name, before, image.as_str(), &rollout.id);
        }
        let pair = (name.to_owned(), image, in_force.version);
        assert!(!self.failed.contains(&pair), "a failed pair is repeated: {pair:?}");
        let busy = self.busy();
        assert!(busy < self.limit(), "{busy} groups are busy or not ready, one more is started");
        self.started.push(name.to_owned());
        Ok(self.run_refresh(name, version, true))
    }

    fn run_refresh(&mut self, name: &str, version: &TemplateVersion, ours: bool) -> String {
        let id = format!("refresh-{}", self.next_update);
        self.next_update += 1;
        let image = self.image_of(version);
        let fails = image.is_some_and(|image| self.bad.contains(&(name.to_owned(), image)));
        let number = VersionRef::Number(version.version.parse().expect("a number"));
        let refresh = InstanceRefresh {
            id: id.clone(),
            status: RefreshStatus::InProgress,
            reason: None,
            started: Some(self.now),
            ended: None,
            percentage: Some(0),
            to: Some(TemplateRef { template: version.template.clone(), version: number }),
        };
        let ends = self.now + Duration::from_secs(REFRESH);
        let own = self.own.get_mut(name).expect("a group");
        own.refreshes.insert(0, refresh);
        own.running = Some(OwnRunning { ends, to: version.clone(), fails, ours, remembered: ours });
        id
    }

    /// The number of groups that are updating, or whose nodes are not ready after an update of ours.
    pub fn busy(&self) -> usize {
        let managed = self.groups.values();
        let managed = managed.filter(|sim| self.is_known_busy(sim) || self.is_gating(&sim.seen.name));
        let own = self.own.iter();
        managed.count() + own.filter(|(name, own)| own.running.is_some() || self.is_gating(name)).count()
    }

    /// Ends the refreshes that are due.
    pub fn advance_own(&mut self) {
        let now = self.now;
        let due = |own: &SimOwn| own.running.as_ref().is_some_and(|running| running.ends <= now);
        let due: Vec<String> =
            self.own.iter().filter(|(_, own)| due(own)).map(|(name, _)| name.clone()).collect();
        for name in due {
            let running = self.own[&name].running.clone().expect("it is due");
            if running.fails {
                self.record_failure(&name, &running);
                self.end_refresh(&name, RefreshStatus::Failed, 1);
            } else {
                self.end_refresh(&name, RefreshStatus::Successful, NODES);
                self.point(&name, &running.to);
                let image = self.image_of(&running.to).expect("the version exists");
                self.replace_nodes(&name, &image, running.ends, running.ours && running.remembered);
            }
        }
    }

    /// The same pair must not be started again, unless a person or a change allows it.
    fn record_failure(&mut self, name: &str, running: &OwnRunning) {
        let in_force = self.own_in_force(&self.own[name]).version;
        if let Some(image) = self.image_of(&running.to).filter(|_| running.ours) {
            self.failed.insert((name.to_owned(), image, in_force));
        }
    }

    /// Ends a refresh after it has replaced this many nodes.
    fn end_refresh(&mut self, name: &str, status: RefreshStatus, replaced: usize) {
        let now = self.now;
        let own = self.own.get_mut(name).expect("a group");
        let running = own.running.take().expect("it runs");
        let refresh = own.refreshes.first_mut().expect("it runs");
        (refresh.status, refresh.ended) = (status, Some(now));
        refresh.reason = Some("as told".to_owned());
        // Protected ones are left alone, as the settings of the only scenario with one say.
        let replaced = own.seen.instances.iter_mut().filter(|member| !member.is_protected).take(replaced);
        for member in replaced {
            member.version = Some(running.to.clone());
        }
    }

    /// The refresher turns a refresh back.
    pub fn turn_back_own(
        &mut self,
        name: &str,
        status: RefreshStatus,
        rollout: &Rollout,
    ) -> Result<(), ActError> {
        self.effects.push(if status == RefreshStatus::Cancelled { "cancel refresh" } else { "turn back" });
        let ami = self.object.spec.ami.clone().and_then(|ami| ImageId::parse(ami).ok());
        let is_unwanted = ami.is_some_and(|ami| !rollout.expects(&ami))
            || self.policy.rolls_back && rollout.rollback.is_none() && rollout.has_failed();
        assert!(is_unwanted, "the refresh of {name} is turned back for no reason");
        if self.own[name].running.is_none() {
            let message = "ActiveInstanceRefreshNotFound: none".to_owned();
            return Err(ActError { class: Class::Conflict, message, kind: ActErrorKind::Other });
        }
        if self.irreversible && status != RefreshStatus::Cancelled {
            let message = "IrreversibleInstanceRefresh: the group cannot be rolled back".to_owned();
            return Err(ActError { class: Class::Invalid, message, kind: ActErrorKind::Other });
        }
        let replaced = usize::from(status == RefreshStatus::Cancelled);
        self.end_refresh(name, status, replaced);
        Ok(())
    }

    /// Another writer refreshes a group to an old image, cancels its refresh, or lets it follow `$Latest`.
    pub fn foreign_own(&mut self, number: usize, what: Foreign) {
        let Some(name) = self.own.keys().nth(number % self.own.len().max(1)).cloned() else { return };
        let template = self.own_in_force(&self.own[&name]).template;
        match (what, self.own[&name].running.clone()) {
            (Foreign::Refresh, None) => {
                let number = self.add_version(&template, image_id(0).as_str(), Some("by hand"));
                let version = TemplateVersion { template, version: number.to_string() };
                self.change_cluster(|cluster| cluster.forget_gate(&name));
                self.run_refresh(&name, &version, false);
            }
            (Foreign::Cancel, Some(running)) => {
                self.record_failure(&name, &running);
                self.was_canceled = true;
                self.end_refresh(&name, RefreshStatus::Cancelled, 1);
            }
            (Foreign::Follow, None) => {
                let reference = TemplateRef { template, version: VersionRef::Latest };
                self.own.get_mut(&name).expect("a group").seen.source = LaunchSource::Template(reference);
            }
            _ => {}
        }
    }

    /// The self-managed groups that launch another image than this, or whose nodes run one.
    pub fn own_off(&self, target: &ImageId) -> Vec<&str> {
        let is_on = |version: &TemplateVersion| self.image_of(version).as_ref() == Some(target);
        let off = |own: &&SimOwn| {
            let mut nodes = own.seen.instances.iter().filter_map(|member| member.version.as_ref());
            !is_on(&self.own_in_force(own)) || !nodes.all(is_on)
        };
        self.own.values().filter(off).map(|own| own.seen.name.as_str()).collect()
    }

    /// The versions of a template that self-managed groups launch, run, or are brought to.
    pub fn own_uses(&self, template: &TemplateId) -> Vec<String> {
        let of = |own: &SimOwn| {
            let nodes = own.seen.instances.iter().filter_map(|member| member.version.clone());
            let to = own.running.as_ref().map(|running| running.to.clone());
            nodes.chain(to).chain([self.own_in_force(own)]).collect::<Vec<_>>()
        };
        let used = self.own.values().flat_map(of).filter(|used| used.template == *template);
        used.map(|used| used.version).collect()
    }
}

/// What another writer does to a self-managed group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    Refresh,
    Cancel,
    Follow,
}
