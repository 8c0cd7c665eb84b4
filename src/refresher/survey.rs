//! Compares every node group with the target: current, drifted, or not to be moved, and why. Shared by `plan` and the
//! report. Pure.

use std::collections::BTreeSet;

use super::fit::{Fit, FitQuery, find_fit};
use super::memory::Rollout;
use super::node_group::{Lifecycle, NodeGroup};
use super::observed::{MissingFact, Observed};
use super::spec::Spec;
use super::support::{nodes_behind, unsupported};
use super::target::Target;
use crate::api::{Class, ImageId};

/// How one group compares with the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupDrift {
    /// The spec excludes it.
    Excluded,
    /// It cannot be moved to an image of the target, and why. Such a group is reported and left alone.
    Unsupported(String),
    /// It is being deleted, or its creation failed.
    Unusable(String),
    /// It could not be read.
    Unknown(Class, String),
    Current,
    /// It does not run the target. The image to move it to, if the facts to determine it were read.
    Drifted(Option<ImageId>),
}

/// All groups compared with one target, sorted by name.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    pub groups: Vec<(&'a NodeGroup, GroupDrift)>,
}

/// Compares the groups by what is known without further reads. The last rollout is needed to detect a group that shows
/// the target although its update to it failed.
pub fn survey<'a>(
    spec: &Spec,
    target: Option<&Target>,
    rollout: Option<&Rollout>,
    groups: &'a [NodeGroup],
) -> Survey<'a> {
    let has_failed = |group: &NodeGroup| {
        let entry = rollout.and_then(|rollout| rollout.groups.get(&group.name));
        entry.is_some_and(|entry| entry.update_failed() && group.image.as_ref() == Some(&entry.image))
    };
    let compare = |group: &NodeGroup| {
        if spec.scope.excludes(&group.name) {
            return GroupDrift::Excluded;
        }
        match (&group.lifecycle, unsupported(group)) {
            (Lifecycle::NotRead, _) => GroupDrift::Excluded,
            (Lifecycle::Unreadable(class, why), _) => GroupDrift::Unknown(*class, why.clone()),
            (Lifecycle::Deleting, _) => GroupDrift::Unusable("is being deleted".to_owned()),
            (Lifecycle::Broken(status), _) => GroupDrift::Unusable(with_health(status, group)),
            (_, Some(why)) => GroupDrift::Unsupported(why),
            _ if target.is_some_and(|target| target.contains(group.image.as_ref()))
                && !has_failed(group)
                && nodes_behind(spec, group) == 0 =>
            {
                GroupDrift::Current
            }
            _ => GroupDrift::Drifted(None),
        }
    };
    Survey { groups: groups.iter().map(|group| (group, compare(group))).collect() }
}

fn with_health(status: &str, group: &NodeGroup) -> String {
    if group.health.is_empty() { status.to_owned() } else { format!("{status}: {}", group.health.join("; ")) }
}

impl<'a> Survey<'a> {
    /// The groups that Opsy keeps on the target: in scope, supported, usable.
    pub fn supported(&self) -> impl Iterator<Item = &'a NodeGroup> {
        self.groups_where(|drift| matches!(drift, GroupDrift::Current | GroupDrift::Drifted(_)))
    }

    /// The survey in which groups that run one of these images count as current, except for those that could not be
    /// rolled back.
    pub fn keeping(mut self, images: &[ImageId], rollout: Option<&Rollout>) -> Self {
        let has_failed = |group: &NodeGroup| {
            let entry = rollout.and_then(|rollout| rollout.groups.get(&group.name));
            entry.is_some_and(|entry| entry.failure.is_some())
        };
        for (group, drift) in &mut self.groups {
            let is_kept =
                group.image.as_ref().is_some_and(|image| images.contains(image)) && !has_failed(group);
            if is_kept && matches!(drift, GroupDrift::Drifted(_)) {
                *drift = GroupDrift::Current;
            }
        }
        self
    }

    /// The groups that do not run the target.
    pub fn drifted(&self) -> impl Iterator<Item = &'a NodeGroup> {
        self.groups_where(|drift| matches!(drift, GroupDrift::Drifted(_)))
    }

    /// The groups that run the target and are DEGRADED.
    pub fn degraded_on_target(&self) -> impl Iterator<Item = &'a NodeGroup> {
        self.groups_where(|drift| *drift == GroupDrift::Current).filter(|group| group.is_degraded())
    }

    /// The failed read of a group in scope, if there is one.
    pub fn unreadable(&self) -> Option<MissingFact> {
        self.groups.iter().find_map(|(_, drift)| match drift {
            GroupDrift::Unknown(class, why) => Some(MissingFact::Unreadable(*class, why.clone())),
            _ => None,
        })
    }

    pub fn group(&self, name: &str) -> Option<(&'a NodeGroup, &GroupDrift)> {
        self.groups.iter().find(|(group, _)| group.name == name).map(|(group, drift)| (*group, drift))
    }

    /// The survey with the image determined for every drifted group. A missing fact is an error.
    pub fn with_images(
        mut self,
        spec: &Spec,
        target: &Target,
        observed: &Observed,
    ) -> Result<Self, MissingFact> {
        let batch = self.images_to_read(target);
        for (group, drift) in &mut self.groups {
            if matches!(drift, GroupDrift::Drifted(_)) {
                refine(drift, find_fit(FitQuery { spec, group, target, batch: &batch, observed })?);
            }
        }
        Ok(self)
    }

    /// Like `with_images`, but a group whose facts are missing stays as it is.
    pub fn with_known_images(mut self, spec: &Spec, target: &Target, observed: &Observed) -> Self {
        let batch = self.images_to_read(target);
        for (group, drift) in &mut self.groups {
            if matches!(drift, GroupDrift::Drifted(_))
                && let Ok(fit) = find_fit(FitQuery { spec, group, target, batch: &batch, observed })
            {
                refine(drift, fit);
            }
        }
        self
    }

    /// The images that a move needs to know: those of the target, and those in force in drifted groups.
    pub fn images_to_read(&self, target: &Target) -> BTreeSet<ImageId> {
        self.drifted()
            .filter_map(|group| group.image.clone())
            .chain(target.images().iter().cloned())
            .collect()
    }

    fn groups_where(&self, wanted: impl Fn(&GroupDrift) -> bool) -> impl Iterator<Item = &'a NodeGroup> {
        self.groups.iter().filter(move |(_, drift)| wanted(drift)).map(|(group, _)| *group)
    }
}

fn refine(drift: &mut GroupDrift, fit: Fit) {
    match fit {
        Fit::Fits(image) => *drift = GroupDrift::Drifted(Some(image)),
        Fit::Unfit(why) => *drift = GroupDrift::Unsupported(why),
        // This is a problem of the target, not of the group.
        Fit::TargetUnavailable(_) => {}
    }
}
