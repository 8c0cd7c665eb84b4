//! Whether an image fits a node group: architecture, platform, root device, operating system, Kubernetes version, and
//! what the launch template in force allows. What cannot be determined does not fit, unless a person lists the group by
//! name in `nodeGroups.include`. Pure.

use std::collections::BTreeSet;

use super::images::NOT_FOUND;
use super::lineage::{KubernetesVersion, Lineage, base_image};
use super::node_group::{GroupKind, NodeGroup};
use super::observed::{MissingFact, Observed};
use super::spec::Spec;
use super::target::Target;
use crate::api::ImageId;
use crate::aws::{Disk, Image, ImageState, LaunchTemplateVersion};

/// What a person can do about a group that the image may not fit.
const HINT: &str = "exclude the group, or list it by name in nodeGroups.include if the image fits";

/// Which image of the target a group can be moved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    Fits(ImageId),
    /// No image of the target fits this group, and why.
    Unfit(String),
    /// No group can be moved: an image of the target cannot be launched, and why.
    TargetUnavailable(String),
}

#[derive(Clone, Copy)]
pub struct FitQuery<'a> {
    pub spec: &'a Spec,
    pub group: &'a NodeGroup,
    pub target: &'a Target,
    /// Images that are read in the same call if one has to be read.
    pub batch: &'a BTreeSet<ImageId>,
    pub observed: &'a Observed,
}

/// Finds the image of the target that fits a group.
pub fn find_fit(query: FitQuery<'_>) -> Result<Fit, MissingFact> {
    let mut available = Vec::new();
    for id in query.target.images() {
        match query.observed.image(id, query.batch)? {
            Some(image) if image.state == ImageState::Available => available.push(image),
            Some(image) => {
                return Ok(Fit::TargetUnavailable(format!("{id} is {}", image.state_and_reason())));
            }
            None => return Ok(Fit::TargetUnavailable(format!("{id} {NOT_FOUND}"))),
        }
    }
    let version = match version_in_force(query.group, query.observed)? {
        Ok(version) => version,
        Err(why) => return Ok(Fit::Unfit(why)),
    };
    let current = match &query.group.image {
        Some(id) => query.observed.image(id, query.batch)?,
        None => None,
    };
    // A person who lists the group by name vouches for what cannot be determined.
    let vouched_for = query.spec.scope.lists(&query.group.name);
    let architecture = match architecture(query, current, version)? {
        Some(architecture) => architecture,
        None if vouched_for && available.len() == 1 => available[0].architecture.clone(),
        None => {
            return Ok(Fit::Unfit(format!(
                "its image no longer exists and its instance types do not determine its architecture: {HINT}"
            )));
        }
    };
    let Some(image) = available.into_iter().find(|image| image.architecture == architecture) else {
        return Ok(Fit::Unfit(format!("runs {architecture}, but the target has no image for it")));
    };
    if let Some(current) = current {
        if let Some(why) = machine_mismatch(current, image) {
            return Ok(Fit::Unfit(why));
        }
        if !vouched_for && let Some(why) = family_mismatch(current, image, query.observed)? {
            return Ok(Fit::Unfit(why));
        }
    }
    Ok(match not_drained(query)? {
        Some(why) => Fit::Unfit(why),
        None => Fit::Fits(image.id.clone()),
    })
}

/// Why the nodes of a self-managed group would be terminated with their pods. EC2 Auto Scaling does not drain nodes: a
/// lifecycle hook must hold an instance until something has drained it. EKS drains the nodes of managed groups.
fn not_drained(query: FitQuery<'_>) -> Result<Option<String>, MissingFact> {
    let FitQuery { spec, group, observed, .. } = query;
    if group.self_managed_kind().is_none() || spec.scope.allow_without_drain {
        return Ok(None);
    }
    let has_hook = !observed.hooks(&group.name)?.is_empty();
    Ok((!has_hook).then(|| {
        "has no lifecycle hook for terminating instances, so its nodes would not be drained: install \
         aws-node-termination-handler in queue mode with its hook, or set nodeGroups.allowWithoutDrain"
            .to_owned()
    }))
}

/// The launch template version in force, or why it cannot be copied with another image.
fn version_in_force<'a>(
    group: &NodeGroup,
    observed: &'a Observed,
) -> Result<Result<&'a LaunchTemplateVersion, String>, MissingFact> {
    let Some(in_force) = &group.launch_template else {
        return Ok(Err("has no launch template of its own: recreate the group with one".to_owned()));
    };
    let Some(versions) = observed.template_versions(&in_force.template)? else {
        return Ok(Err(format!("its launch template {} no longer exists", in_force.template)));
    };
    let is_in_force = |version: &&LaunchTemplateVersion| version.number.to_string() == in_force.version;
    let Some(version) = versions.iter().find(is_in_force) else {
        observed.require_fresh_template(&in_force.template)?;
        let (version, template) = (&in_force.version, &in_force.template);
        return Ok(Err(format!("version {version} of its launch template {template} no longer exists")));
    };
    Ok(match version.image.as_deref() {
        None => Err("its launch template names no image".to_owned()),
        Some(image) if image.starts_with("resolve:") => Err(match &group.kind {
            GroupKind::Managed(_) => format!(
                "its launch template takes the image from {image}, which managed node groups do not support"
            ),
            GroupKind::SelfManaged(_) => format!(
                "its launch template takes the image from {image}, which Opsy does not replace: name an image in the \
                 launch template, or exclude the group"
            ),
        }),
        Some(_) => Ok(version),
    })
}

/// The architecture of the group: that of its image, else that of its instance types.
fn architecture(
    query: FitQuery<'_>,
    current: Option<&Image>,
    version: &LaunchTemplateVersion,
) -> Result<Option<String>, MissingFact> {
    if let Some(current) = current {
        return Ok(Some(current.architecture.clone()));
    }
    let mut types = query.group.instance_types.clone();
    if types.is_empty() {
        types.extend(version.instance_type.clone());
    }
    if types.is_empty() {
        return Ok(None);
    }
    let found = query.observed.architectures(&types)?;
    // Types that support 64-bit x86 list 32-bit x86 too.
    let mut candidates = found.iter().filter(|architecture| architecture.as_str() != "i386");
    Ok(candidates.next().filter(|_| candidates.next().is_none()).cloned())
}

/// Why the new image needs another machine than the current one.
fn machine_mismatch(current: &Image, new: &Image) -> Option<String> {
    let platform = |image: &Image| match image.machine.platform.as_str() {
        "" => "Linux".to_owned(),
        "windows" => "Windows".to_owned(),
        other => other.to_owned(),
    };
    let (from, to) = (platform(current), platform(new));
    if from != to {
        return Some(format!("runs {from}, but {} is {to}", new.id));
    }
    let (from, to) = (&current.machine.root_device, &new.machine.root_device);
    let differs = !from.is_empty() && !to.is_empty() && from != to;
    differs.then(|| format!("has its root volume at {from}, but {} has it at {to}", new.id))
}

/// Why the user data of the group does not work with the new image: the two images belong to different families. `None`
/// if the family of one of them is unknown.
fn family_mismatch(current: &Image, new: &Image, observed: &Observed) -> Result<Option<String>, MissingFact> {
    let (from, to) = (lineage(current, observed)?, lineage(new, observed)?);
    Ok(match (from.family, to.family) {
        (Some(from), Some(to)) if from != to => Some(format!(
            "runs {from}, but {} is based on {to}, which needs different user data: {HINT}",
            new.id
        )),
        _ => None,
    })
}

/// The lineage of an image. Its base image is read only if its own name and tags do not tell everything.
fn lineage(image: &Image, observed: &Observed) -> Result<Lineage, MissingFact> {
    let own = Lineage::of(image, None);
    match base_image(image).filter(|_| !own.is_complete()) {
        Some(id) => Ok(Lineage::of(image, observed.image(&id, &BTreeSet::new())?)),
        None => Ok(own),
    }
}

/// How the Kubernetes version of an image compares with that of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSkew {
    Supported,
    /// Nodes would be newer than the API server.
    TooNew(String),
    /// Nodes would be older than supported.
    TooOld(String),
}

/// Compares the Kubernetes version of an image with that of the cluster, which is read only if the version of the image
/// is known.
pub fn version_skew(spec: &Spec, id: &ImageId, observed: &Observed) -> Result<VersionSkew, MissingFact> {
    let Some(image) = observed.image(id, &BTreeSet::new())? else { return Ok(VersionSkew::Supported) };
    let Some(version) = lineage(image, observed)?.kubernetes else { return Ok(VersionSkew::Supported) };
    let Some(cluster) = KubernetesVersion::parse(observed.cluster_version()?) else {
        return Ok(VersionSkew::Supported);
    };
    let both = format!("{id} is for Kubernetes {version}, but cluster {} runs {cluster}", spec.cluster);
    Ok(if version > cluster {
        VersionSkew::TooNew(format!("{both}: upgrade the control plane first, or choose an older image"))
    } else if version.is_too_old_for(cluster) {
        VersionSkew::TooOld(format!(
            "{both}: nodes more than three minor versions behind the control plane are not supported"
        ))
    } else {
        VersionSkew::Supported
    })
}

/// Why the root volume that the launch template sets is too small for an image.
pub fn root_volume_too_small(
    group: &NodeGroup,
    id: &ImageId,
    observed: &Observed,
) -> Result<Option<String>, MissingFact> {
    let (Ok(version), Some(image)) =
        (version_in_force(group, observed)?, observed.image(id, &BTreeSet::new())?)
    else {
        return Ok(None);
    };
    let root = version.disks.iter().find(|disk| disk.device == image.machine.root_device);
    let size = root.and_then(|disk| disk.volume.as_ref()?.size);
    Ok(match (size, image.machine.root_size) {
        (Some(size), Some(needed)) if size < needed => Some(format!(
            "its launch template sets the root volume to {size} GiB, but {id} needs {needed} GiB: increase VolumeSize \
             of {}",
            image.machine.root_device
        )),
        _ => None,
    })
}

/// The disks to send with a new launch template version; empty if EC2 copies all of them by itself. EC2 does not copy
/// snapshot IDs, so as soon as a data volume has one, all disks are sent.
pub fn disks_to_send(group: &NodeGroup, id: &ImageId, observed: &Observed) -> Result<Vec<Disk>, MissingFact> {
    let (Ok(version), Some(image)) =
        (version_in_force(group, observed)?, observed.image(id, &BTreeSet::new())?)
    else {
        return Ok(Vec::new());
    };
    let is_root = |disk: &Disk| disk.device == image.machine.root_device;
    let has_snapshot = |disk: &&Disk| disk.volume.as_ref().is_some_and(|volume| volume.snapshot.is_some());
    if version.disks.iter().filter(|disk| !is_root(disk)).find(has_snapshot).is_none() {
        return Ok(Vec::new());
    }
    let mut disks = version.disks.clone();
    for volume in disks.iter_mut().filter(|disk| is_root(disk)).filter_map(|disk| disk.volume.as_mut()) {
        // The snapshot of the root volume belongs to the old image.
        volume.snapshot = None;
    }
    Ok(disks)
}
