//! Parses `spec.rollout` into the policy that the plan applies: waves, limits, windows, freezes, and what is approved.
//! Part of `spec`. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use globset::GlobSet;

use super::super::memory::REMEMBERED;
use super::super::node_group::{Lifecycle, NodeGroup, name_in_aws};
use super::super::schedule::{Freeze, Window};
use super::super::target::Target;
use super::globs;
use super::health::{self, HealthPolicy};
use crate::api::approvals::{self, Approval, is_wave_name};
use crate::api::checks::{Problems, written};
use crate::api::refresher::{self as crd, ROLLBACK, RolloutPolicy, STOP};
use crate::api::{AMIRefresher, ImageId};
use crate::aws::Tags;

/// The last wave: the groups that no wave selects.
const REMAINING: &str = "remaining";
/// Maximum soak: moves are remembered for this long.
const MAX_SOAK: Duration = REMEMBERED;
/// Maximum numbers of waves, windows and freezes: more than a person can follow, and each plan reads all of them.
const MAX_WAVES: usize = 50;
const MAX_WINDOWS: usize = 20;
const MAX_FREEZES: usize = 100;
/// The only value of `approval`.
const REQUIRED: &str = "Required";

/// In which order, how many at once, and when node groups are moved.
#[derive(Clone, Debug)]
pub struct Policy {
    /// In order. The last one takes the groups that no other wave selects, so every group has a wave.
    pub waves: Vec<Wave>,
    pub windows: Vec<Window>,
    pub freezes: Vec<Freeze>,
    /// A rollout that fails is rolled back.
    pub rolls_back: bool,
    /// What must hold before and after the update of a group.
    pub health: HealthPolicy,
    approvals: Vec<Approval>,
}

/// Node groups that are moved together.
#[derive(Clone, Debug)]
pub struct Wave {
    pub name: String,
    selector: Selector,
    /// Time after its last group was moved, before the next wave starts.
    pub soak: Duration,
    pub needs_approval: bool,
    /// At most this many groups are updated at once.
    pub max_parallel: usize,
}

/// A group must match all of these; what is empty matches every group.
#[derive(Clone, Debug, Default)]
struct Selector {
    names: Option<GlobSet>,
    labels: Tags,
    tags: Tags,
}

impl Wave {
    /// The labels and the tags that a group must have.
    pub fn selected(&self) -> (&Tags, &Tags) {
        (&self.selector.labels, &self.selector.tags)
    }
}

impl Policy {
    /// Whether the spec has waves. If not, the only wave has all groups and is not shown.
    pub fn has_waves(&self) -> bool {
        self.waves.len() > 1
    }

    /// The place of the wave that a group belongs to: the first one that selects it.
    pub fn place_of(&self, group: &NodeGroup) -> usize {
        let selects = |wave: &Wave| wave.selector.matches(group);
        self.waves.iter().position(selects).unwrap_or(self.waves.len() - 1)
    }

    pub fn wave_of(&self, group: &NodeGroup) -> &Wave {
        &self.waves[self.place_of(group)]
    }

    /// The name of the wave of a group, if the spec has waves.
    pub fn wave_name(&self, group: &NodeGroup) -> Option<&str> {
        self.has_waves().then(|| self.wave_of(group).name.as_str())
    }

    /// The most groups that any wave allows to be updated at once.
    pub fn max_parallel(&self) -> usize {
        self.waves.iter().map(|wave| wave.max_parallel).max().unwrap_or(1)
    }

    /// Whether the wave may start with this target. Each image of the target must be approved, because a person who
    /// approved one of them did not see the others.
    pub fn is_approved(&self, wave: &Wave, target: &Target) -> bool {
        let approved = |image: &ImageId| {
            self.approvals.iter().any(|approval| approval.wave == wave.name && approval.image == *image)
        };
        !wave.needs_approval || target.images().iter().all(approved)
    }

    /// The images that are approved for a wave.
    pub fn approved_for(&self, wave: &Wave) -> BTreeSet<&str> {
        let of_wave = self.approvals.iter().filter(|approval| approval.wave == wave.name);
        of_wave.map(|approval| approval.image.as_str()).collect()
    }
}

impl Selector {
    /// The labels and tags of a group that could not be read are unknown, so it counts for the first wave that may have
    /// it: no later wave starts while it cannot be read.
    fn matches(&self, group: &NodeGroup) -> bool {
        let is_unknown = matches!(group.lifecycle, Lifecycle::Unreadable(..));
        let has = |wanted: &Tags, actual: &Tags| {
            is_unknown || wanted.iter().all(|(key, value)| actual.get(key) == Some(value))
        };
        self.names.as_ref().is_none_or(|names| names.is_match(name_in_aws(&group.name)))
            && has(&self.labels, &group.labels)
            && has(&self.tags, &group.tags)
    }
}

/// Parses the policy. `one_by_one` is the default if no limit is set.
pub(super) fn policy(object: &AMIRefresher, one_by_one: bool, problems: &mut Problems) -> Policy {
    let written = object.spec.rollout.clone().unwrap_or_default();
    let default = if one_by_one { 1 } else { usize::MAX };
    let max_parallel = limit("spec.rollout.maxParallel", written.max_parallel, problems).unwrap_or(default);
    let (windows, freezes) = (windows(&written, problems), freezes(&written, problems));
    let mut waves = waves(&written, max_parallel, problems);
    let has_soak = waves.iter().any(|wave| !wave.soak.is_zero());
    let name = REMAINING.to_owned();
    let selector = Selector::default();
    waves.push(Wave { name, selector, soak: Duration::ZERO, needs_approval: false, max_parallel });
    let rolls_back = rolls_back(&written, problems);
    let health = health::health(&written, has_soak, problems);
    Policy { waves, windows, freezes, rolls_back, health, approvals: approvals::of(&object.metadata) }
}

fn rolls_back(policy: &RolloutPolicy, problems: &mut Problems) -> bool {
    let Some(word) = written(policy.on_failure.as_ref()) else { return false };
    problems.word("spec.rollout.onFailure", word, &[STOP, ROLLBACK]);
    word == ROLLBACK
}

/// Returns the entries of a list, which must not have more than `most`.
fn limited<'a, T>(
    name: &str,
    list: Option<&'a Vec<T>>,
    most: usize,
    problems: &mut Problems,
) -> impl Iterator<Item = (usize, &'a T)> + use<'a, T> {
    let list = list.map(Vec::as_slice).unwrap_or_default();
    if list.len() > most {
        let message = format!("has {} entries, but at most {most} are allowed: remove some", list.len());
        problems.add(format!("spec.rollout.{name}"), message);
    }
    list.iter().take(most).enumerate()
}

fn soak(path: &str, soak: Option<&String>, problems: &mut Problems) -> Duration {
    let path = format!("{path}.soak");
    let soak_time = problems.duration(&path, soak).unwrap_or_default();
    if soak_time > MAX_SOAK {
        problems
            .add(path, "must be at most 7d: for a longer time, use `approval: Required` in the next wave");
    }
    soak_time.min(MAX_SOAK)
}

fn limit(path: &str, value: Option<i32>, problems: &mut Problems) -> Option<usize> {
    let value = value?;
    let read = usize::try_from(value).ok().filter(|value| *value > 0);
    if read.is_none() {
        problems.add(path, format!("must be at least 1, but is {value}"));
    }
    read
}

fn waves(policy: &RolloutPolicy, max_parallel: usize, problems: &mut Problems) -> Vec<Wave> {
    let mut names = BTreeSet::new();
    let mut waves = Vec::new();
    for (index, wave) in limited("waves", policy.waves.as_ref(), MAX_WAVES, problems) {
        let path = format!("spec.rollout.waves[{index}]");
        let name = wave_name(&path, wave, problems);
        if !name.is_empty() && !names.insert(name.clone()) {
            problems.add(
                format!("{path}.name"),
                format!("another wave is named {name:?} too: rename one of them"),
            );
        }
        if let Some(approval) = written(wave.approval.as_ref()) {
            problems.word(format!("{path}.approval"), approval, &[REQUIRED]);
        }
        waves.push(Wave {
            name,
            selector: selector(&path, wave, problems),
            soak: soak(&path, wave.soak.as_ref(), problems),
            needs_approval: written(wave.approval.as_ref()).is_some(),
            max_parallel: limit(&format!("{path}.maxParallel"), wave.max_parallel, problems)
                .unwrap_or(max_parallel),
        });
    }
    waves
}

fn wave_name(path: &str, wave: &crd::Wave, problems: &mut Problems) -> String {
    let path = format!("{path}.name");
    let name = wave.name.clone().unwrap_or_default();
    if name.is_empty() {
        problems.add(path, "is required: name the wave, for example canary");
    } else if name == REMAINING {
        problems.add(
            path,
            "is the name of the last wave, with the groups that no wave selects: choose another name",
        );
    } else if !is_wave_name(&name) {
        let message = format!("{name:?} is not valid: use at most 63 letters, digits, '-', '_' and '.'");
        problems.add(path, message);
    }
    name
}

fn selector(path: &str, wave: &crd::Wave, problems: &mut Problems) -> Selector {
    let names = wave.node_groups.clone().unwrap_or_default();
    let (labels, tags) = (wave.labels.clone().unwrap_or_default(), wave.tags.clone().unwrap_or_default());
    if names.is_empty() && labels.is_empty() && tags.is_empty() {
        problems.add(
            path,
            "selects no node group: set nodeGroups, labels or tags (nodeGroups: [\"*\"] selects all)",
        );
    }
    let set = globs(&names, &format!("{path}.nodeGroups"), problems);
    Selector { names: set.filter(|_| !names.is_empty()), labels, tags }
}

fn windows(policy: &RolloutPolicy, problems: &mut Problems) -> Vec<Window> {
    let mut windows = Vec::new();
    for (index, window) in limited("windows", policy.windows.as_ref(), MAX_WINDOWS, problems) {
        let path = format!("spec.rollout.windows[{index}]");
        let schedule =
            required(&path, "schedule", window.schedule.as_ref(), "for example 0 9 * * MON-FRI", problems);
        let duration = required(&path, "duration", window.duration.as_ref(), "for example 8h", problems);
        let path_of_duration = format!("{path}.duration");
        let duration = duration.and_then(|_| problems.duration(&path_of_duration, window.duration.as_ref()));
        if duration.is_some_and(|duration| duration < Duration::from_secs(1)) {
            problems.add(path_of_duration, "must be longer than zero, or nothing ever starts");
            continue;
        }
        let (Some(schedule), Some(duration)) = (schedule, duration) else { continue };
        match Window::parse(schedule, duration, window.time_zone.as_deref()) {
            Ok(window) => windows.push(window),
            Err((field, why)) => problems.add(format!("{path}.{field}"), why),
        }
    }
    windows
}

fn freezes(policy: &RolloutPolicy, problems: &mut Problems) -> Vec<Freeze> {
    let mut freezes = Vec::new();
    for (index, freeze) in limited("freezes", policy.freezes.as_ref(), MAX_FREEZES, problems) {
        let path = format!("spec.rollout.freezes[{index}]");
        let from = required(&path, "from", freeze.from.as_ref(), "for example 2026-12-18", problems);
        let to = required(&path, "to", freeze.to.as_ref(), "for example 2027-01-03", problems);
        let (Some(from), Some(to)) = (from, to) else { continue };
        match Freeze::parse(from, to) {
            Ok(freeze) => freezes.push(freeze),
            Err((field, why)) => problems.add(format!("{path}.{field}"), why),
        }
    }
    freezes
}

fn required<'a>(
    path: &str,
    field: &str,
    text: Option<&'a String>,
    example: &str,
    problems: &mut Problems,
) -> Option<&'a str> {
    let text = written(text);
    if text.is_none() {
        problems.add(format!("{path}.{field}"), format!("is required: {example}"));
    }
    text
}
