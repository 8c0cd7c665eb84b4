//! What happens to the world from outside a pass: time, people, other writers, things that break.

use super::{Answer, Mishap, World, image_id};
use crate::api::Class;
use crate::refresher::act::{Failed, Failure};

#[derive(Clone, Debug)]
pub enum Event {
    Pass(Mishap),
    Advance(i64),
    LoseStatus,
    NewImage,
    /// `ami` names one of the images made so far.
    Name(usize),
    Unname,
    Suspend(bool),
    /// The newest image never comes up on this group.
    Spoil(usize),
    /// Somebody else puts another image on a group.
    Foreign(usize),
    Degrade(usize),
    Delete(usize),
    Create,
    Lag(bool),
    MaxUnavailable(i32),
    /// EKS refuses updates of this group from now on, or accepts them again.
    Refuse(usize, Failure),
    Accept(usize),
    /// EKS updates DEGRADED groups, or does not.
    DegradedAccepts(bool),
    /// A DEGRADED group is repaired.
    Repair(usize),
    /// A failed update shows the new version, or the old one.
    Keeps(bool),
    /// A person asks to try again what failed.
    Ask,
}

/// What EKS answers, by what is made of it.
pub fn refusal(kind: Failure) -> Failed {
    let (class, why) = match kind {
        Failure::Other => (Class::Denied, "AccessDeniedException: not authorized"),
        Failure::Unsure => (Class::TRANSIENT, "InvalidRequestException: Volume of size 10GB is too small"),
        Failure::MissingVersion => (Class::Invalid, "InvalidParameterException: version 2 does not exist"),
        Failure::Full => (Class::Invalid, "VersionLimitExceeded: no room"),
        Failure::Unseen => (Class::TRANSIENT, "ResourceNotFoundException: No node group found"),
    };
    Failed { class, why: format!("eks:UpdateNodegroupVersion: {why}"), kind }
}

impl World {
    pub fn happens(&mut self, event: &Event) {
        match event {
            Event::Pass(mishap) => drop(self.pass(*mishap)),
            Event::Advance(seconds) => self.advance(*seconds),
            Event::LoseStatus => {
                self.object.status = None;
                self.old = None;
                self.changed();
            }
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
                if let Some(name) = self.nth(*number).filter(|_| self.groups.len() > 1) {
                    self.groups.remove(&name);
                    self.updates.retain(|(group, _), _| *group != name);
                    let updates = &self.updates;
                    self.tokens.retain(|_, (_, answer)| match answer {
                        Answer::Update(id) => updates.keys().any(|(_, known)| known == id),
                        Answer::Version(_) => true,
                    });
                }
            }
            Event::Create => {
                let fresh = format!("group-{}", self.groups.len());
                if self.groups.len() < 4 && !self.groups.contains_key(&fresh) {
                    self.create();
                }
            }
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
            Event::Ask => {
                self.asks = true;
                self.changed();
            }
            Event::Lag(on) => self.lag = *on,
            Event::MaxUnavailable(count) => {
                self.object.spec.refresh_config.as_mut().expect("set").max_unavailable = Some(*count);
                self.changed();
            }
        }
    }

    fn nth(&self, number: usize) -> Option<String> {
        self.groups.keys().nth(number % self.groups.len().max(1)).cloned()
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
