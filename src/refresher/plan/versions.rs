//! The launch template versions of this refresher: how they are recognized, and which of them may be deleted. Versions
//! cannot be tagged, so their description marks them. Used by `new_version`, which creates versions, and by `group_move`,
//! which prunes them at the end of a move. Pure.

use std::collections::BTreeSet;

use super::super::memory::{GroupEntry, Rollout};
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::observed::MissingFact;
use super::PlanInput;
use crate::api::ids::digest;
use crate::api::{ImageId, Key, Owner, TemplateId};
use crate::aws::{LaunchTemplateVersion, TemplateVersion};

/// The newest versions of this refresher are kept even if nothing in this cluster uses them: something else may launch
/// them, such as a group of another cluster or an Auto Scaling group of a person.
const KEPT: usize = 3;

/// The description of a version that this refresher creates from a given version with a given image.
pub struct Mark {
    prefix: String,
    suffix: String,
}

/// The description of every version of this refresher starts with this.
fn prefix(owner: &Owner, key: &Key) -> String {
    format!("opsy {owner} {} ", &digest(&["refresher", &key.to_string()])[..12])
}

impl Mark {
    pub fn new(input: PlanInput<'_>, image: &ImageId, source: &TemplateVersion) -> Self {
        Self {
            prefix: prefix(input.owner, &input.spec.key),
            suffix: format!(" {image} from {}", source.version),
        }
    }

    pub fn description(&self, rollout: &str) -> String {
        format!("{}{rollout}{}", self.prefix, self.suffix)
    }

    /// Whether a version has this description, in whichever rollout it was created.
    pub fn matches(&self, version: &LaunchTemplateVersion) -> bool {
        version
            .description
            .as_deref()
            .is_some_and(|text| text.starts_with(&self.prefix) && text.ends_with(&self.suffix))
    }
}

/// The versions of a launch template to delete when the move of a group ends; `after` is the rollout after that.
pub fn prunable(
    input: PlanInput<'_>,
    after: &Rollout,
    group: &str,
    template: &TemplateId,
) -> Result<Vec<i64>, MissingFact> {
    // If another group on this template is still being moved or updated, the last of them prunes.
    if input.spec.paused.is_some() || is_used_by_others(input, after, group, template)? {
        return Ok(Vec::new());
    }
    let candidates = prune_candidates(input, after, template)?;
    if candidates.is_empty() {
        return Ok(candidates);
    }
    // Only now further groups are read: this takes one call per group on the template, and one for each that was not
    // read lately.
    let users = input.observed.users_of(template)?;
    let may_use_another = |user: &NodeGroup| match user.lifecycle {
        Lifecycle::Unreadable(..) => true,
        Lifecycle::Updating => user.is_on(template),
        _ => false,
    };
    if users.iter().any(may_use_another) {
        return Ok(Vec::new());
    }
    let in_use: BTreeSet<&str> = users.iter().flat_map(|group| group.versions_in_use(template)).collect();
    let is_unused = |number: &i64| !in_use.contains(number.to_string().as_str());
    Ok(candidates.into_iter().filter(is_unused).collect())
}

fn is_used_by_others(
    input: PlanInput<'_>,
    after: &Rollout,
    name: &str,
    template: &TemplateId,
) -> Result<bool, MissingFact> {
    let moving = after.moving().any(|(other, entry)| other != name && entry.previous.template == *template);
    let groups = input.observed.groups()?.iter();
    let updating =
        groups.filter(|group| group.lifecycle == Lifecycle::Updating).any(|group| group.is_on(template));
    Ok(moving || updating)
}

/// The versions of this refresher that the rollout does not need, except for the newest few and for the latest of the
/// template, which `$Latest` refers to. A version whose update was refused was never in use, so it is not kept.
fn prune_candidates(
    input: PlanInput<'_>,
    after: &Rollout,
    template: &TemplateId,
) -> Result<Vec<i64>, MissingFact> {
    let prefix = prefix(input.owner, &input.spec.key);
    input.observed.require_fresh_template(template)?;
    let versions = input.observed.template_versions(template)?.unwrap_or_default();
    let is_own = |version: &LaunchTemplateVersion| {
        version.description.as_deref().is_some_and(|text| text.starts_with(&prefix))
    };
    let mut newest: Vec<i64> =
        versions.iter().filter(|version| is_own(version)).map(|version| version.number).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.truncate(KEPT);
    let latest = versions.iter().map(|version| version.number).max();
    let is_kept =
        |version: &LaunchTemplateVersion| newest.contains(&version.number) || latest == Some(version.number);
    let was_refused = |version: &LaunchTemplateVersion| {
        let created_for = |entry: &GroupEntry| {
            entry.new_version == Some(version.number)
                && entry.previous.template == *template
                && Mark::new(input, &entry.image, &entry.previous).matches(version)
        };
        let mut entries = after.groups.values();
        entries.any(|entry| created_for(entry) && entry.failure.is_some() && entry.update.id.is_none())
    };
    Ok(versions
        .iter()
        .filter(|version| is_own(version) && !is_needed(input, after, template, version))
        .filter(|version| was_refused(version) || !is_kept(version))
        .map(|version| version.number)
        .collect())
}

/// Whether a version is the default, was in force before a move, or was the target of an update that failed: its nodes
/// may still run.
fn is_needed(
    input: PlanInput<'_>,
    after: &Rollout,
    template: &TemplateId,
    version: &LaunchTemplateVersion,
) -> bool {
    let by_entry = |entry: &GroupEntry| {
        entry.previous.template == *template
            && (entry.previous.version == version.number.to_string()
                || entry.origin().version == version.number.to_string()
                || entry.update_failed() && Mark::new(input, &entry.image, &entry.previous).matches(version))
    };
    version.is_default || after.groups.values().any(by_entry)
}
