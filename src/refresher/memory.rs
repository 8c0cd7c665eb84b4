//! What the refresher remembers between reconciles: the rollout in progress or the last one, and the last target. Read
//! from status before the plan; written to status before the effect that it describes, so that a reconcile can continue
//! after a crash at any point. Typed here, lenient strings in status. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::check_failures::{self, CheckFailures};
use super::held::FailedImages;
use super::node_checks::NodeChecks;
use super::refusal::{Refusal, RefusalKind};
use super::target::Target;
use crate::api::ids::digest;
use crate::api::refresher as crd;
use crate::api::time::{between, recent};
use crate::api::words::{GroupState, NodeGroupKind};
use crate::api::{AMIRefresherStatus, ClientToken, ImageId, Key, TemplateId};
use crate::aws::TemplateVersion;

/// How long moves, and moves that another writer undid, are remembered.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// After an update has succeeded, EKS may return the old state of the group for this long.
pub const SETTLING: Duration = Duration::from_secs(120);
/// A day, plus two hours for a nightly job that starts later than the night before.
const DAY: Duration = Duration::from_secs(26 * 3600);
/// A move that was undone this many times within a day is not repeated: another writer is at work.
const MAX_UNDONE_PER_DAY: usize = 2;
/// The same within a week, for a writer that runs less often.
const MAX_UNDONE_PER_WEEK: usize = 3;

/// What a plan reads from status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub rollout: Option<Rollout>,
    /// The last target. It stays in force while the builder that names it is missing.
    pub target: Option<Target>,
    /// Groups were waiting to be moved. This only affects what is read first.
    pub pending: bool,
}

/// A rollout. It pins its target until it is done, failed or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub id: String,
    pub target: Target,
    /// `Spec::fingerprint` when an update was last about to start.
    pub config: String,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    /// The groups whose move has begun, by name. A group that waits for its turn is not here yet.
    pub groups: BTreeMap<String, GroupEntry>,
    /// The checks that failed while a wave soaked.
    pub check_failures: CheckFailures,
    /// Why it has failed, if it is not the failure of a group.
    pub failure: Option<String>,
    /// This is a rollback of a failed rollout.
    pub rollback: Option<Rollback>,
    /// The images whose rollout failed and was rolled back. They pass from each rollout to the next.
    pub failed: FailedImages,
}

/// The failed rollout that a rollback undoes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// ID of the failed rollout.
    pub of: String,
    /// The target that failed.
    pub target: Target,
    pub reason: String,
}

/// One group of a rollout, recorded before the first effect on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    pub kind: NodeGroupKind,
    /// The image that the group is moved to.
    pub image: ImageId,
    /// The wave in which it is moved, if the spec has waves.
    pub wave: Option<String>,
    /// The launch template version that was in force before the move.
    pub previous: TemplateVersion,
    pub previous_image: Option<ImageId>,
    pub attempt: u32,
    /// Number of the launch template version that was created for the move, if known.
    pub new_version: Option<i64>,
    pub update: GroupUpdate,
    pub failure: Option<String>,
    /// The last call, if AWS refused it and it is retried.
    pub refusal: Option<Refusal>,
    /// What its nodes showed.
    pub nodes: NodeChecks,
    /// When this group reached this image.
    pub moved_at: Vec<Timestamp>,
    /// When the move was found undone by another writer.
    pub undone_at: Vec<Timestamp>,
    /// What was found then, with the likely writer.
    pub undone_by: Option<String>,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
}

/// The progress of the update that moves a node group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupUpdate {
    /// ID of the update, once AWS has accepted it.
    pub id: Option<String>,
    /// The start that is about to be requested. Recorded before the call, so that a lost response can be told from a
    /// call that was never made.
    pub starting: Option<Starting>,
    /// When the update was found to take longer than expected.
    pub overdue: Option<Timestamp>,
}

/// An update that is about to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starting {
    /// Number of the launch template version.
    pub version: i64,
    pub at: Timestamp,
}

impl GroupEntry {
    /// The move has not ended.
    pub fn is_open(&self) -> bool {
        self.finished.is_none()
    }

    /// The move has not ended, and EKS has accepted its update.
    pub fn is_updating(&self) -> bool {
        self.is_open() && self.update.id.is_some()
    }

    /// EKS has accepted an update of this move, as far as is known.
    pub fn is_accepted(&self) -> bool {
        self.update.id.is_some() || self.is_moved()
    }

    /// The start of its update is about to be requested, or was.
    pub fn has_begun(&self) -> bool {
        self.is_accepted() || self.update.starting.is_some()
    }

    /// The move has not ended, and waits to be retried after a refusal.
    pub fn is_blocked(&self) -> bool {
        self.is_open() && self.update.id.is_none() && self.failure.is_none() && self.refusal.is_some()
    }

    /// The update started and failed, or its nodes did not become ready. A refused start does not count: it replaced no
    /// node, and says nothing about other groups.
    pub fn update_failed(&self) -> bool {
        self.failure.is_some() && (self.update.id.is_some() || self.nodes.updated_at.is_some())
    }

    /// The move ended and the group reached the image.
    pub fn is_moved(&self) -> bool {
        !self.is_open() && self.failure.is_none() && !self.moved_at.is_empty()
    }

    /// The group was moved so recently that EKS may not show it yet.
    pub fn is_settling(&self, now: Timestamp) -> bool {
        self.is_moved() && self.finished.is_some_and(|at| between(at, now) < SETTLING)
    }

    /// Begins the move once more after it failed.
    fn reopen(&mut self) {
        self.attempt += 1;
        (self.update, self.failure, self.finished) = (GroupUpdate::default(), None, None);
    }

    /// The last move has not been found undone yet.
    pub fn last_move_holds(&self) -> bool {
        self.undone_at.last() < self.moved_at.last()
    }

    /// The move was undone so often that it is not repeated.
    pub fn is_contested(&self, now: Timestamp) -> bool {
        recent(&self.undone_at, now, DAY).len() >= MAX_UNDONE_PER_DAY
            || recent(&self.undone_at, now, REMEMBERED).len() >= MAX_UNDONE_PER_WEEK
    }
}

impl Rollout {
    /// A new rollout. Recent moves of the last rollout that reached an image of this target are carried over, so that a
    /// writer that undoes them is still noticed.
    pub fn begin(key: &Key, target: Target, config: String, last: Option<&Self>, now: Timestamp) -> Self {
        let last_id = last.map_or("", |last| last.id.as_str());
        let id = digest(&["rollout", &key.to_string(), &target.to_string(), last_id, &now.to_string()]);
        let groups = last.map(|last| last.recent_moves(&target, now)).unwrap_or_default();
        Self {
            id: id[..16].to_owned(),
            target,
            config,
            started: now,
            finished: None,
            groups,
            check_failures: CheckFailures::new(),
            failure: None,
            rollback: None,
            failed: last.map(|last| last.failed.clone()).unwrap_or_default(),
        }
    }

    pub fn is_open(&self) -> bool {
        self.finished.is_none()
    }

    /// Whether the rollout goes on if `ami` names this image. In a rollback, that may still be the image that failed.
    pub fn expects(&self, image: &ImageId) -> bool {
        let failed = self.rollback.as_ref().map(|rollback| &rollback.target);
        self.target.contains(Some(image)) || failed.is_some_and(|failed| failed.contains(Some(image)))
    }

    /// It has failed and starts no further group: the update of a group failed, its nodes did not become ready, or a
    /// check failed too often.
    pub fn has_failed(&self) -> bool {
        // The groups of a rollback do not depend on each other.
        self.rollback.is_none()
            && (self.failure.is_some() || self.groups.values().any(GroupEntry::update_failed))
    }

    /// The groups whose move has not ended, by name.
    pub fn moving(&self) -> impl Iterator<Item = (&str, &GroupEntry)> {
        self.groups.iter().filter(|(_, entry)| entry.is_open()).map(|(name, entry)| (name.as_str(), entry))
    }

    /// The groups whose update failed or was finally refused, by name.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &GroupEntry)> {
        self.groups
            .iter()
            .filter(|(_, entry)| entry.failure.is_some())
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// The rollout without what prevents a retry of groups that failed, were refused, or were moved back by another
    /// writer; `None` if there is nothing to retry.
    pub fn retried(&self) -> Option<Self> {
        let mut changed = self.clone();
        if !self.is_open() && (self.failures().next().is_some() || self.failure.is_some()) {
            // The failures of an ended rollout stay on record. They count only while the configuration is the same.
            changed.config = String::new();
        }
        if self.is_open() && self.rollback.is_none() {
            changed.groups.retain(|_, entry| entry.is_open() || entry.failure.is_none());
            changed.failure = None;
            changed.check_failures.clear();
        } else if self.is_open() {
            let failed = changed.groups.values_mut().filter(|entry| entry.failure.is_some());
            failed.for_each(GroupEntry::reopen);
        }
        for entry in changed.groups.values_mut() {
            entry.undone_at.clear();
            entry.refusal = None;
        }
        (changed != *self).then_some(changed)
    }

    /// The rollout with one entry changed or added.
    pub fn with_group(&self, group: &str, entry: GroupEntry) -> Self {
        let mut changed = self.clone();
        changed.groups.insert(group.to_owned(), entry);
        changed
    }

    pub fn without_group(&self, group: &str) -> Self {
        let mut changed = self.clone();
        changed.groups.remove(group);
        changed
    }

    /// The client token of one effect: the same effect always has the same token.
    pub fn client_token(&self, group: &str, parts: &[&str]) -> ClientToken {
        ClientToken::of(&[&["refresher", self.id.as_str(), group], parts].concat())
    }

    fn recent_moves(&self, target: &Target, now: Timestamp) -> BTreeMap<String, GroupEntry> {
        let is_recent = |entry: &GroupEntry| {
            target.contains(Some(&entry.image))
                && entry.is_moved()
                && !recent(&entry.moved_at, now, REMEMBERED).is_empty()
        };
        let recent = self.groups.iter().filter(|(_, entry)| is_recent(entry));
        recent.map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }
}

impl Memory {
    /// Reads the memory from status. Entries that cannot be parsed count as lost.
    pub fn read(status: Option<&AMIRefresherStatus>) -> Self {
        let Some(status) = status else { return Self::default() };
        Self {
            rollout: status.rollout.as_ref().and_then(|rollout| {
                Some(Rollout { failed: FailedImages::read(status.held.as_ref()), ..read_rollout(rollout)? })
            }),
            target: status.target_ami.as_deref().and_then(Target::parse),
            pending: status
                .node_groups
                .iter()
                .flatten()
                .filter_map(|row| GroupState::parse(row.state.as_deref()?))
                .any(|state| {
                    matches!(state, GroupState::Pending | GroupState::Drifted | GroupState::Unknown)
                }),
        }
    }
}

fn read_rollout(rollout: &crd::Rollout) -> Option<Rollout> {
    let groups = rollout.groups.iter().flatten();
    Some(Rollout {
        id: rollout.id.clone(),
        target: Target::parse(&rollout.target)?,
        config: rollout.config.clone().unwrap_or_default(),
        started: rollout.started_at?,
        finished: rollout.finished_at,
        groups: groups.filter_map(|group| Some((group.name.clone(), read_entry(group)?))).collect(),
        rollback: rollout.rollback.as_ref().and_then(read_rollback),
        failed: FailedImages::default(),
        check_failures: check_failures::read(rollout.checks.as_ref()),
        failure: rollout.failure.clone(),
    })
}

fn read_rollback(rollback: &crd::RolloutRollback) -> Option<Rollback> {
    let target = Target::parse(&rollback.target)?;
    Some(Rollback { of: rollback.of.clone(), target, reason: rollback.reason.clone().unwrap_or_default() })
}

fn read_entry(group: &crd::RolloutGroup) -> Option<GroupEntry> {
    let kind = group.kind.as_deref().and_then(NodeGroupKind::parse);
    Some(GroupEntry {
        kind: kind.unwrap_or(NodeGroupKind::Managed),
        image: ImageId::parse(group.target_ami.clone()?).ok()?,
        wave: group.wave.clone(),
        previous: TemplateVersion {
            template: TemplateId::parse(group.launch_template_id.clone()?).ok()?,
            version: group.previous_version.clone()?,
        },
        previous_image: group.previous_ami.clone().and_then(|id| ImageId::parse(id).ok()),
        attempt: group.attempts.and_then(|attempts| u32::try_from(attempts).ok())?,
        new_version: group.version.as_deref().and_then(|version| version.parse().ok()),
        update: GroupUpdate {
            id: group.update_id.clone(),
            starting: read_starting(group),
            overdue: group.overdue_at,
        },
        failure: group.last_failure.clone(),
        refusal: group.refusal.as_ref().and_then(read_refusal),
        nodes: NodeChecks::read(group.nodes.as_ref()),
        moved_at: group.moved_at.clone().unwrap_or_default(),
        undone_at: group.undone_at.clone().unwrap_or_default(),
        undone_by: group.undone_by.clone(),
        started: group.started_at?,
        finished: group.finished_at,
    })
}

fn read_starting(group: &crd::RolloutGroup) -> Option<Starting> {
    Some(Starting { version: group.starting_version.as_deref()?.parse().ok()?, at: group.starting_at? })
}

fn read_refusal(refusal: &crd::Refusal) -> Option<Refusal> {
    Some(Refusal {
        kind: RefusalKind::parse(&refusal.reason),
        message: refusal.message.clone(),
        since: refusal.since?,
        last: refusal.last?,
    })
}

/// The rollout as `status.rollout` has it.
pub fn write_rollout(rollout: &Rollout) -> crd::Rollout {
    let groups: Vec<_> = rollout.groups.iter().map(|(name, entry)| write_entry(name, entry)).collect();
    crd::Rollout {
        id: rollout.id.clone(),
        target: rollout.target.to_string(),
        config: Some(rollout.config.clone()),
        started_at: Some(rollout.started),
        finished_at: rollout.finished,
        groups: (!groups.is_empty()).then_some(groups),
        waves: None,
        rollback: rollout.rollback.as_ref().map(|rollback| crd::RolloutRollback {
            of: rollback.of.clone(),
            target: rollback.target.to_string(),
            reason: Some(rollback.reason.clone()),
        }),
        checks: check_failures::write(&rollout.check_failures),
        failure: rollout.failure.clone(),
    }
}

fn write_entry(name: &str, entry: &GroupEntry) -> crd::RolloutGroup {
    let starting = entry.update.starting;
    // A managed group is the rule, also in the status of earlier versions.
    let kind = Some(entry.kind).filter(|kind| *kind != NodeGroupKind::Managed);
    crd::RolloutGroup {
        name: name.to_owned(),
        kind: kind.map(|kind| kind.to_string()),
        wave: entry.wave.clone(),
        target_ami: Some(entry.image.to_string()),
        launch_template_id: Some(entry.previous.template.to_string()),
        version: entry.new_version.map(|version| version.to_string()),
        previous_version: Some(entry.previous.version.clone()),
        previous_ami: entry.previous_image.as_ref().map(ImageId::to_string),
        attempts: Some(i32::try_from(entry.attempt).unwrap_or(i32::MAX)),
        update_id: entry.update.id.clone(),
        last_failure: entry.failure.clone(),
        starting_version: starting.map(|starting| starting.version.to_string()),
        starting_at: starting.map(|starting| starting.at),
        refusal: entry.refusal.as_ref().map(|refusal| crd::Refusal {
            reason: refusal.kind.word().to_owned(),
            message: refusal.message.clone(),
            since: Some(refusal.since),
            last: Some(refusal.last),
        }),
        overdue_at: entry.update.overdue,
        nodes: entry.nodes.write(),
        undone_at: (!entry.undone_at.is_empty()).then(|| entry.undone_at.clone()),
        undone_by: entry.undone_by.clone(),
        moved_at: (!entry.moved_at.is_empty()).then(|| entry.moved_at.clone()),
        started_at: Some(entry.started),
        finished_at: entry.finished,
    }
}
