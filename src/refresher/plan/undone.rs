//! Moves that another writer undid: each is recorded and reported once, with the likely writer. Checked by `begin` and
//! `rollout` before anything is moved. Pure.

use super::super::memory::{GroupEntry, REMEMBERED, Rollout};
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::observed::MissingFact;
use super::super::step::{Explanation, Plan};
use super::super::survey::Survey;
use super::super::writer::likely_writer;
use super::PlanInput;
use crate::api::reasons;
use crate::api::time::recent;

/// Records the first group whose move was undone; `None` if there is none.
pub fn record_undone(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
) -> Result<Option<Plan>, MissingFact> {
    let found = survey.drifted().find_map(|group| {
        let entry = rollout.groups.get(&group.name)?;
        is_undone(input, rollout, group, entry).then_some((group, entry))
    });
    let Some((group, entry)) = found else { return Ok(None) };
    input.observed.require_fresh_group(&group.name)?;
    let message = describe(group, entry);
    let mut undone_at = recent(&entry.undone_at, input.now, REMEMBERED);
    undone_at.push(input.now);
    let times = undone_at.len();
    let entry = GroupEntry { undone_at, undone_by: Some(message.clone()), ..entry.clone() };
    let warning =
        Explanation::new(reasons::ANOTHER_WRITER, format!("{message} (found {times} times within a week)"));
    Ok(Some(Plan::Record {
        rollout: rollout.with_group(&group.name, entry),
        ended: None,
        why: Explanation::new(reasons::ROLLING_OUT, message),
        warning: Some(warning),
    }))
}

/// Whether a drifted group had been moved to the target, without an update by Opsy since.
fn is_undone(input: PlanInput<'_>, rollout: &Rollout, group: &NodeGroup, entry: &GroupEntry) -> bool {
    entry.is_moved()
        && entry.last_move_holds()
        && rollout.target.contains(Some(&entry.image))
        && matches!(group.lifecycle, Lifecycle::Active(_) | Lifecycle::Degraded(_))
        && !entry.is_settling(input.now)
}

/// Names both versions and the likely writer.
fn describe(group: &NodeGroup, entry: &GroupEntry) -> String {
    let moved_to = entry.new_version.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
    let in_force = group.launch_template.as_ref().map_or("unknown", |in_force| in_force.version.as_str());
    let image = group.image.as_ref().map_or("no image", |image| image.as_str());
    if group.image.as_ref() == Some(&entry.image) {
        return format!(
            "{} was moved to {image} (launch template version {moved_to}), and some of its nodes run another image again \
             without an update by Opsy",
            group.name
        );
    }
    format!(
        "{} was moved to {} (launch template version {moved_to}), and is back on {image} (version {in_force}) without \
         an update by Opsy, {}",
        group.name,
        entry.image,
        likely_writer(&group.tags)
    )
}
