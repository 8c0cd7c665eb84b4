//! Whether Opsy can move a node group at all, and whether all its nodes run the image in force, as far as the group itself
//! tells. Asked by `survey`; what further facts tell is in `fit`. Pure.

use super::node_group::{GroupKind, Instance, ManagedGroup, NodeGroup, SelfManagedGroup};
use super::spec::Spec;
use crate::aws::autoscaling::{LaunchSource, Policy};

/// Why a group cannot be moved, with the remedy.
pub fn unsupported(group: &NodeGroup) -> Option<String> {
    match &group.kind {
        GroupKind::Managed(_) if group.launch_template.is_none() => {
            Some("has no launch template of its own: recreate the group with one".to_owned())
        }
        GroupKind::Managed(managed) => image_of_aws(managed),
        GroupKind::SelfManaged(own) => no_template(own),
    }
}

fn image_of_aws(managed: &ManagedGroup) -> Option<String> {
    let custom = managed.ami_type == "CUSTOM";
    (!custom).then(|| {
        format!(
            "uses an image type of AWS ({}): recreate the group with a launch template that names an image",
            managed.ami_type
        )
    })
}

fn no_template(group: &SelfManagedGroup) -> Option<String> {
    match &group.source {
        LaunchSource::Template(_) => None,
        LaunchSource::Mixed(policy) => override_of(policy).map(str::to_owned),
        LaunchSource::Configuration(name) => Some(format!(
            "launches from the launch configuration {name}, which has no versions: set a launch template on the group"
        )),
        LaunchSource::Unknown => Some(
            "has no launch template: set one on the group, with a version that names an image".to_owned(),
        ),
    }
}

/// What in a mixed instances policy a new version of its launch template would not change.
fn override_of(policy: &Policy) -> Option<&'static str> {
    if policy.overrides_template {
        Some(
            "has overrides with launch templates of their own in its mixed instances policy: use one launch template, \
             and one group per architecture",
        )
    } else if policy.overrides_image {
        Some(
            "has overrides with images of their own in its mixed instances policy: name the image in the launch template",
        )
    } else if policy.has_requirements {
        Some(
            "selects instance types by their attributes, which EC2 Auto Scaling does not combine with a desired \
             configuration: list instance types in the overrides",
        )
    } else {
        None
    }
}

/// The number of nodes of a self-managed group that do not run the image in force, without those that the settings leave
/// alone. EKS keeps the nodes of a managed group on one version by itself.
pub fn nodes_behind(spec: &Spec, group: &NodeGroup) -> usize {
    let Some(own) = group.self_managed_kind() else { return 0 };
    let is_behind = |instance: &&Instance| {
        let differs = instance.version != group.launch_template;
        differs
            && (instance.image.is_none() || instance.image != group.image)
            && !is_left_alone(spec, instance)
    };
    own.instances.iter().filter(is_behind).count()
}

/// Whether an instance refresh does not replace an instance because of the settings.
pub fn is_left_alone(spec: &Spec, instance: &Instance) -> bool {
    let ignores = |setting: Option<&String>| setting.is_some_and(|setting| setting == "Ignore");
    let preferences = &spec.update.refresh;
    match instance.is_standby {
        true => ignores(preferences.standby.as_ref()),
        false => instance.is_protected && ignores(preferences.protected.as_ref()),
    }
}
