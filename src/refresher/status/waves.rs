//! The rows of `status.rollout.waves`: state, times and approval of every wave, and what it waits for. Made from the
//! rows of the node groups, so that both always agree. Pure.

use jiff::Timestamp;

use super::super::memory::{GroupEntry, Rollout};
use super::super::plan::PlanInput;
use super::super::plan::waves::Waves;
use super::super::spec::Wave;
use crate::api::refresher::{NodeGroupStatus, RolloutWave};
use crate::api::words::{GroupState, WaveState};

/// What the rows depend on.
pub(super) struct WaveRows<'a> {
    pub input: PlanInput<'a>,
    pub waves: Waves<'a>,
    pub rollout: &'a Rollout,
    /// The rows of the node groups.
    pub groups: &'a [NodeGroupStatus],
    /// Why no group may start now.
    pub delay: Option<&'a str>,
    /// The rows in the last status, of the same rollout.
    pub before: &'a [RolloutWave],
}

/// The groups of one wave, counted.
#[derive(Clone, Copy, Default)]
struct Count {
    total: usize,
    updated: usize,
    updating: usize,
    failed: usize,
}

impl Count {
    fn left(self) -> bool {
        self.updated < self.total
    }
}

impl WaveRows<'_> {
    /// `None` if the spec has no waves. A rollback ignores them.
    pub fn rows(&self) -> Option<Vec<RolloutWave>> {
        let policy = &self.input.spec.policy;
        if !policy.has_waves() || self.rollout.rollback.is_some() {
            return None;
        }
        let counted: Vec<(&Wave, Count)> = policy.waves.iter().map(|wave| (wave, self.count(wave))).collect();
        let current = counted.iter().position(|(_, count)| count.left());
        let last = counted.iter().rposition(|(_, count)| count.left());
        let row = |(place, (wave, count)): (usize, &(&Wave, Count))| {
            // The last wave has no groups if the others select all.
            let is_shown = count.total > 0 || place + 1 < policy.waves.len();
            is_shown.then(|| {
                self.row(wave, *count, current == Some(place), last.is_some_and(|last| last > place))
            })
        };
        Some(counted.iter().enumerate().filter_map(row).collect())
    }

    fn row(&self, wave: &Wave, count: Count, is_current: bool, has_later: bool) -> RolloutWave {
        let started_at = self.entries(wave).map(|entry| entry.started).min();
        let finished_at =
            self.entries(wave).filter(|entry| entry.is_moved()).filter_map(|entry| entry.finished);
        let finished_at = finished_at.max().filter(|_| !count.left());
        let soak_until = self.waves.soaks_until(wave).filter(|_| !count.left() && has_later);
        let state = self.state(count, is_current, finished_at.is_some(), soak_until);
        let was_approved = || {
            self.before
                .iter()
                .any(|row| row.name == wave.name && row.approved == Some(true) && started_at.is_some())
        };
        let is_approved = || self.input.spec.policy.is_approved(wave, &self.rollout.target) || was_approved();
        RolloutWave {
            name: wave.name.clone(),
            state: Some(state.to_string()),
            reason: self.delay.filter(|_| state == WaveState::Waiting).map(str::to_owned),
            // A rollback needs no approval.
            approved: (wave.needs_approval && self.rollout.rollback.is_none()).then(is_approved),
            updated: i32::try_from(count.updated).ok(),
            total: i32::try_from(count.total).ok(),
            started_at,
            finished_at,
            soak_until,
        }
    }

    fn state(
        &self,
        count: Count,
        is_current: bool,
        has_moved: bool,
        soak_until: Option<Timestamp>,
    ) -> WaveState {
        let is_open = self.rollout.is_open();
        match count {
            _ if !count.left() && !has_moved => WaveState::Skipped,
            _ if !count.left() && is_open && soak_until.is_some_and(|until| self.input.now < until) => {
                WaveState::Soaking
            }
            _ if !count.left() => WaveState::Done,
            Count { failed: 1.., .. } => WaveState::Failed,
            Count { updating: 1.., .. } => WaveState::Updating,
            _ if is_current && is_open && self.delay.is_some() => WaveState::Waiting,
            _ => WaveState::Pending,
        }
    }

    fn count(&self, wave: &Wave) -> Count {
        let of_wave = self.groups.iter().filter(|row| row.wave.as_ref() == Some(&wave.name));
        of_wave.filter_map(|row| GroupState::parse(row.state.as_deref()?)).fold(
            Count::default(),
            |count, state| {
                let one = |is: bool| usize::from(is);
                let counts =
                    !matches!(state, GroupState::Excluded | GroupState::Unsupported | GroupState::Unknown);
                Count {
                    total: count.total + one(counts),
                    updated: count.updated + one(state == GroupState::Current),
                    updating: count.updating + one(state == GroupState::Updating),
                    failed: count.failed + one(state == GroupState::Failed),
                }
            },
        )
    }

    /// The groups of the wave whose move was begun in this rollout.
    fn entries(&self, wave: &Wave) -> impl Iterator<Item = &GroupEntry> {
        let is_of_wave = |entry: &&GroupEntry| entry.wave.as_ref() == Some(&wave.name);
        let since = self.rollout.started;
        self.rollout.groups.values().filter(is_of_wave).filter(move |entry| entry.started >= since)
    }
}
