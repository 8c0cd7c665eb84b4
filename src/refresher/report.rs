//! Turns a plan or the outcome of a step into the result of the reconcile: `summary` states what is to be reported,
//! `status` writes it as the status of the object. Last in the reconcile. A reconcile that changes nothing returns an
//! equal status. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::outcome::Outcome;
use super::plan::PlanInput;
use super::status;
use super::step::{Explanation, Plan};
use super::summary::{self, Summary};
use crate::api::checks::Problem;
use crate::api::conditions::Phase;
use crate::api::reasons;
use crate::api::{AMIRefresher, AMIRefresherStatus};
use crate::engine::{ObjectHealth, Pass};

/// The interval between reconciles of an object that only a commit can fix. The commit triggers a reconcile by itself.
const INVALID_LOOK: Duration = Duration::from_secs(3600);

/// The spec is invalid: reports every problem with its field.
pub fn invalid(object: &AMIRefresher, problems: &[Problem], now: Timestamp) -> Pass<AMIRefresherStatus> {
    let each: Vec<String> = problems.iter().map(|(path, what)| format!("{path}: {what}")).collect();
    let why = Explanation::new(reasons::INVALID_SPEC, each.join("; "));
    unobserved(object, why, Phase::Stalled, ObjectHealth::Stalled, now)
}

/// The namespace may not roll out to this cluster. Nothing was read; updates in progress continue in EKS.
pub fn cluster_not_allowed(
    object: &AMIRefresher,
    message: String,
    now: Timestamp,
) -> Pass<AMIRefresherStatus> {
    let why = Explanation::new(reasons::CLUSTER_NOT_ALLOWED, message);
    unobserved(object, why, Phase::Stalled, ObjectHealth::Stalled, now)
}

/// The object is being deleted: node groups are not changed, and the object can be removed at once.
pub fn deleted(object: &AMIRefresher, now: Timestamp) -> Pass<AMIRefresherStatus> {
    let why =
        Explanation::new(reasons::DELETED, "the refresher is being deleted; its node groups are not changed");
    unobserved(object, why, Phase::NotReady, ObjectHealth::Settled, now)
}

/// A plan without an effect.
pub fn planned(object: &AMIRefresher, input: PlanInput<'_>, plan: Plan) -> Pass<AMIRefresherStatus> {
    status::observed(object, input, summary::of_plan(plan, input.spec.timer))
}

/// A step that was executed or that failed; `why` is the reason of the plan.
pub fn acted(
    object: &AMIRefresher,
    input: PlanInput<'_>,
    why: Explanation,
    outcome: Outcome,
) -> Pass<AMIRefresherStatus> {
    status::observed(object, input, summary::of_outcome(input, why, outcome))
}

fn unobserved(
    object: &AMIRefresher,
    why: Explanation,
    phase: Phase,
    health: ObjectHealth,
    now: Timestamp,
) -> Pass<AMIRefresherStatus> {
    status::unobserved(object, Summary::new(why, phase, health, INVALID_LOOK), now)
}
