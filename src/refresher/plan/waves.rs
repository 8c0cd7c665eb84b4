//! Which wave of the rollout is next, and why no group of it may start yet: the soak of an earlier wave, a missing
//! approval, a window or a freeze. Asked by `turn` before a group is selected, and by `start` before anything is done
//! to it. A wave is a fact of the groups as observed, so nothing is lost by a crash; the times of a soak come from the
//! groups that the rollout moved. Pure.
//!
//! A rollback does not ask here: it ignores waves, windows and freezes.

use jiff::Timestamp;

use super::super::fit::{Fit, FitQuery, find_fit};
use super::super::memory::{GroupEntry, Rollout};
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::observed::MissingFact;
use super::super::schedule::{Closed, ClosedBy, closed};
use super::super::spec::{Policy, Wave};
use super::super::step::{Delay, Explanation};
use super::super::survey::{GroupDrift, Survey};
use super::super::target::Target;
use super::PlanInput;
use crate::api::reasons;
use crate::api::time::{after, to_second};

/// The waves of a rollout, or of one that may begin.
#[derive(Clone, Copy)]
pub struct Waves<'a> {
    pub input: PlanInput<'a>,
    pub survey: &'a Survey<'a>,
    pub target: &'a Target,
    /// The rollout in progress, or else the last one.
    pub rollout: Option<&'a Rollout>,
}

impl<'a> Waves<'a> {
    /// The place of the first wave with a group that is left to move, or that is not known to be at rest; `None` if
    /// there is none. In a wave, what needs no further facts is checked first.
    pub fn current(self) -> Result<Option<usize>, MissingFact> {
        let policy = &self.input.spec.policy;
        for place in 0..policy.waves.len() {
            let of_wave =
                || self.survey.groups.iter().filter(move |(group, _)| policy.place_of(group) == place);
            if of_wave().any(|(group, drift)| self.is_known_left(group, drift)) {
                return Ok(Some(place));
            }
            let drifted = of_wave().filter(|(_, drift)| matches!(drift, GroupDrift::Drifted(_)));
            // Without waves, which group of the only one is left makes no difference.
            if !policy.has_waves() {
                return Ok(drifted.count().checked_sub(1).map(|_| place));
            }
            for (group, _) in drifted {
                if self.may_fit(group)? {
                    return Ok(Some(place));
                }
            }
        }
        Ok(None)
    }

    /// A group of an earlier wave that another writer updates does not run the target for certain.
    fn is_known_left(self, group: &NodeGroup, drift: &GroupDrift) -> bool {
        let is_updating = || group.lifecycle == Lifecycle::Updating && self.input.spec.policy.has_waves();
        match drift {
            GroupDrift::Unknown(..) => true,
            GroupDrift::Current if is_updating() => true,
            _ => self.is_moving(group),
        }
    }

    fn is_moving(self, group: &NodeGroup) -> bool {
        let open = self.rollout.filter(|rollout| rollout.is_open());
        open.and_then(|rollout| rollout.groups.get(&group.name)).is_some_and(GroupEntry::is_open)
    }

    fn may_fit(self, group: &NodeGroup) -> Result<bool, MissingFact> {
        let PlanInput { spec, observed, .. } = self.input;
        let batch = self.survey.images_to_read(self.target);
        let fit = find_fit(FitQuery { spec, group, target: self.target, batch: &batch, observed })?;
        Ok(!matches!(fit, Fit::Unfit(_)))
    }

    /// Why no group of this wave may start now; `None` if one may.
    pub fn delay(self, place: usize) -> Option<Delay> {
        self.soak(place)
            .or_else(|| self.approval(place))
            .or_else(|| outside_window(&self.input.spec.policy, self.input.now))
    }

    /// An earlier wave soaks.
    fn soak(self, place: usize) -> Option<Delay> {
        let policy = &self.input.spec.policy;
        let soaking = policy.waves[..place].iter().filter_map(|wave| Some((self.soaks_until(wave)?, wave)));
        let (until, wave) =
            soaking.max_by_key(|(until, _)| *until).filter(|(until, _)| self.input.now < *until)?;
        let mut message = format!("wave {:?} soaks until {until}", wave.name);
        let next = &policy.waves[place];
        if let Some(Delay { why, .. }) = self.approval(place) {
            message.push_str(&format!("; then {}", why.message));
        } else {
            message.push_str(&format!(" before wave {:?} starts", next.name));
        }
        Some(Delay { why: Explanation::new(reasons::SOAKING, message), until: Some(until) })
    }

    /// When the soak of a wave ends; `None` if it has none, or if no group of it was moved to this target.
    pub fn soaks_until(self, wave: &Wave) -> Option<Timestamp> {
        if wave.soak.is_zero() {
            return None;
        }
        let finished = self.rollout?.groups.iter().filter(|(name, entry)| {
            entry.is_moved() && self.target.contains(Some(&entry.image)) && self.is_in(wave, name, entry)
        });
        let last = finished.filter_map(|(_, entry)| entry.finished).max()?;
        // Never earlier than asked for: times in messages and status have no fractions.
        after(to_second(last), wave.soak + std::time::Duration::from_secs(1))
    }

    /// Whether a group that was moved belongs to a wave: by the wave that was recorded then, or by what selects it now.
    fn is_in(self, wave: &Wave, name: &str, entry: &GroupEntry) -> bool {
        let selects =
            |(group, _): (&NodeGroup, &GroupDrift)| self.input.spec.policy.wave_of(group).name == wave.name;
        entry.wave.as_ref() == Some(&wave.name) || self.survey.group(name).is_some_and(selects)
    }

    /// The wave needs an approval that is missing. A wave that has started with this target goes on.
    fn approval(self, place: usize) -> Option<Delay> {
        let policy = &self.input.spec.policy;
        let wave = &policy.waves[place];
        if policy.is_approved(wave, self.target) || self.has_started(wave) {
            return None;
        }
        let (name, target, object) = (&wave.name, self.target, &self.input.spec.key.name);
        let approve: Vec<String> = target.images().iter().map(|image| format!("{name}={image}")).collect();
        // With several images, the command approves all of them.
        let named = match target.images() {
            [image] => format!(" {image}"),
            _ => String::new(),
        };
        let others = policy.approved_for(wave);
        let approved = match others.is_empty() {
            true => String::new(),
            false => format!(" (approved: {})", others.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let message = format!(
            "wave {name:?} waits for approval of {target}{approved}: run `opsy approve ar/{object} {name}{named}`, or set the \
             annotation ami.opsy.dev/approve: {}",
            approve.join(",")
        );
        Some(Delay { why: Explanation::new(reasons::WAITING_FOR_APPROVAL, message), until: None })
    }

    /// Whether an update of a group of the wave has started in this rollout.
    pub fn has_started(self, wave: &Wave) -> bool {
        let Some(rollout) = self.rollout.filter(|rollout| rollout.is_open()) else { return false };
        rollout.groups.values().any(|entry| {
            entry.wave.as_ref() == Some(&wave.name) && entry.started >= rollout.started && entry.is_accepted()
        })
    }
}

/// No window is open, or there is a freeze.
pub fn outside_window(policy: &Policy, now: Timestamp) -> Option<Delay> {
    let Closed { why, opens } = closed(&policy.windows, &policy.freezes, now)?;
    let starts = |opens: Option<Timestamp>| match opens {
        Some(opens) => format!("the next update may start at {opens}"),
        None => "after it, no window opens: correct rollout.windows and rollout.freezes".to_owned(),
    };
    let (reason, message) = match why {
        ClosedBy::Freeze(freeze) => (reasons::FROZEN, format!("frozen {freeze}: {}", starts(opens))),
        ClosedBy::Window { window, at } => {
            let mut message = format!("waits for the window {window}, which opens at {at}");
            if !at.parse::<Timestamp>().is_ok_and(|at| Some(at) == opens) {
                message.push_str(&format!(", during a freeze: {}", starts(opens)));
            }
            (reasons::WAITING_FOR_WINDOW, message)
        }
        ClosedBy::Never => {
            (reasons::WAITING_FOR_WINDOW, "no window opens any more: correct rollout.windows".to_owned())
        }
    };
    Some(Delay { why: Explanation::new(reason, message), until: opens })
}
