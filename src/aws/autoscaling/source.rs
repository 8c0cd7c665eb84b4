//! What an Auto Scaling group launches: a launch template, or a mixed instances policy, which is kept whole when its
//! version changes. Read from the group by `autoscaling`, sent back with another version.

use std::sync::Arc;

use aws_sdk_autoscaling::types;

use super::super::TemplateVersion;
use crate::api::TemplateId;

/// What a group launches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LaunchSource {
    Template(TemplateRef),
    Mixed(Policy),
    /// A launch configuration with this name.
    Configuration(String),
    /// Nothing that Opsy knows.
    #[default]
    Unknown,
}

/// A launch template with the version that a group follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateRef {
    pub template: TemplateId,
    pub version: VersionRef,
}

/// Which version of a launch template a group launches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionRef {
    Number(i64),
    /// `$Latest`
    Latest,
    /// `$Default`, also if the group names no version.
    Default,
}

/// A mixed instances policy. Opsy reads only what it needs and sends the rest back as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub template: TemplateRef,
    pub instance_types: Vec<String>,
    /// An override has a launch template of its own.
    pub overrides_template: bool,
    /// An override has an image of its own.
    pub overrides_image: bool,
    /// An override selects instance types by their attributes.
    pub has_requirements: bool,
    raw: Arc<types::MixedInstancesPolicy>,
}

/// The only numbers that are not equal to themselves are in instance requirements, and AWS never returns NaN.
impl Eq for Policy {}

impl LaunchSource {
    /// The launch template that the group follows.
    pub fn template(&self) -> Option<&TemplateRef> {
        match self {
            Self::Template(template) => Some(template),
            Self::Mixed(policy) => Some(&policy.template),
            Self::Configuration(_) | Self::Unknown => None,
        }
    }

    /// The same source with this version. A specification must have either ID or name of its template, while AWS
    /// returns both.
    pub(super) fn with_version(
        &self,
        version: &TemplateVersion,
    ) -> (Option<types::LaunchTemplateSpecification>, Option<types::MixedInstancesPolicy>) {
        let specification = types::LaunchTemplateSpecification::builder()
            .launch_template_id(version.template.as_str())
            .version(&version.version)
            .build();
        match self {
            Self::Mixed(policy) => {
                let mut raw = types::MixedInstancesPolicy::clone(&policy.raw);
                if let Some(template) = raw.launch_template.as_mut() {
                    template.launch_template_specification = Some(specification);
                }
                (None, Some(raw))
            }
            _ => (Some(specification), None),
        }
    }
}

pub(super) fn of(group: &types::AutoScalingGroup) -> LaunchSource {
    if let Some(policy) = group.mixed_instances_policy() {
        return mixed(policy).map_or(LaunchSource::Unknown, LaunchSource::Mixed);
    }
    if let Some(template) = group.launch_template() {
        return template_ref(template).map_or(LaunchSource::Unknown, LaunchSource::Template);
    }
    match group.launch_configuration_name() {
        Some(name) => LaunchSource::Configuration(name.to_owned()),
        None => LaunchSource::Unknown,
    }
}

fn mixed(policy: &types::MixedInstancesPolicy) -> Option<Policy> {
    let launch = policy.launch_template()?;
    let overrides = launch.overrides();
    Some(Policy {
        template: template_ref(launch.launch_template_specification()?)?,
        instance_types: overrides.iter().filter_map(|one| one.instance_type().map(str::to_owned)).collect(),
        overrides_template: overrides.iter().any(|one| one.launch_template_specification().is_some()),
        overrides_image: overrides.iter().any(|one| one.image_id().is_some()),
        has_requirements: overrides.iter().any(|one| one.instance_requirements().is_some()),
        raw: Arc::new(policy.clone()),
    })
}

/// A specification that a group or a refresh shows.
fn template_ref(shown: &types::LaunchTemplateSpecification) -> Option<TemplateRef> {
    let version = match shown.version() {
        None | Some("$Default") => VersionRef::Default,
        Some("$Latest") => VersionRef::Latest,
        Some(number) => VersionRef::Number(number.parse().ok()?),
    };
    Some(TemplateRef { template: TemplateId::parse(shown.launch_template_id()?).ok()?, version })
}

/// The launch template that a desired configuration names.
pub(super) fn desired(desired: &types::DesiredConfiguration) -> Option<TemplateRef> {
    let policy = desired.mixed_instances_policy().and_then(|policy| policy.launch_template());
    let of_policy = policy.and_then(|launch| launch.launch_template_specification());
    desired.launch_template().or(of_policy).and_then(template_ref)
}
