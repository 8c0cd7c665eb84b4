//! Converts what EKS returns.

use std::collections::HashMap;

use aws_sdk_eks::types;

use crate::api::TemplateId;
use crate::api::steady::news;
use crate::aws::ec2::{instant, reason};
use crate::aws::{AwsError, ManagedNodegroup, Tags, TemplateVersion, Update, UpdateStatus, unreadable};

/// Maximum number of resources that are named in an error.
const RESOURCES: usize = 5;

pub(super) fn group_of(name: &str, group: &types::Nodegroup) -> ManagedNodegroup {
    let config = group.update_config();
    let issues = group.health().map(|health| health.issues()).unwrap_or_default();
    ManagedNodegroup {
        name: name.to_owned(),
        status: group.status().map(|s| s.as_str().to_owned()).unwrap_or_default(),
        ami_type: group.ami_type().map(|t| t.as_str().to_owned()).unwrap_or_default(),
        release_version: group.release_version().map(str::to_owned),
        launch_template: group.launch_template().and_then(template),
        max_unavailable: config.and_then(|config| config.max_unavailable()),
        max_unavailable_percentage: config.and_then(|config| config.max_unavailable_percentage()),
        update_strategy: config.and_then(|config| config.update_strategy()).map(|s| s.as_str().to_owned()),
        health: issues
            .iter()
            .filter_map(|issue| {
                reason(issue.code().map(|code| code.as_str()), issue.message().map(news).as_deref())
            })
            .collect(),
        instance_types: group.instance_types().to_vec(),
        desired: group.scaling_config().and_then(|scaling| scaling.desired_size()),
        auto_scaling_groups: group
            .resources()
            .map(|resources| resources.auto_scaling_groups())
            .unwrap_or_default()
            .iter()
            .filter_map(|group| group.name().map(str::to_owned))
            .collect(),
        tags: pairs(group.tags()),
        labels: pairs(group.labels()),
    }
}

fn pairs(map: Option<&HashMap<String, String>>) -> Tags {
    map.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Returns `code: message (resource IDs)`, or the parts that are given. Resources that the message itself names are not
/// listed again.
fn explain(code: Option<&str>, message: Option<&str>, resources: &[String]) -> Option<String> {
    let said = reason(code, message.map(news).as_deref())?;
    let unnamed: Vec<&str> =
        resources.iter().map(String::as_str).filter(|resource| !said.contains(resource)).collect();
    let more = unnamed.len().saturating_sub(RESOURCES);
    let named = unnamed.into_iter().take(RESOURCES).collect::<Vec<_>>().join(", ");
    Some(match (named.is_empty(), more) {
        (true, _) => said,
        (false, 0) => format!("{said} ({named})"),
        (false, more) => format!("{said} ({named} and {more} more)"),
    })
}

/// Converts a launch template, which EKS names by ID and name. Only the ID is used.
fn template(template: &types::LaunchTemplateSpecification) -> Option<TemplateVersion> {
    Some(TemplateVersion {
        template: TemplateId::parse(template.id()?).ok()?,
        version: template.version()?.to_owned(),
    })
}

pub(super) fn given(update: Option<&types::Update>, operation: &str) -> Result<Update, AwsError> {
    update.and_then(update_of).ok_or_else(|| unreadable(operation, "no update"))
}

fn update_of(update: &types::Update) -> Option<Update> {
    let params = update.params().iter().filter_map(|param| {
        Some((param.r#type()?.as_str().to_owned(), param.value().unwrap_or_default().to_owned()))
    });
    let errors = update.errors().iter().filter_map(|error| {
        let code = error.error_code().map(|code| code.as_str());
        explain(code, error.error_message(), error.resource_ids())
    });
    Some(Update {
        id: update.id()?.to_owned(),
        kind: update.r#type().map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        status: status(update.status()),
        errors: errors.collect(),
        created: instant(update.created_at()),
        params: params.collect(),
    })
}

fn status(status: Option<&types::UpdateStatus>) -> UpdateStatus {
    match status {
        Some(types::UpdateStatus::InProgress) => UpdateStatus::InProgress,
        Some(types::UpdateStatus::Successful) => UpdateStatus::Successful,
        Some(types::UpdateStatus::Failed) => UpdateStatus::Failed,
        Some(types::UpdateStatus::Cancelled) => UpdateStatus::Cancelled,
        other => UpdateStatus::Other(other.map(|s| s.as_str().to_owned()).unwrap_or_default()),
    }
}
