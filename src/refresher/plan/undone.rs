//! A move that somebody else undid: found once for each time, with who it likely was. Pure.

use super::super::memory::{Entry, REMEMBERED, Rollout};
use super::super::seen::{Gap, Group, Life};
use super::super::survey::Survey;
use super::super::time::{elapsed, recent};
use super::super::writer;
use super::{Case, Plan, SHOWN_WITHIN, said};

/// The first group that was moved, was at rest since, and runs another image: it is remembered before
/// anything is done about it.
pub fn undone(case: Case<'_>, rollout: &Rollout, survey: &Survey<'_>) -> Result<Option<Plan>, Gap> {
    let found = survey.off().find_map(|group| {
        let entry = rollout.groups.get(&group.name)?;
        is_undone(case, rollout, group, entry).then_some((group, entry))
    });
    let Some((group, entry)) = found else { return Ok(None) };
    case.seen.fresh_groups()?;
    let words = words(group, entry);
    let mut undone = recent(&entry.undone, case.now, REMEMBERED);
    undone.push(case.now);
    let times = undone.len();
    let entry = Entry { undone, undone_by: Some(words.clone()), ..entry.clone() };
    let warning = said("AnotherWriter", format!("{words} (found {times} times within a week)"));
    let rollout = rollout.with(&group.name, entry);
    Ok(Some(Plan::Record { rollout, ended: None, said: said("RollingOut", words), warning: Some(warning) }))
}

/// Was a group that runs something else moved to the target, and did nothing of ours run since?
fn is_undone(case: Case<'_>, rollout: &Rollout, group: &Group, entry: &Entry) -> bool {
    entry.moved()
        && entry.undoing_is_news()
        && rollout.target.has(Some(&entry.image))
        && matches!(group.life, Life::Active(_) | Life::Degraded(_))
        && !settling(case, entry)
}

/// Was it moved so lately that EKS may not show it yet?
pub fn settling(case: Case<'_>, entry: &Entry) -> bool {
    entry.moved() && entry.finished.is_some_and(|at| elapsed(at, case.now) < SHOWN_WITHIN)
}

/// Both versions, and who it likely was.
fn words(group: &Group, entry: &Entry) -> String {
    let made = entry.made.map_or_else(|| "unknown".to_owned(), |made| made.to_string());
    let force = group.template.as_ref().map_or("unknown", |force| force.version.as_str());
    let runs = group.image.as_ref().map_or("no image", |image| image.as_str());
    format!(
        "{} was moved to {} (launch template version {made}), and is back on {runs} (version {force}) without an \
         update of Opsy, {}",
        group.name,
        entry.image,
        writer::likely(&group.tags)
    )
}
