//! The move of one group to its image, as far as it is the same for every kind of group: the entry with which it
//! begins, what it can need next, and what is recorded when it ends. Between `rollout`, which decides that a group is
//! moved, and the file of its kind, which decides how. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::super::memory::{GroupEntry, GroupUpdate, Origin, REMEMBERED, Rollout};
use super::super::node_checks::NodeChecks;
use super::super::node_group::NodeGroup;
use super::super::observed::MissingFact;
use super::super::refusal::RefusalKind;
use super::super::step::{Delay, Explanation, Plan, Step};
use super::super::target::Target;
use super::versions;
use super::{PlanInput, record};
use crate::api::reasons;
use crate::api::time::recent;
use crate::api::{Class, ImageId};
use crate::aws::TemplateVersion;

/// One group that is being moved, with its context.
#[derive(Clone, Copy)]
pub struct GroupMove<'a> {
    pub input: PlanInput<'a>,
    pub rollout: &'a Rollout,
    pub name: &'a str,
    pub entry: &'a GroupEntry,
}

/// What the move of a group needs next.
pub enum GroupPlan {
    Wait(Explanation),
    /// AWS refused a call for it; the call is retried after `pause`.
    Blocked {
        kind: RefusalKind,
        why: Explanation,
        pause: Duration,
    },
    /// The group could not be read.
    Unknown(Class, String),
    /// Its update has not started, and its turn has not come: the refresher is paused, or groups of an earlier wave are
    /// left.
    Later,
    /// Its update has not started, and may not start now.
    Delayed(Delay),
    Plan(Box<Plan>),
}

/// How the move of a group ended.
pub enum MoveResult {
    Moved,
    Failed(String),
    /// The group was not moved, and why it need not be moved in this rollout.
    Dropped(String),
}

/// The entry of a group whose turn has come. Of an earlier move to the same image it keeps when the group was moved and
/// when that was undone, and of the first move in this rollout, where it began.
pub fn new_entry(
    input: PlanInput<'_>,
    rollout: Option<&Rollout>,
    group: &NodeGroup,
    in_force: TemplateVersion,
    image: ImageId,
) -> GroupEntry {
    let last = rollout.and_then(|rollout| rollout.groups.get(&group.name));
    let same_image = last.filter(|last| last.image == image);
    let remembered = |moments: &[Timestamp]| recent(moments, input.now, REMEMBERED);
    GroupEntry {
        kind: group.kind.word(),
        wave: input.spec.policy.wave_name(group).map(str::to_owned),
        origin: rollout.zip(last).and_then(|(rollout, last)| origin(rollout, last, group, &in_force)),
        previous: in_force,
        previous_image: group.image.clone(),
        attempt: last.map_or(0, |last| last.attempt) + 1,
        new_version: None,
        update: GroupUpdate::default(),
        failure: None,
        refusal: None,
        nodes: NodeChecks::default(),
        moved_at: same_image.map(|last| remembered(&last.moved_at)).unwrap_or_default(),
        undone_at: same_image.map(|last| remembered(&last.undone_at)).unwrap_or_default(),
        undone_by: same_image.and_then(|last| last.undone_by.clone()),
        started: input.now,
        finished: None,
        image,
    }
}

/// Where a rollback of the new move ends, if the group was moved before: by the same rollout, or by an earlier one whose
/// update failed and left the failed image in force.
fn origin(
    rollout: &Rollout,
    last: &GroupEntry,
    group: &NodeGroup,
    in_force: &TemplateVersion,
) -> Option<Origin> {
    let is_of_rollout = rollout.is_open() && last.started >= rollout.started;
    let is_left_behind = last.update_failed() && group.image.as_ref() == Some(&last.image);
    let is_same_template = last.previous.template == in_force.template;
    (is_same_template && (is_of_rollout || is_left_behind)).then(|| last.origin())
}

impl GroupMove<'_> {
    /// The target of this move: in a rollback, every group returns to its own image.
    pub fn target(self) -> Target {
        match self.rollout.rollback {
            Some(_) => Target::single(self.entry.image.clone()),
            None => self.rollout.target.clone(),
        }
    }

    /// Why the update of this group is to be turned back before it has ended: what it brings is not wanted any more.
    pub fn unwanted(self) -> Option<&'static str> {
        let GroupMove { input, rollout, .. } = self;
        if input.names_another_image(rollout) {
            return Some("ami names another image");
        }
        let rolls_back = input.spec.policy.rolls_back && rollout.rollback.is_none();
        (rolls_back && rollout.has_failed()).then_some("the rollout has failed")
    }

    pub fn wait(self, what: &str) -> GroupPlan {
        self.wait_with(what, "")
    }

    /// `progress` is the end of the sentence; empty if there is none.
    pub fn wait_with(self, what: &str, progress: &str) -> GroupPlan {
        let message = format!("{} {what} ({}){progress}", self.name, self.entry.image);
        GroupPlan::Wait(Explanation::new(reasons::ROLLING_OUT, message))
    }

    pub fn act(self, step: Step, what: String) -> GroupPlan {
        let why = Explanation::new(reasons::ROLLING_OUT, format!("{}: {what}", self.name));
        GroupPlan::Plan(Box::new(Plan::Act { step, why }))
    }

    /// Records a new entry. From now on, a failure counts against the current configuration.
    pub fn record(self, entry: GroupEntry) -> GroupPlan {
        let message = format!("moving {} to {}", self.name, entry.image);
        let config = self.input.spec.fingerprint();
        let rollout = Rollout { config, ..self.rollout.with_group(self.name, entry) };
        GroupPlan::Plan(Box::new(record(rollout, message)))
    }

    /// Ends the move. Versions of its launch template that nothing uses any more are pruned first, in a step that
    /// records the end as well.
    pub fn end(self, result: MoveResult) -> Result<GroupPlan, MissingFact> {
        self.input.observed.require_fresh_group(self.name)?;
        let (after, message) = self.ended(result);
        let template = &self.entry.previous.template;
        let versions = versions::prunable(self.input, &after, self.name, template)?;
        if versions.is_empty() {
            return Ok(GroupPlan::Plan(Box::new(record(after, message))));
        }
        let (group, template) = (self.name.to_owned(), template.clone());
        let step = Step::PruneVersions { group, template, versions, after };
        let why = Explanation::new(reasons::ROLLING_OUT, message);
        Ok(GroupPlan::Plan(Box::new(Plan::Act { step, why })))
    }

    /// The rollout after the move has ended, and what to report.
    fn ended(self, result: MoveResult) -> (Rollout, String) {
        let update = GroupUpdate { starting: None, ..self.entry.update.clone() };
        let finished = Some(self.input.now);
        let mut entry = GroupEntry { finished, update, refusal: None, ..self.entry.clone() };
        match result {
            MoveResult::Dropped(why) => {
                (self.rollout.without_group(self.name), format!("{} is not moved: {why}", self.name))
            }
            MoveResult::Failed(error) => {
                let message = format!("{} could not be moved to {}: {error}", self.name, entry.image);
                entry.failure = Some(error);
                (self.rollout.with_group(self.name, entry), message)
            }
            MoveResult::Moved => {
                let message = format!("{} runs {}", self.name, entry.image);
                entry.moved_at.push(self.input.now);
                (self.rollout.with_group(self.name, entry), message)
            }
        }
    }
}
