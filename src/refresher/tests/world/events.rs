//! Events outside of a reconcile: time, people, other writers, failures.

use super::{Answer, Foreign, Mishap, SimCluster, SimPolicy, World, image_id};
use crate::api::Class;
use crate::refresher::outcome::{ActError, ActErrorKind};

#[derive(Clone, Debug)]
pub enum Event {
    Pass(Mishap),
    Advance(i64),
    LoseStatus,
    NewImage,
    /// `ami` names one of the images that exist.
    Name(usize),
    Unname,
    Suspend(bool),
    /// Nodes of this group never join with the newest image.
    Spoil(usize),
    /// Another writer moves a group to another image.
    Foreign(usize),
    Degrade(usize),
    Delete(usize),
    Create,
    Lag(bool),
    MaxUnavailable(i32),
    /// EKS refuses updates of this group from now on, or accepts them again.
    Refuse(usize, ActErrorKind),
    Accept(usize),
    /// Whether EKS updates DEGRADED groups.
    DegradedAccepts(bool),
    /// A DEGRADED group is repaired.
    Repair(usize),
    /// Whether EKS shows the new version after a failed update.
    Keeps(bool),
    /// A person requests a retry of what failed.
    Ask,
    /// A person requests to roll out one of the images again.
    Release(usize),
    /// The agent restarts.
    Restart,
    /// A person approves the newest image, or withdraws all approvals.
    Approve(bool),
    /// A commit changes waves, windows and freezes.
    Policy(SimPolicy),
    /// The agent may not read nodes from now on, or may again.
    DenyNodes(bool),
    /// The API server does not respond from now on, or does again.
    ClusterDown(bool),
    /// From now on, nodes take this many seconds to become ready after an update.
    SlowNodes(i64),
    /// Another writer changes a self-managed group.
    Own(usize, Foreign),
    /// EC2 Auto Scaling refuses to roll refreshes back from now on, or does it again.
    Irreversible(bool),
    /// Builds of a builder run on nodes of this group from now on, or have ended.
    Build(usize, bool),
    /// A budget holds a pod of this group from now on, or none does.
    Budget(usize, bool),
    /// The agent moves to a node of this group.
    Agent(usize),
    /// Nodes of this self-managed group never become healthy with the newest image.
    SpoilOwn(usize),
}

/// The error that EKS returns, by the kind that it is classified as.
pub fn refusal(kind: ActErrorKind) -> ActError {
    let (class, message) = match kind {
        ActErrorKind::Other => (Class::Denied, "AccessDeniedException: not authorized"),
        ActErrorKind::Uncertain => {
            (Class::TRANSIENT, "InvalidRequestException: Volume of size 10GB is too small")
        }
        ActErrorKind::MissingVersion => {
            (Class::Invalid, "InvalidParameterException: version 2 does not exist")
        }
        ActErrorKind::TemplateFull => (Class::Invalid, "VersionLimitExceeded: no room"),
        ActErrorKind::NotVisible => (Class::TRANSIENT, "ResourceNotFoundException: No node group found"),
    };
    ActError { class, message: format!("eks:UpdateNodegroupVersion: {message}"), kind }
}

impl World {
    pub fn happens(&mut self, event: &Event) {
        match event {
            Event::Pass(mishap) => drop(self.pass(*mishap)),
            Event::Advance(seconds) => self.advance(*seconds),
            Event::LoseStatus => self.lose_status(),
            Event::NewImage => {
                self.built = Some(self.publish());
                self.changed();
            }
            Event::Name(number) => {
                self.object.spec.ami = Some(image_id(number % self.images.len()).to_string());
                self.changed();
            }
            Event::Unname => {
                self.object.spec.ami = None;
                self.changed();
            }
            Event::Suspend(on) => self.object.spec.suspend = Some(*on),
            Event::Spoil(number) => {
                let newest = image_id(self.images.len() - 1);
                if let Some(name) = self.nth(*number) {
                    self.bad.insert((name, newest));
                }
            }
            Event::Foreign(number) => self.foreign(*number),
            Event::Degrade(number) => self.degrade(*number),
            Event::Delete(number) => {
                self.delete(*number);
            }
            Event::Create => {
                let fresh = format!("group-{}", self.groups.len());
                if self.groups.len() < 4 && !self.groups.contains_key(&fresh) {
                    self.create();
                }
            }
            Event::Ask => {
                self.retry_requested = true;
                self.changed();
            }
            Event::Release(number) => {
                self.released = Some(image_id(number % self.images.len()));
                self.changed();
            }
            Event::Restart => self.restart(),
            Event::Approve(is_given) => {
                let newest = self.target();
                self.approve(Some(&newest).filter(|_| *is_given));
            }
            Event::Policy(policy) => self.set_policy(policy.clone()),
            Event::Lag(on) => self.lag = *on,
            Event::MaxUnavailable(count) => {
                self.object.spec.refresh_config.as_mut().expect("set").max_unavailable = Some(*count);
                self.changed();
            }
            _ => self.happens_in_cluster(event),
        }
    }

    /// Events about nodes, and about self-managed groups.
    fn happens_in_cluster(&mut self, event: &Event) {
        match event {
            Event::DenyNodes(on) => self.change_cluster(|cluster| {
                cluster.denied = *on;
                cluster.forget_gates();
            }),
            Event::ClusterDown(on) => self.change_cluster(|cluster| cluster.down = *on),
            Event::SlowNodes(seconds) => self.change_cluster(|cluster| cluster.slow = *seconds),
            Event::Own(number, what) => self.foreign_own(*number, *what),
            Event::Irreversible(on) => self.irreversible = *on,
            Event::Build(number, on) => {
                let group = self.nth_of_all(*number);
                self.change_cluster(|cluster| cluster.host_build(&group, *on));
            }
            Event::Budget(number, on) => {
                let group = self.nth_of_all(*number);
                self.change_cluster(|cluster| cluster.hold(&group, *on));
            }
            Event::Agent(number) => {
                let group = self.nth_of_all(*number);
                self.change_cluster(|cluster| cluster.agent = Some(group.clone()));
            }
            Event::SpoilOwn(number) => {
                let newest = image_id(self.images.len() - 1);
                if let Some(name) = self.own.keys().nth(number % self.own.len().max(1)) {
                    self.bad.insert((name.clone(), newest));
                }
            }
            _ => self.happens_in_eks(event),
        }
    }

    /// Events about what EKS accepts and shows.
    fn happens_in_eks(&mut self, event: &Event) {
        match event {
            Event::Refuse(number, kind) => {
                if let Some(name) = self.nth(*number) {
                    self.refusing.insert(name, refusal(*kind));
                }
            }
            Event::Accept(number) => {
                if let Some(name) = self.nth(*number) {
                    self.refusing.remove(&name);
                }
            }
            Event::DegradedAccepts(on) => self.degraded_accepts = *on,
            Event::Repair(number) => {
                if let Some(sim) = self.nth(*number).and_then(|name| self.groups.get_mut(&name))
                    && sim.seen.status == "DEGRADED"
                {
                    sim.seen.status = "ACTIVE".to_owned();
                    sim.seen.health.clear();
                }
            }
            Event::Keeps(on) => self.keeps = *on,
            _ => unreachable!("{event:?} is handled by the callers"),
        }
    }

    pub(super) fn change_cluster(&mut self, change: impl FnMut(&mut SimCluster)) {
        self.cluster.iter_mut().for_each(change);
    }

    fn lose_status(&mut self) {
        self.object.status = None;
        self.old = None;
        self.moved.clear();
        self.cluster.iter_mut().for_each(SimCluster::forget_gates);
        let running = self.groups.values_mut().filter_map(|sim| sim.running.as_mut());
        running.for_each(|running| running.remembered = false);
        let refreshing = self.own.values_mut().filter_map(|own| own.running.as_mut());
        refreshing.for_each(|running| running.remembered = false);
        self.changed();
    }

    fn delete(&mut self, number: usize) {
        if let Some(name) = self.nth(number).filter(|_| self.groups.len() > 1) {
            self.groups.remove(&name);
            self.change_cluster(|cluster| cluster.forget_gate(&name));
            // It may have been deleted before the refresher saw the end of its update.
            self.moved.retain(|moved| moved.group != name);
            self.updates.retain(|(group, _), _| *group != name);
            let updates = &self.updates;
            self.tokens.retain(|_, (_, answer)| match answer {
                Answer::Update(id) => updates.keys().any(|(_, known)| known == id),
                Answer::Version(_) => true,
            });
        }
    }

    fn nth(&self, number: usize) -> Option<String> {
        self.groups.keys().nth(number % self.groups.len().max(1)).cloned()
    }

    /// A group of either kind.
    fn nth_of_all(&self, number: usize) -> String {
        let mut all = self.groups.keys().chain(self.own.keys());
        let count = self.groups.len() + self.own.len();
        all.nth(number % count.max(1)).cloned().expect("there is a group")
    }

    fn foreign(&mut self, number: usize) {
        let Some(name) = self.nth(number) else { return };
        let seen = &self.groups[&name].seen;
        if seen.status != "ACTIVE" {
            return;
        }
        let template = seen.launch_template.clone().expect("a template").template;
        let version = self.add_version(&template, image_id(0).as_str(), Some("by hand"));
        let to = (version.to_string(), image_id(0).to_string());
        self.change_cluster(|cluster| cluster.forget_gate(&name));
        self.start(&name, "VersionUpdate", Some(to), None, false);
    }

    fn degrade(&mut self, number: usize) {
        let Some(name) = self.nth(number) else { return };
        let seen = &mut self.groups.get_mut(&name).expect("a group").seen;
        if seen.status == "ACTIVE" {
            seen.status = "DEGRADED".to_owned();
            seen.health = vec!["AsgInstanceLaunchFailures: no capacity".to_owned()];
        }
    }
}
