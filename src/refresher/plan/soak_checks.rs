//! The checks of `rollout.healthCheck` while a wave soaks: they must stay good, and be good once more right before the
//! next wave starts. Failures are counted in the memory of the rollout; one too many fails the rollout. Asked by `rollout`
//! before the next group is selected. Pure.
//!
//! A good result is not recorded: after a crash, the checks are simply evaluated again. A failure is, with its time, so
//! that a check fails at most once per interval, however often the object is reconciled.

use jiff::Timestamp;

use super::super::check_failures::Failures;
use super::super::memory::Rollout;
use super::super::observed::MissingFact;
use super::super::spec::SoakCheck;
use super::super::step::{Delay, Explanation, Plan};
use super::super::survey::Survey;
use super::PlanInput;
use super::waves::Waves;
use crate::api::reasons;
use crate::api::time::{after, between};

pub enum Checked {
    /// Nothing is checked now, or everything is good; then the next evaluation is due at this time, if a wave soaks.
    Good { again: Option<Timestamp> },
    /// A check failed.
    Failed(Box<Plan>),
    /// The soak has passed, and a check must be good before the next wave starts.
    Delay(Delay),
}

pub fn check(input: PlanInput<'_>, rollout: &Rollout, survey: &Survey<'_>) -> Result<Checked, MissingFact> {
    let health = &input.spec.policy.health;
    let Some((wave, until)) = soaking(input, rollout, survey)? else {
        return Ok(Checked::Good { again: None });
    };
    let failures_of =
        |check: &SoakCheck| rollout.check_failures.get(&check.name).filter(|failures| failures.wave == wave);
    let is_due = |check: &&SoakCheck| {
        failures_of(check).is_none_or(|failures| between(failures.last, input.now) >= health.interval)
    };
    let (due, failed): (Vec<&SoakCheck>, Vec<&SoakCheck>) = health.checks.iter().partition(is_due);
    let verdicts = input.observed.verdicts(&due)?;
    let bad = due.iter().zip(verdicts).find(|(_, verdict)| !verdict.is_good);
    if let Some((check, verdict)) = bad {
        let count = failures_of(check).map_or(0, |failures| failures.count) + 1;
        let response = verdict.response.clone();
        let failures = Failures { wave, count, last: input.now, response };
        return Ok(Checked::Failed(Box::new(record(input, rollout, check, failures))));
    }
    let last = failed.iter().filter_map(|check| Some((*check, failures_of(check)?))).next();
    let again = after(input.now, health.interval);
    Ok(match last.filter(|_| until <= input.now) {
        Some((check, failures)) => {
            let message = format!(
                "wave {wave:?} soaks until check {:?} is good again: {}",
                check.name, failures.response
            );
            let until = after(failures.last, health.interval);
            Checked::Delay(Delay { why: Explanation::new(reasons::SOAKING, message), until })
        }
        None => Checked::Good { again },
    })
}

/// The wave that soaks, or has soaked and whose successor may start now, and when its soak ends.
fn soaking(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
) -> Result<Option<(String, Timestamp)>, MissingFact> {
    let policy = &input.spec.policy;
    if policy.health.checks.is_empty() {
        return Ok(None);
    }
    let waves = Waves { input, survey, target: &rollout.target, rollout: Some(rollout) };
    let Some(place) = waves.current()? else { return Ok(None) };
    if waves.has_started(&policy.waves[place]) {
        return Ok(None);
    }
    // An approval or a window holds the next wave: it is checked when that has passed.
    if waves.delay(place).is_some_and(|delay| delay.why.reason != reasons::SOAKING) {
        return Ok(None);
    }
    let soaks =
        policy.waves[..place].iter().filter_map(|wave| Some((wave.name.clone(), waves.soaks_until(wave)?)));
    Ok(soaks.max_by_key(|(_, until)| *until))
}

/// Records a failure; one too many is that of the rollout.
fn record(input: PlanInput<'_>, rollout: &Rollout, check: &SoakCheck, failures: Failures) -> Plan {
    let threshold = input.spec.policy.health.failure_threshold;
    let Failures { wave, count, response, .. } = &failures;
    let what = format!("check {:?} failed while wave {wave:?} soaks: {response}", check.name);
    let mut changed = rollout.clone();
    let message = match *count > threshold {
        true => {
            let why = format!("{what} (failed {count} times, failureThreshold is {threshold})");
            changed.failure = Some(why.clone());
            why
        }
        false => format!("{what} ({count} of {threshold} failures that are allowed)"),
    };
    changed.check_failures.insert(check.name.clone(), failures);
    let why = Explanation::new(reasons::ROLLING_OUT, what);
    let warning = Some(Explanation::new(reasons::CHECK_FAILED, message));
    Plan::Record { rollout: changed, ended: None, why, warning }
}
