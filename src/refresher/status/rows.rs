//! The rows of `status.nodeGroups`: state and reason of every node group. Pure.

use super::super::memory::{GroupEntry, Rollout};
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::plan::PlanInput;
use super::super::progress::progress;
use super::super::support::nodes_behind;
use super::super::survey::{GroupDrift, survey};
use super::super::target::Target;
use crate::api::reasons;
use crate::api::refresher::NodeGroupStatus;
use crate::api::words::GroupState;
use crate::api::{AMIRefresherStatus, ImageId};
use crate::engine::Note;

type StateAndReason = (GroupState, Option<String>);

/// What the row of one group depends on.
struct Row<'a> {
    group: &'a NodeGroup,
    drift: &'a GroupDrift,
    /// The group in the rollout in progress or the last one.
    entry: Option<&'a GroupEntry>,
    /// That rollout is in progress.
    is_open: bool,
    /// No group may start now.
    is_held: bool,
    has_target: bool,
    nodes_behind: usize,
    /// The row in the last status.
    before: Option<&'a NodeGroupStatus>,
}

pub(super) fn count_drifted(rows: &[NodeGroupStatus]) -> i32 {
    let is_drifted = |row: &&NodeGroupStatus| {
        matches!(
            row.state.as_deref().and_then(GroupState::parse),
            Some(GroupState::Pending | GroupState::Updating | GroupState::Failed | GroupState::Drifted)
        )
    };
    i32::try_from(rows.iter().filter(is_drifted).count()).unwrap_or(i32::MAX)
}

pub(super) fn rows(
    input: PlanInput<'_>,
    groups: &[NodeGroup],
    target: Option<&Target>,
    rollout: Option<&Rollout>,
    before: &AMIRefresherStatus,
    is_held: bool,
) -> Vec<NodeGroupStatus> {
    let mut survey = survey(input.spec, target, rollout, groups).keeping(&input.kept(), rollout);
    if let Some(target) = target {
        survey = survey.with_known_images(input.spec, target, input.observed);
    }
    let before = || before.node_groups.iter().flatten();
    let is_open = rollout.is_some_and(Rollout::is_open);
    let row = |(group, drift): &(&NodeGroup, GroupDrift)| {
        let entry = rollout.and_then(|rollout| rollout.groups.get(&group.name));
        let before = before().find(|row| row.name == group.name);
        let nodes_behind = nodes_behind(input.spec, group);
        let has_target = target.is_some();
        let row = Row { group, drift, entry, is_open, is_held, has_target, nodes_behind, before };
        let (state, reason) = row.state();
        NodeGroupStatus {
            name: group.name.clone(),
            kind: Some(group.kind.word().to_string()),
            wave: row.wave(input),
            current_ami: group.image.as_ref().map(ImageId::to_string),
            state: Some(state.to_string()),
            update_id: entry.and_then(|entry| entry.update.id.clone()),
            reason,
            started_at: entry.map(|entry| entry.started),
            finished_at: entry.and_then(|entry| entry.finished),
        }
    };
    let mut rows: Vec<NodeGroupStatus> = survey.groups.iter().map(row).collect();
    if input.observed.partial {
        // The rows of groups that were not read stay.
        rows.extend(before().filter(|old| !groups.iter().any(|group| group.name == old.name)).cloned());
        rows.sort_by(|a, b| a.name.cmp(&b.name));
    }
    rows
}

impl Row<'_> {
    fn state(&self) -> StateAndReason {
        match self.drift {
            GroupDrift::Excluded => (GroupState::Excluded, None),
            GroupDrift::Unsupported(why) => (GroupState::Unsupported, Some(why.clone())),
            GroupDrift::Unusable(why) | GroupDrift::Unknown(_, why) => {
                (GroupState::Unknown, Some(why.clone()))
            }
            GroupDrift::Current => (GroupState::Current, self.degraded()),
            GroupDrift::Drifted(_) if !self.has_target => (GroupState::Unknown, self.degraded()),
            GroupDrift::Drifted(image) => self.state_of_drifted(image.as_ref()),
        }
    }

    /// `image` is the image to move the group to, if it was determined.
    fn state_of_drifted(&self, image: Option<&ImageId>) -> StateAndReason {
        let blocked = self.entry.filter(|entry| entry.is_blocked());
        if let Some(refusal) = blocked.and_then(|entry| entry.refusal.as_ref()) {
            return (GroupState::Pending, Some(refusal.message.clone()));
        }
        if self.entry.is_some_and(|entry| entry.is_open() && (entry.has_begun() || !self.is_held)) {
            let blocked_by = self.entry.and_then(|entry| entry.nodes.blocked_by.clone());
            let reason = blocked_by.or_else(|| self.degraded()).or_else(|| self.progress());
            return (GroupState::Updating, reason);
        }
        if self.group.lifecycle == Lifecycle::Updating {
            let progress = self.progress().map(|progress| format!(": {progress}")).unwrap_or_default();
            return (GroupState::Updating, Some(format!("another writer is updating it{progress}")));
        }
        if let Some(failure) = self.entry.and_then(|entry| entry.failure.clone()) {
            return (GroupState::Failed, Some(failure));
        }
        if let Some(why) = self.known_unfit(image) {
            return (GroupState::Unsupported, Some(why));
        }
        let undone = self.entry.filter(|entry| entry.is_moved()).and_then(|entry| entry.undone_by.clone());
        (
            if self.is_open { GroupState::Pending } else { GroupState::Drifted },
            undone.or_else(|| self.degraded()).or_else(|| self.behind()),
        )
    }

    /// The labels and tags of a group that was not read are unknown, so it keeps its wave.
    fn wave(&self, input: PlanInput<'_>) -> Option<String> {
        match self.group.lifecycle {
            Lifecycle::NotRead => None,
            Lifecycle::Unreadable(..) => self.before.and_then(|before| before.wave.clone()),
            _ => input.spec.policy.wave_name(self.group).map(str::to_owned),
        }
    }

    fn progress(&self) -> Option<String> {
        self.group.self_managed_kind()?.active().map(progress)
    }

    /// Some nodes of a self-managed group were not replaced, for example because a refresh was canceled.
    fn behind(&self) -> Option<String> {
        let (behind, all) = (self.nodes_behind, self.group.desired);
        (behind > 0)
            .then(|| format!("{behind} of {all} nodes run another image than its launch template version"))
    }

    fn degraded(&self) -> Option<String> {
        self.group.is_degraded().then(|| format!("DEGRADED: {}", self.group.health.join("; ")))
    }

    /// The reason of the last status, if no image was found to fit then, and the facts were not read again since.
    fn known_unfit(&self, image: Option<&ImageId>) -> Option<String> {
        let is_same = |row: &&NodeGroupStatus| {
            row.state.as_deref() == Some(GroupState::Unsupported.as_str())
                && row.current_ami.as_deref() == self.group.image.as_ref().map(ImageId::as_str)
        };
        self.before.filter(|_| image.is_none()).filter(is_same).and_then(|row| row.reason.clone())
    }
}

/// A note for every group that became unsupported, or is so for another reason.
pub(super) fn newly_unsupported(before: &AMIRefresherStatus, rows: &[NodeGroupStatus]) -> Vec<Note> {
    let is_known = |row: &NodeGroupStatus| {
        before
            .node_groups
            .iter()
            .flatten()
            .any(|old| old.name == row.name && old.state == row.state && old.reason == row.reason)
    };
    rows.iter()
        .filter(|row| row.state.as_deref() == Some(GroupState::Unsupported.as_str()) && !is_known(row))
        .map(|row| Note {
            reason: reasons::UNSUPPORTED.into(),
            message: format!("{} {}", row.name, row.reason.as_deref().unwrap_or_default()),
            warning: true,
        })
        .collect()
}
