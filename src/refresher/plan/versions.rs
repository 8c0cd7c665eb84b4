//! Launch template versions of ours: how they are recognised, and which may go. Versions cannot be
//! tagged, so their description carries the mark. Pure.

use std::collections::BTreeSet;

use super::super::memory::{Entry, Rollout};
use super::super::seen::{Gap, Life};
use super::{Case, Plan, Step, said};
use crate::api::ids::digest;
use crate::api::{ImageId, Key, Owner, TemplateId};
use crate::aws::{LaunchTemplateVersion, TemplateVersion};

/// The newest versions of ours that are kept although nothing of this cluster needs them: something else may
/// launch them, like a group of another cluster or a person's Auto Scaling group.
const KEPT: usize = 3;

/// How the move of one group ended.
pub enum End {
    Moved,
    Failed(String),
    /// Not moved, and why it need not be any more.
    Dropped(String),
}

/// What marks a version made from one version with one image by one refresher.
pub struct Mark {
    prefix: String,
    suffix: String,
}

/// Starts the description of every version of this refresher.
fn prefix(owner: &Owner, key: &Key) -> String {
    format!("opsy {owner} {} ", &digest(&["refresher", &key.to_string()])[..12])
}

impl Mark {
    pub fn new(case: Case<'_>, image: &ImageId, source: &TemplateVersion) -> Self {
        Self {
            prefix: prefix(case.owner, &case.spec.key),
            suffix: format!(" {image} from {}", source.version),
        }
    }

    pub fn description(&self, rollout: &str) -> String {
        format!("{}{rollout}{}", self.prefix, self.suffix)
    }

    /// Is this the version, whichever rollout made it?
    pub fn made(&self, version: &LaunchTemplateVersion) -> bool {
        version
            .description
            .as_deref()
            .is_some_and(|words| words.starts_with(&self.prefix) && words.ends_with(&self.suffix))
    }
}

/// Ends the move of a group: versions of its template that nothing needs go first, then it is noted.
pub fn end(case: Case<'_>, rollout: &Rollout, name: &str, entry: &Entry, how: End) -> Result<Plan, Gap> {
    let (after, words) = ended(case, rollout, name, entry, how);
    let template = &entry.before.template;
    let versions = if case.spec.paused.is_some() || shared_by_moving(case, &after, name, template)? {
        Vec::new()
    } else {
        disposable(case, &after, template)?
    };
    let said = said("RollingOut", words);
    if versions.is_empty() {
        return Ok(Plan::Record { rollout: after, ended: None, said, warning: None });
    }
    let (group, template) = (name.to_owned(), template.clone());
    Ok(Plan::Act { step: Step::PruneVersions { group, template, versions, after }, said })
}

fn ended(case: Case<'_>, rollout: &Rollout, name: &str, entry: &Entry, how: End) -> (Rollout, String) {
    let mut entry = Entry { finished: Some(case.now), starting: None, refusal: None, ..entry.clone() };
    match how {
        End::Dropped(why) => (rollout.without(name), format!("{name} is left out: {why}")),
        End::Failed(error) => {
            let words = format!("{name} could not be moved to {}: {error}", entry.image);
            entry.failure = Some(error);
            (rollout.with(name, entry), words)
        }
        End::Moved => {
            let words = format!("{name} runs {}", entry.image);
            entry.moves.push(case.now);
            (rollout.with(name, entry), words)
        }
    }
}

/// Another group on this template is being moved or updated: whoever ends last tidies up.
fn shared_by_moving(case: Case<'_>, after: &Rollout, name: &str, template: &TemplateId) -> Result<bool, Gap> {
    let moving = after.moving().any(|(other, entry)| other != name && entry.before.template == *template);
    let updating = case.seen.groups()?.iter().any(|group| {
        group.life == Life::Updating
            && group.template.as_ref().is_some_and(|force| force.template == *template)
    });
    Ok(moving || updating)
}

/// Versions of this refresher that are in force nowhere, no group's previous and no group's target; never
/// the latest, which `$Latest` means, nor the newest few. One whose update was refused was never in use.
fn disposable(case: Case<'_>, after: &Rollout, template: &TemplateId) -> Result<Vec<i64>, Gap> {
    let ours = prefix(case.owner, &case.spec.key);
    let versions = case.seen.template(template)?.unwrap_or_default();
    let marked = |version: &LaunchTemplateVersion| {
        version.description.as_deref().is_some_and(|words| words.starts_with(&ours))
    };
    let mut newest: Vec<i64> =
        versions.iter().filter(|version| marked(version)).map(|version| version.number).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.truncate(KEPT);
    let latest = versions.iter().map(|version| version.number).max();
    let kept =
        |version: &LaunchTemplateVersion| newest.contains(&version.number) || latest == Some(version.number);
    let refused = |version: &LaunchTemplateVersion| {
        let by = |entry: &Entry| entry.made == Some(version.number) && entry.before.template == *template;
        after.groups.values().any(|entry| by(entry) && entry.failure.is_some() && entry.update.is_none())
    };
    let candidates: Vec<&LaunchTemplateVersion> = versions
        .iter()
        .filter(|version| marked(version) && !needed(case, after, template, version))
        .filter(|version| refused(version) || !kept(version))
        .collect();
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let every = case.seen.every()?;
    if every.iter().any(|group| matches!(group.life, Life::Unreadable(..))) {
        return Ok(Vec::new());
    }
    let in_force: BTreeSet<&str> = every
        .iter()
        .filter_map(|group| group.template.as_ref())
        .filter(|force| force.template == *template)
        .map(|force| force.version.as_str())
        .collect();
    let free = |number: &i64| !in_force.contains(number.to_string().as_str());
    Ok(candidates.iter().map(|version| version.number).filter(free).collect())
}

/// Is this the default, the version before a move, or one whose update was tried?
fn needed(case: Case<'_>, after: &Rollout, template: &TemplateId, version: &LaunchTemplateVersion) -> bool {
    let by_entry = |entry: &Entry| {
        entry.before.template == *template
            && (entry.before.version == version.number.to_string()
                || entry.tried_and_failed() && Mark::new(case, &entry.image, &entry.before).made(version))
    };
    version.is_default || after.groups.values().any(by_entry)
}
