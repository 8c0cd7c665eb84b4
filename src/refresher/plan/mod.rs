//! What to do next about a refresher, and why. Pure: everything seen, remembered and the time are
//! arguments; what is missing is asked for as a `Need`.
//!
//! Without a rollout under way `begin` decides whether one is due; `advance` takes one a step
//! further, and `moving` each of its groups; `undone` notices other writers; `versions` knows which launch template versions are ours and which may go.

mod advance;
mod begin;
mod moving;
mod turn;
mod undone;
mod versions;

use std::time::Duration;

use jiff::Timestamp;

use super::memory::{Memory, Rollout};
use super::seen::{Account, Gap, Need, Observed, Ready};
use super::spec::{Paused, Spec};
use crate::api::conditions::SUSPENDED;
use crate::api::refresher::RolloutRecord;
use crate::api::{Class, ClientToken, ImageId, Owner, Seen, TemplateId};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{Disk, TemplateVersion};

/// How often to look at first while a group is updated: people watch in seconds.
const SHORTEST_ROLLING_LOOK: Duration = Duration::from_secs(2);
/// How often later: EKS takes minutes a node, and a large group takes hours.
const ROLLING_LOOK: Duration = Duration::from_secs(20);
/// How long EKS may show a group as it was after its update has succeeded.
const SHOWN_WITHIN: Duration = Duration::from_secs(120);
/// Causes for which a person must act also go away by themselves: look at least this often.
const STALLED_LOOK: Duration = Duration::from_secs(3600);

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All groups run the target.
    Done { said: Said, look: Duration },
    /// Nothing can be done now. `busy`: something is under way that will end by itself.
    Wait { said: Said, look: Duration, busy: bool },
    /// A person must act.
    Stalled { said: Said, look: Duration },
    /// AWS refuses what is left to do; it is tried again then.
    Held { said: Said, look: Duration },
    /// Remember this first; the next pass acts on it. A warning is told once.
    Record { rollout: Rollout, ended: Option<RolloutRecord>, said: Said, warning: Option<Said> },
    /// One effect.
    Act { step: Step, said: Said },
    /// Look at this and plan again.
    Look(Need),
    /// Something could not be read.
    Unknown(Class, String),
}

/// One effect, with all it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Configure {
        ready: Ready,
        group: String,
        max: MaxUnavailable,
        /// The update strategy that is in force.
        strategy: Option<String>,
        token: ClientToken,
    },
    MakeVersion {
        group: String,
        source: TemplateVersion,
        image: ImageId,
        /// All disks, where some would be lost otherwise.
        disks: Vec<Disk>,
        description: String,
        token: ClientToken,
    },
    StartUpdate {
        ready: Ready,
        group: String,
        version: TemplateVersion,
        force: bool,
        token: ClientToken,
    },
    /// Deletes versions nobody needs; `after` is what to remember then.
    PruneVersions {
        group: String,
        template: TemplateId,
        versions: Vec<i64>,
        after: Rollout,
    },
}

/// Why: a word for machines, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub reason: &'static str,
    pub message: String,
}

/// Everything a plan decides by.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub spec: &'a Spec,
    pub owner: &'a Owner,
    pub memory: &'a Memory,
    pub seen: &'a Observed,
    pub now: Timestamp,
    /// Somebody asks to try again what failed.
    pub asked: bool,
}

/// Decides.
pub fn plan(case: Case<'_>) -> Plan {
    match decide(case) {
        Ok(plan) => plan,
        Err(Gap::Look(need)) => Plan::Look(need),
        Err(Gap::Unknown(class, why)) => Plan::Unknown(class, why),
    }
}

fn decide(case: Case<'_>) -> Result<Plan, Gap> {
    if let Some(plan) = forbidden(case)? {
        return Ok(plan);
    }
    if let Seen::Unknown(Class::NotFound, _) = &case.seen.groups {
        let words = format!("there is no EKS cluster {} in {}", case.spec.cluster, case.spec.region);
        return Ok(case.stalled("ClusterNotFound", words));
    }
    match &case.memory.rollout {
        Some(rollout) if rollout.open() => advance::advance(case, rollout),
        _ => begin::begin(case),
    }
}

fn forbidden(case: Case<'_>) -> Result<Option<Plan>, Gap> {
    match &case.seen.account {
        Seen::Is(Account::Allowed) => Ok(None),
        Seen::Is(Account::NotSynced) => {
            Ok(Some(case.busy(said("WaitingForRepository", "opsy.yaml was not read yet"))))
        }
        Seen::Is(Account::Other { account, allowed }) => {
            let words =
                format!("account {account} is not among accounts in opsy.yaml ({})", allowed.join(", "));
            Ok(Some(case.stalled("AccountNotAllowed", words)))
        }
        Seen::Unknown(class, why) => Err(Gap::Unknown(*class, why.clone())),
    }
}

impl Case<'_> {
    fn stalled(&self, reason: &'static str, message: String) -> Plan {
        Plan::Stalled { said: said(reason, message), look: self.spec.timer.min(STALLED_LOOK) }
    }

    /// Nothing to do until somebody changes something.
    fn idle(&self, said: Said) -> Plan {
        Plan::Wait { said, look: self.spec.timer, busy: false }
    }

    /// Something is under way.
    fn busy(&self, said: Said) -> Plan {
        Plan::Wait { said, look: self.rolling(), busy: true }
    }

    /// When to look again while something is under way: soon after it began, then ever more rarely, so
    /// that a small group is not waited for long and a large one not asked about all the time.
    pub fn rolling(&self) -> Duration {
        let begun =
            self.memory.rollout.iter().flat_map(|rollout| rollout.moving()).map(|(_, entry)| entry.started);
        let age = begun.max().map_or(0, |begun| self.now.duration_since(begun).as_secs());
        let age = Duration::from_secs(u64::try_from(age).unwrap_or(0));
        (age / 4).clamp(SHORTEST_ROLLING_LOOK, ROLLING_LOOK).min(self.spec.timer)
    }
}

/// Remembers a rollout.
fn recorded(rollout: Rollout, words: String) -> Plan {
    Plan::Record { rollout, ended: None, said: said("RollingOut", words), warning: None }
}

fn said(reason: &'static str, message: impl Into<String>) -> Said {
    Said { reason, message: message.into() }
}

fn paused_said(paused: &Paused, drifted: usize) -> Said {
    let drift = format!("{} not on the target", groups(drifted));
    match paused {
        Paused::Suspended => said(SUSPENDED, format!("{drift}, nothing is changed")),
        Paused::NotInGit => {
            said("NotInGit", format!("its manifest is gone from Git: {drift}, nothing is changed"))
        }
        Paused::ManifestBroken { file } => {
            said("ManifestBroken", format!("its manifest in {file} is broken: {drift}, nothing is changed"))
        }
        Paused::Disabled => {
            said("Disabled", format!("refreshConfig.enable is false: {drift}, nothing is changed"))
        }
    }
}

fn groups(count: usize) -> String {
    if count == 1 { "1 node group".to_owned() } else { format!("{count} node groups") }
}
