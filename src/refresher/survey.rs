//! How each node group stands against a target. Pure; shared by the plan and the report.

use std::collections::BTreeSet;

use super::observe::{Gap, Group, Life, Observed};
use super::spec::Spec;
use super::target::{Target, state};
use crate::api::ImageId;
use crate::aws::{ImageState, LaunchTemplateVersion};

/// How a group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Left alone by the spec.
    Excluded,
    /// Cannot be moved to an image of ours, and why: reported, never guessed at.
    Unsupported(String),
    /// Being deleted, or never came to life.
    Gone(String),
    Current,
    /// Runs something else. The image it goes to, once the facts for that were read.
    Off(Option<ImageId>),
}

/// All groups against one target, by name.
#[derive(Clone, Debug)]
pub struct Survey<'a> {
    pub groups: Vec<(&'a Group, Verdict)>,
}

/// Where a group can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    To(ImageId),
    /// This group cannot, and why.
    Unfit(String),
    /// Nobody can: the image is not there to be launched.
    NoImage(String),
}

/// Looks at every group by what is known without further reads.
pub fn survey<'a>(spec: &Spec, target: Option<&Target>, groups: &'a [Group]) -> Survey<'a> {
    let verdict = |group: &Group| {
        if spec.scope.excludes(&group.name) {
            return Verdict::Excluded;
        }
        match (&group.life, unsupported(group)) {
            (Life::Deleting, _) => Verdict::Gone("is being deleted".to_owned()),
            (Life::Broken(status), _) => Verdict::Gone(broken(status, group)),
            (_, Some(why)) => Verdict::Unsupported(why),
            _ if target.is_some_and(|target| target.has(group.image.as_ref())) => Verdict::Current,
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

    pub fn verdict(&self, name: &str) -> Option<(&'a Group, &Verdict)> {
        self.groups.iter().find(|(group, _)| group.name == name).map(|(group, verdict)| (*group, verdict))
    }

    /// The same, with every group that is off looked at closely. Asks for facts that are missing.
    pub fn refined(mut self, target: &Target, seen: &Observed) -> Result<Self, Gap> {
        let also = self.images(target);
        for (group, verdict) in &mut self.groups {
            if !matches!(verdict, Verdict::Off(_)) {
                continue;
            }
            match way(group, target, &also, seen)? {
                Way::To(image) => *verdict = Verdict::Off(Some(image)),
                Way::Unfit(why) => *verdict = Verdict::Unsupported(why),
                Way::NoImage(_) => {}
            }
        }
        Ok(self)
    }

    /// The same, as far as facts are there.
    pub fn refined_as_known(mut self, target: &Target, seen: &Observed) -> Self {
        let also = self.images(target);
        for (group, verdict) in &mut self.groups {
            match (&*verdict, way(group, target, &also, seen)) {
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

/// Where one group can go: an available image of its architecture, from a version that can be copied.
pub fn way(group: &Group, target: &Target, also: &BTreeSet<ImageId>, seen: &Observed) -> Result<Way, Gap> {
    let mut lanes = Vec::new();
    for id in target.images() {
        match seen.image(id, also)? {
            Some(image) if image.state == ImageState::Available => lanes.push(image),
            Some(image) => return Ok(Way::NoImage(format!("{id} is {}", state(image)))),
            None => return Ok(Way::NoImage(format!("{id} does not exist"))),
        }
    }
    if let Some(why) = unfit_template(group, seen)? {
        return Ok(Way::Unfit(why));
    }
    let runs = match &group.image {
        Some(id) => seen.image(id, also)?.map(|image| image.architecture.as_str()),
        None => None,
    };
    let fits = |architecture: &str| runs.is_none_or(|runs| runs == architecture);
    let mut fitting = lanes.iter().filter(|image| fits(&image.architecture));
    Ok(match (fitting.next(), fitting.next(), runs) {
        (Some(image), None, _) => Way::To(image.id.clone()),
        (None, _, runs) => Way::Unfit(format!(
            "runs {}, and there is no such image to move it to",
            runs.unwrap_or("an unknown architecture")
        )),
        (Some(_), Some(_), _) => {
            Way::Unfit("its image is gone, so its architecture cannot be told".to_owned())
        }
    })
}

/// Why the version in force cannot be copied with another image, if it cannot.
fn unfit_template(group: &Group, seen: &Observed) -> Result<Option<String>, Gap> {
    let Some(force) = &group.template else { return Ok(unsupported(group)) };
    let Some(versions) = seen.template(&force.template)? else {
        return Ok(Some(format!("its launch template {} is gone", force.template)));
    };
    let named = |version: &&LaunchTemplateVersion| version.number.to_string() == force.version;
    Ok(match versions.iter().find(named).map(|version| version.image.as_deref()) {
        None => Some(format!("version {} of its launch template {} is gone", force.version, force.template)),
        Some(None) => Some("its launch template names no image".to_owned()),
        Some(Some(image)) if image.starts_with("resolve:") => {
            Some(format!("its launch template takes the image from {image}, which node groups cannot use"))
        }
        Some(Some(_)) => None,
    })
}
