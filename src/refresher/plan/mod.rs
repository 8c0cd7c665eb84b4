//! Decides what to do next about a refresher, and why. Everything observed and remembered, and the time, are arguments;
//! a fact that was not read yet is requested by `Plan::Read`. Pure.
//!
//! The rollout decides when, in which order and which group: `begin` starts one, `rollout` continues it, `turn` selects
//! the next group, `waves` decides whether it may start now, `undone` detects other writers, `end` ends it, and
//! `rollback` undoes one that failed. How a group is moved depends on its kind: `group_move` and `start` contain what all
//! kinds share, `kinds` selects the file of the kind, `managed` moves EKS managed node groups, `self_managed` Auto Scaling
//! groups (`pin`, `refresh`). `new_version` selects or creates the launch template version of a move; `versions` recognizes
//! and prunes those of this refresher.
//!
//! What the nodes of a group tell, if they are nodes of the cluster in which the agent runs: `admission` whether it may
//! start, `preflight` what is reported before that, `stuck` what holds its update up, `node_gate` whether its nodes are
//! ready afterwards. `drain` is what they share. `soak_checks` are the checks of a wave that soaks.
//!
//! A rule about when a group may start belongs in `waves`. Another kind of node group is a variant of `GroupKind` with a
//! file beside `managed`, and an arm in `kinds`.

mod admission;
mod begin;
pub mod drain;
mod end;
mod finish;
mod group_move;
mod kinds;
mod managed;
mod new_version;
mod node_gate;
mod pin;
mod preflight;
mod refresh;
mod rollback;
mod rollout;
mod self_managed;
mod soak_checks;
mod start;
mod stuck;
mod turn;
mod undone;
mod versions;
pub mod waves;

use std::time::Duration;

use jiff::Timestamp;

pub use end::newer_target;

use super::choose;
use super::memory::{Memory, Rollout};
use super::observed::{Account, MissingFact, Observed};
use super::spec::{Paused, Source, Spec};
use super::step::{Delay, Explanation, Plan};
use super::target::Target;
use crate::api::conditions::SUSPENDED;
use crate::api::reasons;
use crate::api::time::between;
use crate::api::{Class, ImageId, Owner, Seen};

/// The first interval between reconciles while a group is updated: people watch it in seconds.
const SHORTEST_ROLLOUT_LOOK: Duration = Duration::from_secs(2);
/// The longest one: EKS takes minutes per node, and hours for a large group.
const LONGEST_ROLLOUT_LOOK: Duration = Duration::from_secs(20);
/// A stalled refresher is still observed at least this often: causes also disappear by themselves.
const STALLED_LOOK: Duration = Duration::from_secs(3600);

/// Everything that a plan decides by.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    pub spec: &'a Spec,
    pub owner: &'a Owner,
    pub memory: &'a Memory,
    pub observed: &'a Observed,
    pub now: Timestamp,
    /// A person requested to retry what failed.
    pub retry_requested: bool,
    /// The images that a person requested to roll out again although they failed.
    pub retried: Option<&'a Target>,
}

pub fn plan(input: PlanInput<'_>) -> Plan {
    match decide(input) {
        Ok(plan) => plan,
        Err(MissingFact::NotRead(need)) => Plan::Read(need),
        Err(MissingFact::Unreadable(class, why)) => Plan::Unknown(class, why),
    }
}

/// Whether the plan for this input could look at the annotation that requests a retry, so that it acted on it or found
/// it to have no effect. Otherwise, the request stays.
pub fn considers_retry(input: PlanInput<'_>) -> bool {
    let is_allowed = matches!(input.observed.account, Seen::Is(Account::Allowed));
    let mut images = input.retried.iter().flat_map(|target| target.images());
    let is_decided = images.all(|image| rollback::knows_what_holds(input, image));
    let is_released = || rollback::release(input).is_some();
    is_allowed && is_decided && (input.observed.groups.known().is_some() || is_released())
}

fn decide(input: PlanInput<'_>) -> Result<Plan, MissingFact> {
    if let Some(plan) = check_account(input)? {
        return Ok(plan);
    }
    if let Seen::Unknown(Class::NotFound, _) = &input.observed.groups {
        let (cluster, region) = (&input.spec.cluster, &input.spec.region);
        let message = format!("EKS cluster {cluster} does not exist in {region}");
        return Ok(input.stalled(Explanation::new(reasons::CLUSTER_NOT_FOUND, message)));
    }
    if let Some(plan) = rollback::release(input) {
        return Ok(plan);
    }
    match &input.memory.rollout {
        Some(rollout) if rollout.is_open() => rollout::advance(input, rollout),
        _ => begin::begin(input),
    }
}

/// The plan if this account must not be touched.
fn check_account(input: PlanInput<'_>) -> Result<Option<Plan>, MissingFact> {
    match &input.observed.account {
        Seen::Is(Account::Allowed) => Ok(None),
        Seen::Is(Account::NotSynced) => {
            let why =
                Explanation::new(reasons::WAITING_FOR_REPOSITORY, "waiting for the first read of opsy.yaml");
            Ok(Some(input.busy(why)))
        }
        Seen::Is(Account::Other { account, allowed }) => {
            let message = format!(
                "the credentials are for account {account}, which accounts in opsy.yaml does not list ({})",
                allowed.join(", ")
            );
            Ok(Some(input.stalled(Explanation::new(reasons::ACCOUNT_NOT_ALLOWED, message))))
        }
        Seen::Unknown(class, why) => Err(MissingFact::Unreadable(*class, why.clone())),
    }
}

impl PlanInput<'_> {
    /// The images on which groups stay although another one is the target, because they are held.
    pub fn kept(&self) -> Vec<ImageId> {
        let is_rollback = self
            .memory
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.is_open() && rollout.rollback.is_some());
        let images = self.observed.source_images.known().filter(|_| !is_rollback);
        images
            .map(|images| choose::kept(self.spec, self.memory, images, self.owner, self.now))
            .unwrap_or_default()
    }

    /// A person names another image in `ami` than the rollout moves groups to.
    fn names_another_image(&self, rollout: &Rollout) -> bool {
        matches!(&self.spec.source, Source::Image(image) if !rollout.expects(image))
    }

    fn stalled(&self, why: Explanation) -> Plan {
        Plan::Stalled { why, look: self.spec.timer.min(STALLED_LOOK) }
    }

    /// Nothing to do until something changes.
    fn idle(&self, why: Explanation) -> Plan {
        Plan::Wait { why, look: self.spec.timer, busy: false }
    }

    /// Something is left to do, and may not start yet. The reconcile comes when it may, or earlier.
    fn delayed(&self, delay: Delay) -> Plan {
        let rest = delay.until.map(|until| between(self.now, until));
        // Whole seconds, so that the next reconcile is never too early.
        let look = rest.map_or(self.spec.timer, |rest| Duration::from_secs(rest.as_secs() + 1));
        Plan::Wait { why: delay.why, look: look.min(self.spec.timer), busy: false }
    }

    /// Something is in progress.
    fn busy(&self, why: Explanation) -> Plan {
        Plan::Wait { why, look: self.rollout_look(), busy: true }
    }

    /// The time until the next reconcile while something is in progress: short at first, then a quarter of the time
    /// since the last move began, so that a small group is not delayed and a large one does not consume API quota.
    pub fn rollout_look(&self) -> Duration {
        let moving = self.memory.rollout.iter().flat_map(|rollout| rollout.moving());
        let started = moving.map(|(_, entry)| entry.started).max();
        let age = started.map_or(0, |started| self.now.duration_since(started).as_secs());
        let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
        (age / 4).clamp(SHORTEST_ROLLOUT_LOOK, LONGEST_ROLLOUT_LOOK).min(self.spec.timer)
    }
}

/// The plan that records a change of the rollout in progress.
fn record(rollout: Rollout, message: String) -> Plan {
    let why = Explanation::new(reasons::ROLLING_OUT, message);
    Plan::Record { rollout, ended: None, why, warning: None }
}

pub(super) fn explain_pause(paused: &Paused, drifted: usize) -> Explanation {
    let drift = format!("{} not on the target image, nothing is changed", node_groups(drifted));
    match paused {
        Paused::Suspended => Explanation::new(SUSPENDED, drift),
        Paused::NotInGit => {
            Explanation::new(reasons::NOT_IN_GIT, format!("its manifest was removed from Git: {drift}"))
        }
        Paused::ManifestBroken { file } => Explanation::new(
            reasons::MANIFEST_BROKEN,
            format!("its manifest in {file} is invalid, fix it in Git: {drift}"),
        ),
        Paused::Disabled => {
            Explanation::new(reasons::DISABLED, format!("refreshConfig.enable is false: {drift}"))
        }
    }
}

pub(super) fn node_groups(count: usize) -> String {
    if count == 1 { "1 node group".to_owned() } else { format!("{count} node groups") }
}
