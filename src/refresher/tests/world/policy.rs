//! Waves, windows and freezes in the simulated world, and what may never happen with them. What is allowed is computed
//! here by plain arithmetic, independently of the plan.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::World;
use crate::api::ImageId;
use crate::api::annotations::APPROVE;
use crate::api::refresher::{Freeze, RolloutPolicy, Wave, Window};
use crate::api::time::between;

/// The waves of the world and the groups in them; every other group is in the last one.
const WAVES: [(&str, &[&str]); 2] = [("canary", &["group-0"]), ("prod", &["group-1", "group-3"])];
/// A window opens at the start of every second hour.
const PERIOD: i64 = 2 * 3600;
const OPEN: i64 = 3600;

/// A policy, as the world knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimPolicy {
    /// Soak of the first wave in seconds; `None` if there are no waves.
    pub soak: Option<u64>,
    /// The second wave needs an approval.
    pub approval: bool,
    pub window: bool,
    /// A freeze of this many seconds begins now.
    pub freeze: Option<i64>,
    pub max_parallel: Option<i32>,
    /// A rollout that fails is rolled back.
    pub rolls_back: bool,
    /// `preflight` is Block.
    pub blocks: bool,
}

/// A group that an update of ours moved.
#[derive(Clone, Debug)]
pub struct Moved {
    pub group: String,
    pub image: ImageId,
    pub at: Timestamp,
}

impl World {
    pub fn set_policy(&mut self, policy: SimPolicy) {
        let text = |text: &str| Some(text.to_owned());
        let waves = WAVES.iter().enumerate().map(|(place, (name, groups))| Wave {
            name: text(name),
            node_groups: Some(groups.iter().map(|group| (*group).to_owned()).collect()),
            soak: policy.soak.filter(|_| place == 0).map(|soak| format!("{soak}s")),
            approval: text("Required").filter(|_| policy.approval && place == 1),
            ..Wave::default()
        });
        let (schedule, duration) = (text("0 */2 * * *"), Some(format!("{OPEN}s")));
        let window = Window { schedule, duration, ..Window::default() };
        let ends = |seconds: i64| self.now + SignedDuration::from_secs(seconds);
        let freeze = policy.freeze.map(|seconds| (self.now, ends(seconds)));
        let written = |(from, to): (Timestamp, Timestamp)| Freeze {
            from: Some(from.to_string()),
            to: Some(to.to_string()),
        };
        self.object.spec.rollout = Some(RolloutPolicy {
            waves: policy.soak.map(|_| waves.collect()),
            max_parallel: policy.max_parallel,
            windows: policy.window.then(|| vec![window]),
            freezes: freeze.map(|freeze| vec![written(freeze)]),
            on_failure: text("Rollback").filter(|_| policy.rolls_back),
            preflight: text("Block").filter(|_| policy.blocks),
            ..RolloutPolicy::default()
        });
        self.freeze = freeze;
        self.policy = policy;
    }

    /// Approves the target for all waves, as of now; `None` withdraws all approvals.
    pub fn approve(&mut self, image: Option<&ImageId>) {
        let value = image.map(|image| WAVES.map(|(name, _)| format!("{name}={image}")).join(","));
        let annotations = self.object.metadata.annotations.get_or_insert_default();
        match value {
            Some(value) => drop(annotations.insert(APPROVE.to_owned(), value)),
            None => drop(annotations.remove(APPROVE)),
        }
    }

    /// Before an update of ours that is no rollback: `shown` is the image in force, `to` that of the update. A later
    /// update in the same rollout, or to an image that is in force already, does not change where the rollout began.
    pub fn remember_origin(&mut self, name: &str, shown: String, to: &str, rollout: &str) {
        let is_of_rollout = self.origins.get(name).is_some_and(|(of, _)| of == rollout);
        if !is_of_rollout && shown != to {
            self.origins.insert(name.to_owned(), (rollout.to_owned(), shown));
        }
    }

    /// A rollback returns a group to the image from which the failed rollout moved it.
    pub fn expect_origin(&self, name: &str, image: &str) {
        assert_eq!(
            self.origins.get(name).map(|(_, image)| image.as_str()),
            Some(image),
            "{name} is rolled back to another image"
        );
    }

    fn is_approved(&self, wave: &str, image: &ImageId) -> bool {
        let annotations = self.object.metadata.annotations.iter().flatten();
        let mut values = annotations.filter(|(name, _)| *name == APPROVE);
        values.any(|(_, value)| value.split(',').any(|part| part == format!("{wave}={image}")))
    }

    /// The number of groups that may be updated at once.
    pub fn limit(&self) -> usize {
        let all = self.object.spec.refresh_config.as_ref().and_then(|config| config.wait_for_completion)
            == Some(false);
        let default = if all { usize::MAX } else { 1 };
        self.policy.max_parallel.map_or(default, |limit| usize::try_from(limit).expect("positive"))
    }

    /// Nothing may begin outside of the window or in the freeze.
    pub fn expect_in_window(&self, what: &str) {
        let second = self.now.as_second().rem_euclid(PERIOD);
        assert!(!self.policy.window || second < OPEN, "{what} starts outside of the window, at {}", self.now);
        let is_frozen = self.freeze.is_some_and(|(from, to)| from <= self.now && self.now < to);
        assert!(!is_frozen, "{what} starts in the freeze, at {}", self.now);
    }

    /// No group starts before all groups of the earlier waves are on the image and have soaked. `since` is the start of
    /// the rollout.
    pub fn expect_turn_of(&mut self, name: &str, image: &ImageId, since: Timestamp) {
        let place = place_of(name);
        let Some(soak) = self.policy.soak else {
            // If waves are declared meanwhile, this one has begun.
            if place == 1 {
                self.begun.insert((image.clone(), since));
            }
            return;
        };
        let excluded = self.object.spec.exclude.clone().unwrap_or_default();
        let counts = |other: &&String| place_of(other) < place && !excluded.contains(other);
        for earlier in self.groups.keys().filter(counts) {
            let shown = self.shown(earlier);
            let is_left = shown.is_some_and(|(status, release)| {
                status == "UPDATING" || release.as_deref() != Some(image.as_str())
            });
            assert!(!is_left, "{name} starts before {earlier} of an earlier wave is moved");
        }
        let soaks = |moved: &&Moved| {
            let in_canary = place_of(&moved.group) == 0 && place > 0;
            in_canary && moved.image == *image && moved.at >= since
        };
        let soaked = |moved: &Moved| between(moved.at, self.now) >= Duration::from_secs(soak);
        assert!(self.moved.iter().filter(soaks).all(soaked), "{name} starts before the soak has passed");
        if place == 1 {
            let key = (image.clone(), since);
            let may_start =
                !self.policy.approval || self.is_approved("prod", image) || self.begun.contains(&key);
            assert!(may_start, "{name} starts without approval");
            self.begun.insert(key);
        }
    }
}

fn place_of(group: &str) -> usize {
    WAVES.iter().position(|(_, groups)| groups.contains(&group)).unwrap_or(WAVES.len())
}
