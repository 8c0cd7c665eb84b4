//! What the refresher must remember between passes: the rollout under way or last ended. Typed here,
//! lenient text on the wire; written to status before the effect it describes. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::target::Target;
use crate::api::ids::digest;
use crate::api::refresher::{self as wire, RolloutRecord};
use crate::api::{AMIRefresherStatus, ClientToken, ImageId, Key, TemplateId};
use crate::aws::TemplateVersion;

/// How long a move is remembered, to notice somebody who keeps undoing it.
pub const MOVES_REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Moving the same image to the same group more often than this in a day would be a fight.
const MOST_MOVES: usize = 2;

/// What a plan reads back from status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub rollout: Option<Rollout>,
    /// The last target, kept when the builder that names it is missing.
    pub target: Option<Target>,
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
    /// When this image was moved to this group.
    pub moves: Vec<Timestamp>,
    pub started: Timestamp,
    pub finished: Option<Timestamp>,
}

impl Entry {
    /// Is it still being moved?
    pub fn open(&self) -> bool {
        self.finished.is_none()
    }

    /// Was it moved as often as may be in a day, and undone each time by somebody else?
    pub fn contested(&self, now: Timestamp) -> bool {
        recent(&self.moves, now).len() >= MOST_MOVES
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
            target.has(Some(&entry.image)) && entry.failure.is_none() && !recent(&entry.moves, now).is_empty()
        };
        let kept = self.groups.iter().filter(|(_, entry)| !entry.open() && recently(entry));
        kept.map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }
}

/// Moves that still count.
pub fn recent(moves: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    moves.iter().copied().filter(|at| elapsed(*at, now) < MOVES_REMEMBERED).collect()
}

/// Time from `since` to `now`; none when the clock was set back.
pub fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
}

impl Memory {
    /// What a status remembers; what cannot be read counts as lost.
    pub fn read(status: Option<&AMIRefresherStatus>) -> Self {
        let Some(status) = status else { return Self::default() };
        Self {
            rollout: status.rollout.as_ref().and_then(read_rollout),
            target: status.target_ami.as_deref().and_then(Target::parse),
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
        moves: wire.moved_at.clone().unwrap_or_default(),
        started: wire.started_at?,
        finished: wire.finished_at,
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
        moved_at: (!entry.moves.is_empty()).then(|| entry.moves.clone()),
        started_at: Some(entry.started),
        finished_at: entry.finished,
    }
}
