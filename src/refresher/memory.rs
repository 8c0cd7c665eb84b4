//! What the refresher remembers between reconciles: the rollout in progress or the last one, and the last target. Read
//! from status before the plan; written to status before the effect that it describes, so that a reconcile can continue
//! after a crash at any point. Typed here, lenient strings in status. Pure.

mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::check_failures::CheckFailures;
use super::held::FailedImages;
use super::node_checks::NodeChecks;
use super::refusal::Refusal;
use super::target::Target;
use crate::api::ids::digest;
use crate::api::time::{between, recent};
use crate::api::words::NodeGroupKind;
use crate::api::{ClientToken, ImageId, Key};
use crate::aws::TemplateVersion;
pub use stored::write_rollout;

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
    /// Groups and images whose last update in the history failed.
    pub failed_pairs: BTreeSet<(String, ImageId)>,
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
    /// What was in force before the first of several moves in the rollout: a rollback returns there. Absent for the first
    /// move.
    pub origin: Option<Origin>,
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

/// What was in force on a group before its first move in a rollout. The launch template is that of the later moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub version: String,
    pub image: Option<ImageId>,
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

    /// What was in force before the rollout.
    pub fn origin(&self) -> Origin {
        let first = || Origin { version: self.previous.version.clone(), image: self.previous_image.clone() };
        self.origin.clone().unwrap_or_else(first)
    }

    /// The group was moved so recently that EKS may not show it yet.
    pub fn is_settling(&self, now: Timestamp) -> bool {
        self.is_moved() && self.finished.is_some_and(|at| between(at, now) < SETTLING)
    }

    /// Begins the move once more after it failed.
    fn reopen(&mut self) {
        self.attempt += 1;
        (self.update, self.failure, self.finished) = (GroupUpdate::default(), None, None);
        self.nodes = NodeChecks { total: self.nodes.total, ..NodeChecks::default() };
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
            // A group whose update failed may be mixed: it counts as failed until the rollout has ended.
            changed
                .groups
                .retain(|_, entry| entry.is_open() || entry.failure.is_none() || entry.update_failed());
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

    /// A rollback that ended, with the groups that could not be rolled back; `None` if there are none.
    pub fn rolled_back_again(&self) -> Option<Self> {
        let is_left = self.rollback.is_some() && !self.is_open() && self.failures().next().is_some();
        let mut again = Self { finished: None, ..self.clone() };
        again.groups.values_mut().filter(|entry| entry.failure.is_some()).for_each(GroupEntry::reopen);
        is_left.then_some(again)
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
