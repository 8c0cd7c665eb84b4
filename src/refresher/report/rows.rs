//! The rows of `status.nodeGroups`: state and reason of each node group. Pure.

use super::super::memory::{Entry, Rollout};
use super::super::plan::Case;
use super::super::seen::{Group, Life};
use super::super::survey::{Verdict, survey};
use super::super::target::Target;
use crate::api::refresher::NodeGroupStatus;
use crate::api::{AMIRefresherStatus, ImageId};
use crate::engine::Note;

pub(super) fn drifted(rows: &[NodeGroupStatus]) -> i32 {
    let off = |row: &&NodeGroupStatus| {
        matches!(row.state.as_deref(), Some("Pending" | "Updating" | "Failed" | "Drifted"))
    };
    i32::try_from(rows.iter().filter(off).count()).unwrap_or(i32::MAX)
}

pub(super) fn rows(
    case: Case<'_>,
    groups: &[Group],
    target: Option<&Target>,
    rollout: Option<&Rollout>,
    before: &AMIRefresherStatus,
) -> Vec<NodeGroupStatus> {
    let mut survey = survey(case.spec, target, rollout, groups);
    if let Some(target) = target {
        survey = survey.refined_as_known(case.spec, target, case.seen);
    }
    let old = |name: &str| before.node_groups.iter().flatten().find(|row| row.name == name);
    let row = |(group, verdict): &(&Group, Verdict)| {
        let entry = rollout.and_then(|rollout| rollout.groups.get(&group.name));
        let open = rollout.is_some_and(Rollout::open);
        let (state, reason) = stands(group, verdict, entry, open, target.is_some(), old(&group.name));
        NodeGroupStatus {
            name: group.name.clone(),
            kind: Some("Managed".to_owned()),
            current_ami: group.image.as_ref().map(ImageId::to_string),
            state: Some(state.to_owned()),
            update_id: entry.and_then(|entry| entry.update.clone()),
            reason,
            started_at: entry.map(|entry| entry.started),
            finished_at: entry.and_then(|entry| entry.finished),
        }
    };
    let mut rows: Vec<NodeGroupStatus> = survey.groups.iter().map(row).collect();
    if case.seen.partial {
        let unread = before.node_groups.iter().flatten();
        rows.extend(unread.filter(|old| !groups.iter().any(|group| group.name == old.name)).cloned());
        rows.sort_by(|a, b| a.name.cmp(&b.name));
    }
    rows
}

/// State and reason of one group.
fn stands(
    group: &Group,
    verdict: &Verdict,
    entry: Option<&Entry>,
    open: bool,
    targeted: bool,
    before: Option<&NodeGroupStatus>,
) -> (&'static str, Option<String>) {
    let degraded = group.is_degraded().then(|| format!("DEGRADED: {}", group.health.join("; ")));
    match verdict {
        Verdict::Excluded => ("Excluded", None),
        Verdict::Unsupported(why) => ("Unsupported", Some(why.clone())),
        Verdict::Gone(why) | Verdict::Unknown(_, why) => ("Unknown", Some(why.clone())),
        Verdict::Current => ("Current", degraded),
        Verdict::Off(_) if !targeted => ("Unknown", degraded),
        Verdict::Off(to) => off(group, to.as_ref(), entry, open, before, degraded),
    }
}

/// State and reason of a group that does not run the target.
fn off(
    group: &Group,
    to: Option<&ImageId>,
    entry: Option<&Entry>,
    open: bool,
    before: Option<&NodeGroupStatus>,
    degraded: Option<String>,
) -> (&'static str, Option<String>) {
    let refusal = entry.filter(|entry| entry.held()).and_then(|entry| entry.refusal.as_ref());
    if let Some(refusal) = refusal {
        return ("Pending", Some(refusal.message.clone()));
    }
    if entry.is_some_and(Entry::open) {
        return ("Updating", degraded);
    }
    if group.life == Life::Updating {
        return ("Updating", Some("updated by somebody else".to_owned()));
    }
    match (entry.and_then(|entry| entry.failure.clone()), known_unfit(group, to, before)) {
        (Some(failure), _) => ("Failed", Some(failure)),
        (None, Some(why)) => ("Unsupported", Some(why)),
        (None, None) => {
            let undone = entry.filter(|entry| entry.moved()).and_then(|entry| entry.undone_by.clone());
            (if open { "Pending" } else { "Drifted" }, undone.or(degraded))
        }
    }
}

/// Found unfit by an earlier, closer look, and not looked at closely since.
fn known_unfit(group: &Group, to: Option<&ImageId>, before: Option<&NodeGroupStatus>) -> Option<String> {
    let same = |row: &&NodeGroupStatus| {
        row.state.as_deref() == Some("Unsupported")
            && row.current_ami.as_deref() == group.image.as_ref().map(ImageId::as_str)
    };
    before.filter(|_| to.is_none()).filter(same).and_then(|row| row.reason.clone())
}

pub(super) fn newly_unsupported(before: &AMIRefresherStatus, rows: &[NodeGroupStatus]) -> Vec<Note> {
    let told = |row: &NodeGroupStatus| {
        before
            .node_groups
            .iter()
            .flatten()
            .any(|old| old.name == row.name && old.state == row.state && old.reason == row.reason)
    };
    rows.iter()
        .filter(|row| row.state.as_deref() == Some("Unsupported") && !told(row))
        .map(|row| Note {
            reason: "Unsupported".into(),
            message: format!("{} {}", row.name, row.reason.as_deref().unwrap_or_default()),
            warning: true,
        })
        .collect()
}
