//! What the refresher must remember between passes: the rollout under way or last ended. Typed here,
//! lenient text on the wire; written to status before the effect it describes. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::refusal::{Refusal, Refused};
use super::target::Target;
use super::time::recent;
use crate::api::ids::digest;
use crate::api::refresher::{self as wire, RolloutRecord};
use crate::api::{AMIRefresherStatus, ClientToken, ImageId, Key, TemplateId};
use crate::aws::TemplateVersion;

/// How long moves and their undoing are remembered, to notice somebody who keeps undoing them.
pub const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);
/// A day, with room for a nightly job that starts later than the night before.
const DAY: Duration = Duration::from_secs(26 * 3600);
/// A move that is undone this often in a day is not repeated: another writer is at work.
const MOST_UNDONE: usize = 2;
/// Nor one that is undone this often in a week.
const MOST_UNDONE_IN_A_WEEK: usize = 3;

/// What a plan reads back from status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub rollout: Option<Rollout>,
    /// The last target, kept when the builder that names it is missing.
    pub target: Option<Target>,
    /// Were groups waiting for their turn? This only chooses what is read first.
    pub pending: bool,
}

/// A rollout pins its target until it is done, failed or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub id: String,
    pub target: Target,
    /// `Spec::fingerprint` when an update was last about to start.
    pub config: String,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
    /// Groups whose move was begun; one that waits for its turn is not here yet.
    pub groups: BTreeMap<String, Entry>,
}

/// One group of a rollout, from just before its first effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The image it is moved to.
    pub image: ImageId,
    /// Template and version in force before.
    pub before: TemplateVersion,
    pub before_image: Option<ImageId>,
    pub attempt: u32,
    /// Launch template version made for it, as far as known.
    pub made: Option<i64>,
    /// EKS's update, as far as known.
    pub update: Option<String>,
    pub failure: Option<String>,
    /// The version that an update is about to start with: written before the call, so that a lost answer
    /// can be told from a call that was never made.
    pub starting: Option<Starting>,
    /// The last call, where AWS refused it and it is tried again.
    pub refusal: Option<Refusal>,
    /// When its update was found to run longer than expected.
    pub overdue: Option<Timestamp>,
    /// When this image was moved to this group.
    pub moves: Vec<Timestamp>,
    /// When such a move was found undone.
    pub undone: Vec<Timestamp>,
    /// What was found then.
    pub undone_by: Option<String>,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
}

/// An update that is about to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starting {
    /// Launch template version.
    pub version: i64,
    pub at: Timestamp,
}

impl Entry {
    /// Is it still being moved?
    pub fn open(&self) -> bool {
        self.finished.is_none()
    }

    /// Is it open, with an update that EKS accepted?
    pub fn updating(&self) -> bool {
        self.open() && self.update.is_some()
    }

    /// Is it open, and waits to be tried again after a refusal?
    pub fn held(&self) -> bool {
        self.open() && self.update.is_none() && self.failure.is_none() && self.refusal.is_some()
    }

    /// Did its update start and fail? A refusal replaces no node, and says nothing of other groups.
    pub fn tried_and_failed(&self) -> bool {
        self.failure.is_some() && self.update.is_some()
    }

    /// Did it end on its image?
    pub fn moved(&self) -> bool {
        !self.open() && self.failure.is_none() && !self.moves.is_empty()
    }

    /// Was the last move not found undone yet?
    pub fn undoing_is_news(&self) -> bool {
        self.undone.last() < self.moves.last()
    }

    /// Was it moved and undone as often as may be?
    pub fn contested(&self, now: Timestamp) -> bool {
        recent(&self.undone, now, DAY).len() >= MOST_UNDONE
            || recent(&self.undone, now, REMEMBERED).len() >= MOST_UNDONE_IN_A_WEEK
    }
}

impl Rollout {
    /// The start of a rollout. Finished moves of the same image to the same group are carried over.
    pub fn begin(key: &Key, target: Target, config: String, last: Option<&Self>, now: Timestamp) -> Self {
        let before = last.map_or("", |last| last.id.as_str());
        let id = digest(&["rollout", &key.to_string(), &target.to_string(), before, &now.to_string()]);
        let groups = last.map(|last| last.moved(&target, now)).unwrap_or_default();
        Self { id: id[..16].to_owned(), target, config, started: now, finished: None, groups }
    }

    pub fn open(&self) -> bool {
        self.finished.is_none()
    }

    /// Groups being moved, by name.
    pub fn moving(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.groups.iter().filter(|(_, entry)| entry.open()).map(|(name, entry)| (name.as_str(), entry))
    }

    /// Groups whose update failed or was refused, by name.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.groups
            .iter()
            .filter(|(_, entry)| entry.failure.is_some())
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// The same rollout where what failed, was refused or undone may be tried again; nothing where there
    /// is no such thing.
    pub fn forgiven(&self) -> Option<Self> {
        let mut changed = self.clone();
        if !self.open() && self.failures().next().is_some() {
            changed.config = String::new();
        }
        if self.open() {
            changed.groups.retain(|_, entry| entry.open() || entry.failure.is_none());
        }
        for entry in changed.groups.values_mut() {
            entry.undone.clear();
            entry.refusal = None;
        }
        (changed != *self).then_some(changed)
    }

    /// The same rollout with one entry changed or added.
    pub fn with(&self, group: &str, entry: Entry) -> Self {
        let mut changed = self.clone();
        changed.groups.insert(group.to_owned(), entry);
        changed
    }

    /// The same rollout without one group.
    pub fn without(&self, group: &str) -> Self {
        let mut changed = self.clone();
        changed.groups.remove(group);
        changed
    }

    /// A token for one effect: the same effect always gets the same one.
    pub fn token(&self, group: &str, parts: &[&str]) -> ClientToken {
        ClientToken::of(&[&["refresher", self.id.as_str(), group], parts].concat())
    }

    /// How it reads in the history once it ended.
    pub fn record(&self, result: &str, further: Option<String>) -> RolloutRecord {
        let failed = self
            .failures()
            .filter_map(|(name, entry)| entry.failure.as_ref().map(|failure| format!("{name}: {failure}")));
        let failures: Vec<String> = failed.chain(further).collect();
        RolloutRecord {
            id: self.id.clone(),
            target: self.target.to_string(),
            result: result.to_owned(),
            started_at: Some(self.started),
            finished_at: self.finished,
            failures: (!failures.is_empty()).then_some(failures),
        }
    }

    fn moved(&self, target: &Target, now: Timestamp) -> BTreeMap<String, Entry> {
        let recently = |entry: &Entry| {
            target.has(Some(&entry.image))
                && entry.moved()
                && !recent(&entry.moves, now, REMEMBERED).is_empty()
        };
        let kept = self.groups.iter().filter(|(_, entry)| !entry.open() && recently(entry));
        kept.map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }
}

impl Memory {
    /// What a status remembers; what cannot be read counts as lost.
    pub fn read(status: Option<&AMIRefresherStatus>) -> Self {
        let Some(status) = status else { return Self::default() };
        Self {
            rollout: status.rollout.as_ref().and_then(read_rollout),
            target: status.target_ami.as_deref().and_then(Target::parse),
            pending: status
                .node_groups
                .iter()
                .flatten()
                .any(|row| matches!(row.state.as_deref(), Some("Pending" | "Drifted" | "Unknown"))),
        }
    }
}

fn read_rollout(wire: &wire::Rollout) -> Option<Rollout> {
    let groups = wire.groups.iter().flatten();
    Some(Rollout {
        id: wire.id.clone(),
        target: Target::parse(&wire.target)?,
        config: wire.config.clone().unwrap_or_default(),
        started: wire.started_at?,
        finished: wire.finished_at,
        groups: groups.filter_map(|group| Some((group.name.clone(), read_entry(group)?))).collect(),
    })
}

fn read_entry(wire: &wire::RolloutGroup) -> Option<Entry> {
    Some(Entry {
        image: ImageId::parse(wire.target_ami.clone()?).ok()?,
        before: TemplateVersion {
            template: TemplateId::parse(wire.launch_template_id.clone()?).ok()?,
            version: wire.previous_version.clone()?,
        },
        before_image: wire.previous_ami.clone().and_then(|id| ImageId::parse(id).ok()),
        attempt: wire.attempts.and_then(|attempts| u32::try_from(attempts).ok())?,
        made: wire.version.as_deref().and_then(|version| version.parse().ok()),
        update: wire.update_id.clone(),
        failure: wire.last_failure.clone(),
        starting: read_starting(wire),
        refusal: wire.refusal.as_ref().and_then(read_refusal),
        overdue: wire.overdue_at,
        moves: wire.moved_at.clone().unwrap_or_default(),
        undone: wire.undone_at.clone().unwrap_or_default(),
        undone_by: wire.undone_by.clone(),
        started: wire.started_at?,
        finished: wire.finished_at,
    })
}

fn read_starting(wire: &wire::RolloutGroup) -> Option<Starting> {
    Some(Starting { version: wire.starting_version.as_deref()?.parse().ok()?, at: wire.starting_at? })
}

fn read_refusal(wire: &wire::Refusal) -> Option<Refusal> {
    Some(Refusal {
        kind: Refused::read(&wire.reason),
        message: wire.message.clone(),
        since: wire.since?,
        last: wire.last?,
    })
}

/// A rollout as status has it.
pub fn write_rollout(rollout: &Rollout) -> wire::Rollout {
    let groups: Vec<_> = rollout.groups.iter().map(|(name, entry)| write_entry(name, entry)).collect();
    wire::Rollout {
        id: rollout.id.clone(),
        target: rollout.target.to_string(),
        config: Some(rollout.config.clone()),
        started_at: Some(rollout.started),
        finished_at: rollout.finished,
        groups: (!groups.is_empty()).then_some(groups),
    }
}

fn write_entry(name: &str, entry: &Entry) -> wire::RolloutGroup {
    wire::RolloutGroup {
        name: name.to_owned(),
        target_ami: Some(entry.image.to_string()),
        launch_template_id: Some(entry.before.template.to_string()),
        version: entry.made.map(|version| version.to_string()),
        previous_version: Some(entry.before.version.clone()),
        previous_ami: entry.before_image.as_ref().map(ImageId::to_string),
        attempts: Some(i32::try_from(entry.attempt).unwrap_or(i32::MAX)),
        update_id: entry.update.clone(),
        last_failure: entry.failure.clone(),
        starting_version: entry.starting.map(|starting| starting.version.to_string()),
        starting_at: entry.starting.map(|starting| starting.at),
        refusal: entry.refusal.as_ref().map(|refusal| wire::Refusal {
            reason: refusal.kind.word().to_owned(),
            message: refusal.message.clone(),
            since: Some(refusal.since),
            last: Some(refusal.last),
        }),
        overdue_at: entry.overdue,
        undone_at: (!entry.undone.is_empty()).then(|| entry.undone.clone()),
        undone_by: entry.undone_by.clone(),
        moved_at: (!entry.moves.is_empty()).then(|| entry.moves.clone()),
        started_at: Some(entry.started),
        finished_at: entry.finished,
    }
}
