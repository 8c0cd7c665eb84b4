//! How each node group stands against a target. Pure; shared by the plan and the report.

use std::collections::BTreeSet;

use super::fit::{Question, Way, way};
use super::memory::Rollout;
use super::seen::{Gap, Group, Life, Observed};
use super::spec::Spec;
use super::target::Target;
use crate::api::{Class, ImageId};

/// How a group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Left alone by the spec.
    Excluded,
    /// Cannot be moved to an image of ours, and why: reported, never guessed at.
    Unsupported(String),
    /// Being deleted, or never came to life.
    Gone(String),
    /// Could not be read.
    Unknown(Class, String),
    Current,
    /// Runs something else. The image it goes to, once the facts for that were read.
    Off(Option<ImageId>),
}

/// All groups against one target, by name.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    pub groups: Vec<(&'a Group, Verdict)>,
}

/// Looks at every group by what is known without further reads. What the last rollout remembers tells a
/// group that shows the target from one whose update to it failed.
pub fn survey<'a>(
    spec: &Spec,
    target: Option<&Target>,
    rollout: Option<&Rollout>,
    groups: &'a [Group],
) -> Survey<'a> {
    let failed = |group: &Group| {
        let entry = rollout.and_then(|rollout| rollout.groups.get(&group.name));
        entry.is_some_and(|entry| entry.tried_and_failed() && group.image.as_ref() == Some(&entry.image))
    };
    let verdict = |group: &Group| {
        if spec.scope.excludes(&group.name) {
            return Verdict::Excluded;
        }
        match (&group.life, unsupported(group)) {
            (Life::Unread, _) => Verdict::Excluded,
            (Life::Unreadable(class, why), _) => Verdict::Unknown(*class, why.clone()),
            (Life::Deleting, _) => Verdict::Gone("is being deleted".to_owned()),
            (Life::Broken(status), _) => Verdict::Gone(broken(status, group)),
            (_, Some(why)) => Verdict::Unsupported(why),
            _ if target.is_some_and(|target| target.has(group.image.as_ref())) && !failed(group) => {
                Verdict::Current
            }
            _ => Verdict::Off(None),
        }
    };
    Survey { groups: groups.iter().map(|group| (group, verdict(group))).collect() }
}

fn broken(status: &str, group: &Group) -> String {
    if group.health.is_empty() { status.to_owned() } else { format!("{status}: {}", group.health.join("; ")) }
}

fn unsupported(group: &Group) -> Option<String> {
    if group.template.is_none() {
        return Some("has no launch template of its own: create the group with one".to_owned());
    }
    let custom = group.ami_type == "CUSTOM";
    (!custom).then(|| format!("runs images of AWS ({}): its launch template names no image", group.ami_type))
}

impl<'a> Survey<'a> {
    /// Groups that count: in scope, supported, alive.
    pub fn ours(&self) -> impl Iterator<Item = &'a Group> {
        let counts = |verdict: &Verdict| matches!(verdict, Verdict::Current | Verdict::Off(_));
        self.groups.iter().filter(move |(_, verdict)| counts(verdict)).map(|(group, _)| *group)
    }

    /// Groups that run something else than the target.
    pub fn off(&self) -> impl Iterator<Item = &'a Group> {
        let off = |verdict: &Verdict| matches!(verdict, Verdict::Off(_));
        self.groups.iter().filter(move |(_, verdict)| off(verdict)).map(|(group, _)| *group)
    }

    /// A group in scope that could not be read, if there is one.
    pub fn unknown(&self) -> Option<Gap> {
        self.groups.iter().find_map(|(_, verdict)| match verdict {
            Verdict::Unknown(class, why) => Some(Gap::Unknown(*class, why.clone())),
            _ => None,
        })
    }

    /// Groups that run the target and are DEGRADED.
    pub fn degraded_on_target(&self) -> impl Iterator<Item = &'a Group> {
        let current = |verdict: &Verdict| *verdict == Verdict::Current;
        let all = self.groups.iter().filter(move |(_, verdict)| current(verdict)).map(|(group, _)| *group);
        all.filter(|group| group.is_degraded())
    }

    pub fn verdict(&self, name: &str) -> Option<(&'a Group, &Verdict)> {
        self.groups.iter().find(|(group, _)| group.name == name).map(|(group, verdict)| (*group, verdict))
    }

    /// The same, with every group that is off looked at closely. Asks for facts that are missing.
    pub fn refined(mut self, spec: &Spec, target: &Target, seen: &Observed) -> Result<Self, Gap> {
        let also = self.images(target);
        for (group, verdict) in &mut self.groups {
            if !matches!(verdict, Verdict::Off(_)) {
                continue;
            }
            match way(Question { spec, group, target, also: &also, seen })? {
                Way::To(image) => *verdict = Verdict::Off(Some(image)),
                Way::Unfit(why) => *verdict = Verdict::Unsupported(why),
                Way::NoImage(_) => {}
            }
        }
        Ok(self)
    }

    /// The same, as far as facts are there.
    pub fn refined_as_known(mut self, spec: &Spec, target: &Target, seen: &Observed) -> Self {
        let also = self.images(target);
        for (group, verdict) in &mut self.groups {
            match (&*verdict, way(Question { spec, group, target, also: &also, seen })) {
                (Verdict::Off(_), Ok(Way::Unfit(why))) => *verdict = Verdict::Unsupported(why),
                (Verdict::Off(_), Ok(Way::To(image))) => *verdict = Verdict::Off(Some(image)),
                _ => {}
            }
        }
        self
    }

    /// Images whose facts a move needs: the target's, and those in force where it is off.
    pub fn images(&self, target: &Target) -> BTreeSet<ImageId> {
        self.off().filter_map(|group| group.image.clone()).chain(target.images().iter().cloned()).collect()
    }
}
