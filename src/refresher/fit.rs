//! Does an image fit a node group? By architecture, platform, root device and operating system, and by
//! what its launch template allows. What cannot be found out does not fit, unless a person names the group. Pure.

use std::collections::BTreeSet;

use super::lineage::{Kubernetes, Lineage, base};
use super::seen::{Gap, Group, Observed};
use super::spec::Spec;
use super::target::{Target, UNSEEN, state};
use crate::api::ImageId;
use crate::aws::{Disk, Image, ImageState, LaunchTemplateVersion};

/// What a person can do about a group that an image may not fit.
const HINT: &str = "exclude it, or name it in nodeGroups.include if the image fits";

/// Where a group can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    To(ImageId),
    /// This group cannot, and why.
    Unfit(String),
    /// No group can: the image is not there to be launched.
    NoImage(String),
}

/// What is asked about: a group, a target, and the images whose facts will be needed too.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub spec: &'a Spec,
    pub group: &'a Group,
    pub target: &'a Target,
    pub also: &'a BTreeSet<ImageId>,
    pub seen: &'a Observed,
}

/// Where one group can go: an available image that fits it, from a version that can be copied.
pub fn way(asked: Question<'_>) -> Result<Way, Gap> {
    let mut lanes = Vec::new();
    for id in asked.target.images() {
        match asked.seen.image(id, asked.also)? {
            Some(image) if image.state == ImageState::Available => lanes.push(image),
            Some(image) => return Ok(Way::NoImage(format!("{id} is {}", state(image)))),
            None => return Ok(Way::NoImage(format!("{id} {UNSEEN}"))),
        }
    }
    let force = match in_force(asked.group, asked.seen)? {
        Ok(version) => version,
        Err(why) => return Ok(Way::Unfit(why)),
    };
    let runs = match &asked.group.image {
        Some(id) => asked.seen.image(id, asked.also)?,
        None => None,
    };
    let vouched = asked.spec.scope.names(&asked.group.name);
    let architecture = match architecture(asked, runs, force)? {
        Some(architecture) => architecture,
        None if vouched && lanes.len() == 1 => lanes[0].architecture.clone(),
        None => {
            return Ok(Way::Unfit(format!(
                "its image is gone, and its instance types do not tell its architecture: {HINT}"
            )));
        }
    };
    let Some(image) = lanes.into_iter().find(|image| image.architecture == architecture) else {
        return Ok(Way::Unfit(format!("runs {architecture}, and there is no such image to move it to")));
    };
    let Some(runs) = runs else { return Ok(Way::To(image.id.clone())) };
    if let Some(why) = other_machine(runs, image) {
        return Ok(Way::Unfit(why));
    }
    if !vouched && let Some(why) = other_family(runs, image, asked.seen)? {
        return Ok(Way::Unfit(why));
    }
    Ok(Way::To(image.id.clone()))
}

/// The version in force, or why it cannot be copied with another image.
fn in_force<'a>(group: &Group, seen: &'a Observed) -> Result<Result<&'a LaunchTemplateVersion, String>, Gap> {
    let Some(force) = &group.template else {
        return Ok(Err("has no launch template of its own: create the group with one".to_owned()));
    };
    let Some(versions) = seen.template(&force.template)? else {
        return Ok(Err(format!("its launch template {} is gone", force.template)));
    };
    let named = |version: &&LaunchTemplateVersion| version.number.to_string() == force.version;
    let Some(version) = versions.iter().find(named) else {
        let (version, template) = (&force.version, &force.template);
        return Ok(Err(format!("version {version} of its launch template {template} is gone")));
    };
    Ok(match version.image.as_deref() {
        None => Err("its launch template names no image".to_owned()),
        Some(image) if image.starts_with("resolve:") => {
            Err(format!("its launch template takes the image from {image}, which node groups cannot use"))
        }
        Some(_) => Ok(version),
    })
}

/// The architecture of the group: that of its image, else that of its instance types.
fn architecture(
    asked: Question<'_>,
    runs: Option<&Image>,
    force: &LaunchTemplateVersion,
) -> Result<Option<String>, Gap> {
    if let Some(runs) = runs {
        return Ok(Some(runs.architecture.clone()));
    }
    let mut types = asked.group.instance_types.clone();
    if types.is_empty() {
        types.extend(force.instance_type.clone());
    }
    if types.is_empty() {
        return Ok(None);
    }
    let found = asked.seen.architectures(&types)?;
    // 32-bit x86 is listed beside 64-bit.
    let mut wide = found.iter().filter(|architecture| architecture.as_str() != "i386");
    Ok(wide.next().filter(|_| wide.next().is_none()).cloned())
}

/// Why the machine that one image needs is not the one that the other needs.
fn other_machine(runs: &Image, image: &Image) -> Option<String> {
    let platform = |image: &Image| match image.machine.platform.as_str() {
        "" => "Linux".to_owned(),
        "windows" => "Windows".to_owned(),
        other => other.to_owned(),
    };
    let (from, to) = (platform(runs), platform(image));
    if from != to {
        return Some(format!("runs {from}, and {} is {to}", image.id));
    }
    let (from, to) = (&runs.machine.root_device, &image.machine.root_device);
    let differs = !from.is_empty() && !to.is_empty() && from != to;
    differs.then(|| format!("has its root volume at {from}, and {} at {to}", image.id))
}

/// Why the user data of the group is not for this image, where both say what they were made from.
fn other_family(runs: &Image, image: &Image, seen: &Observed) -> Result<Option<String>, Gap> {
    let (from, to) = (lineage(runs, seen)?, lineage(image, seen)?);
    Ok(match (from.family, to.family) {
        (Some(from), Some(to)) if from != to => Some(format!(
            "runs {from}, and {} is made from {to}, which other user data starts: {HINT}",
            image.id
        )),
        _ => None,
    })
}

/// What an image was made from; its base image is looked up where its own name and tags do not say.
fn lineage(image: &Image, seen: &Observed) -> Result<Lineage, Gap> {
    let own = Lineage::of(image, None);
    match base(image).filter(|_| !own.is_complete()) {
        Some(id) => Ok(Lineage::of(image, seen.image(&id, &BTreeSet::new())?)),
        None => Ok(own),
    }
}

/// How an image's Kubernetes version fits the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skew {
    Fits,
    /// Nodes would be newer than the API server.
    TooNew(String),
    /// Nodes would be older than supported.
    TooOld(String),
}

/// Compares the version of an image with the cluster's. The cluster is asked only where the image says its own.
pub fn skew(spec: &Spec, image: &ImageId, seen: &Observed) -> Result<Skew, Gap> {
    let Some(facts) = seen.image(image, &BTreeSet::new())? else { return Ok(Skew::Fits) };
    let Some(version) = lineage(facts, seen)?.kubernetes else { return Ok(Skew::Fits) };
    let Some(cluster) = Kubernetes::parse(seen.cluster()?) else { return Ok(Skew::Fits) };
    let both = format!("{image} is for Kubernetes {version}, and cluster {} runs {cluster}", spec.cluster);
    Ok(if version > cluster {
        Skew::TooNew(format!("{both}: upgrade the control plane first, or name an older image"))
    } else if version.is_far_behind(cluster) {
        Skew::TooOld(format!("{both}: nodes more than three minor versions behind are not supported"))
    } else {
        Skew::Fits
    })
}

/// Why the root volume of the launch template is too small for an image.
pub fn too_small(group: &Group, image: &ImageId, seen: &Observed) -> Result<Option<String>, Gap> {
    let (Ok(force), Some(facts)) = (in_force(group, seen)?, seen.image(image, &BTreeSet::new())?) else {
        return Ok(None);
    };
    let root = force.disks.iter().find(|disk| disk.device == facts.machine.root_device);
    let size = root.and_then(|disk| disk.volume.as_ref()?.size);
    Ok(match (size, facts.machine.root_size) {
        (Some(size), Some(least)) if size < least => Some(format!(
            "its launch template makes the root volume {size} GiB, and {image} needs {least}: raise VolumeSize of {}",
            facts.machine.root_device
        )),
        _ => None,
    })
}

/// The disks to send with a new version: EC2 copies all but snapshot IDs. Nothing where none is lost. The
/// root's snapshot belongs to the old image.
pub fn disks(group: &Group, image: &ImageId, seen: &Observed) -> Result<Vec<Disk>, Gap> {
    let (Ok(force), Some(facts)) = (in_force(group, seen)?, seen.image(image, &BTreeSet::new())?) else {
        return Ok(Vec::new());
    };
    let is_root = |disk: &Disk| disk.device == facts.machine.root_device;
    let has_snapshot = |disk: &&Disk| disk.volume.as_ref().is_some_and(|volume| volume.snapshot.is_some());
    if force.disks.iter().filter(|disk| !is_root(disk)).find(has_snapshot).is_none() {
        return Ok(Vec::new());
    }
    let mut disks = force.disks.clone();
    for volume in disks.iter_mut().filter(|disk| is_root(disk)).filter_map(|disk| disk.volume.as_mut()) {
        volume.snapshot = None;
    }
    Ok(disks)
}
